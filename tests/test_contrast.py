"""Each loss against a slow, obvious computation; two processes against one."""

import pytest
import torch
from torch import nn

from xrayssl.contrast import cosines, info_nce, nt_xent, variance_hinge


def units(*shape, seed=0):
    return nn.functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def slow_nt_xent(one, two, temperature):
    """Chen et al. 2020, equation 1, a film and a sum at a time, in double precision."""
    view, terms, right = [*one.double(), *two.double()], [], []
    for i, own in enumerate(view):
        partner = (i + len(one)) % len(view)
        like = {k: (torch.dot(own, other) / temperature).exp() for k, other in enumerate(view) if k != i}
        terms.append(-(like[partner] / sum(like.values())).log())
        right.append(max(like, key=like.get) == partner)
    return torch.stack(terms).mean(), sum(right) / len(right)


def test_nt_xent_is_that_of_a_slow_recomputation():
    one, two = units(5, 8), units(5, 8, seed=1)
    loss, accuracy = nt_xent(one, two, 0.3)
    slow_loss, slow_accuracy = slow_nt_xent(one, two, 0.3)
    assert (loss.item(), accuracy.item()) == pytest.approx((slow_loss.item(), slow_accuracy), rel=1e-5)


def test_info_nce_is_that_of_a_slow_recomputation():
    query, key, bank, terms = units(4, 8), units(4, 8, seed=1), units(9, 8, seed=2), []
    for q, k in zip(query.double(), key.double(), strict=True):
        others = sum((torch.dot(q, b) / 0.2).exp() for b in bank.double())
        own = (torch.dot(q, k) / 0.2).exp()
        terms.append(-(own / (own + others)).log())
    assert info_nce(query, key, bank, 0.2)[0].item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-5)


def test_embeddings_of_the_bank_that_are_kept_apart_do_not_count():
    query, key, bank = units(2, 8), units(2, 8, seed=1), units(5, 8, seed=2)
    apart = torch.tensor([[False, False, False, True, True]]).expand(2, 5)
    assert torch.equal(info_nce(query, key, bank, 0.2, apart)[0], info_nce(query, key, bank[:3], 0.2)[0])
    assert not torch.equal(info_nce(query, key, bank, 0.2)[0], info_nce(query, key, bank[:3], 0.2)[0])


def test_films_whose_views_agree_and_differ_from_the_others_are_all_picked():
    one = torch.eye(4)
    assert nt_xent(one, one, 0.1)[1] == info_nce(one, one, -one, 0.1)[1] == 1
    assert nt_xent(one, one.roll(1, 0), 0.1)[1] < 1


def test_the_variance_hinge_is_equation_1_of_vicreg():
    embedding = torch.randn(6, 5) * torch.tensor([0.1, 0.5, 1.0, 2.0, 4.0])
    terms = [max(0.0, 1 - (column.var(correction=1).item() + 1e-4) ** 0.5) for column in embedding.double().T]
    assert variance_hinge(embedding).item() == pytest.approx(sum(terms) / 5, rel=1e-4)


def test_embeddings_in_one_point_are_pushed_apart_and_spread_ones_are_left_alone():
    collapsed = (torch.ones(8, 4) + 1e-3 * torch.randn(8, 4)).requires_grad_()
    loss = variance_hinge(collapsed)
    loss.backward()
    assert loss.item() == pytest.approx(0.99, abs=0.01)
    moved = (collapsed - 0.1 * collapsed.grad).var(dim=0)
    assert (moved > collapsed.var(dim=0)).all()
    assert variance_hinge(10 * torch.randn(64, 4)).item() == 0


def test_a_single_film_such_as_a_last_batch_has_is_no_collapse():
    assert variance_hinge(torch.ones(1, 4)) == 0


def test_embeddings_spread_evenly_over_the_sphere_satisfy_the_hinge_when_scaled_as_it_says():
    spread = units(4096, 16)
    assert variance_hinge(16**0.5 * spread).item() < 0.02
    assert variance_hinge(spread).item() > 0.7


def test_cosines_keep_their_precision_under_autocast():
    one, two = units(4, 64), units(5, 64, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        kept, lost = cosines(one, two), one @ two.T
    assert torch.equal(kept, one @ two.T)
    assert not torch.allclose(lost.float(), kept, atol=1e-4)


def _part(rank, folder, one, two):
    """One of two processes with half of the films: losses and gradients to a file."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    share = slice(0, 4) if rank == 0 else slice(4, 8)
    found = {}
    for name, loss in (("nt_xent", nt_xent), ("hinge", lambda a, b, _: (variance_hinge(a) + variance_hinge(b), None))):
        parts = [view[share].clone().requires_grad_() for view in (one, two)]
        value = loss(*parts, 0.3)[0]
        value.backward()
        found[name] = (value.detach(), *[part.grad for part in parts])
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process with threads
def test_two_processes_have_the_loss_and_gradient_of_one_on_the_joined_batch(tmp_path):
    one, two = units(8, 6), units(8, 6, seed=1)
    torch.multiprocessing.start_processes(_part, (str(tmp_path), one, two), nprocs=2, start_method="fork")
    halves = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    losses = {"nt_xent": nt_xent(*(whole := [one.clone().requires_grad_(), two.clone().requires_grad_()]), 0.3)[0]}
    losses["nt_xent"].backward()
    wide = [one.clone().requires_grad_(), two.clone().requires_grad_()]
    losses["hinge"] = variance_hinge(wide[0]) + variance_hinge(wide[1])
    losses["hinge"].backward()
    for name, views in (("nt_xent", whole), ("hinge", wide)):
        assert torch.allclose((halves[0][name][0] + halves[1][name][0]) / 2, losses[name], atol=1e-6)
        for number, view in enumerate(views, 1):  # DDP takes the mean of the processes' gradients
            joined = torch.cat([half[name][number] for half in halves]) / 2
            assert torch.allclose(joined, view.grad, atol=1e-6)
