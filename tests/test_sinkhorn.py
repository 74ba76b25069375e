"""Sinkhorn and Knopp's codes against a slow computation in double precision."""

import numpy as np
import pytest
import torch

from xrayssl.sinkhorn import sinkhorn


def slow(score, epsilon, iterations):
    """Caron et al. 2020, section 3.1, as it is written: a matrix of exponentials, sums, divisions."""
    code = np.exp(score.double().numpy() / epsilon)
    films, prototypes = code.shape
    for _ in range(iterations):
        for k in range(prototypes):
            code[:, k] /= code[:, k].sum() * prototypes
        for b in range(films):
            code[b] /= code[b].sum() * films
    return torch.from_numpy(code * films)


def cosines(films, prototypes, seed=0):
    return torch.rand(films, prototypes, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("epsilon", [0.05, 0.5])
@pytest.mark.parametrize("iterations", [1, 3])
def test_codes_are_those_of_a_slow_computation(epsilon, iterations):
    score = cosines(12, 5)
    expected = slow(score, epsilon, iterations)
    assert torch.allclose(sinkhorn(score, epsilon, iterations).double(), expected, atol=1e-5)


def test_every_film_has_a_share_of_1_and_prototypes_come_to_be_used_alike():
    score = cosines(64, 8) + torch.linspace(-0.5, 0.5, 8)  # the last prototype is everyone's favourite
    code = sinkhorn(score, iterations=100)
    assert torch.allclose(code.sum(dim=1), torch.ones(64), atol=1e-5)
    assert torch.allclose(code.sum(dim=0), torch.full((8,), 8.0), atol=1e-2)
    assert (sinkhorn(score, iterations=1).sum(dim=0) - 8).abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_neither_overflows_nor_loses_the_codes(dtype):
    score = cosines(16, 6).to(dtype)
    score[0] = 1.0
    assert torch.exp(score / 0.05).isinf().any() or dtype == torch.bfloat16  # what float16 would have come to
    assert torch.allclose(sinkhorn(score).double(), slow(score, 0.05, 3), atol=1e-5)


def test_a_very_sharp_epsilon_gives_numbers_where_exponentials_would_not():
    score = cosines(16, 6)
    code = sinkhorn(score, epsilon=0.001)
    assert not torch.exp(score / 0.001).isfinite().all()
    assert torch.allclose(code.sum(dim=1), torch.ones(16), atol=1e-4)


def test_films_that_are_all_alike_are_shared_out_evenly():
    assert torch.allclose(sinkhorn(cosines(1, 7).expand(9, 7)), torch.full((9, 7), 1 / 7), atol=1e-5)


def test_codes_are_no_way_for_gradients():
    assert not sinkhorn(cosines(4, 3).requires_grad_()).requires_grad


def _part(rank, folder, score):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(sinkhorn(score[:7] if rank == 0 else score[7:]), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process with threads
def test_two_processes_with_unequal_parts_give_the_codes_of_one(tmp_path):
    score = cosines(12, 5)
    torch.multiprocessing.start_processes(_part, (str(tmp_path), score), nprocs=2, start_method="fork")
    parts = torch.cat([torch.load(tmp_path / f"{rank}.pt") for rank in range(2)])
    assert torch.allclose(parts, sinkhorn(score), atol=1e-6)
    assert not torch.allclose(sinkhorn(score[:7]), sinkhorn(score)[:7], atol=1e-2)  # alone they would differ
