import logging
import math
from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from xrayssl.data.augment import Small
from xrayssl.errors import UserError
from xrayssl.methods import SwAV
from xrayssl.optim import Optim

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu",
         "use_distributed_sampler": False, "enable_checkpointing": False, "num_sanity_val_steps": 0}  # fmt: skip
NETWORKS = ["vit_tiny_patch16_224", "resnet18"]


def swav(backbone="vit_tiny_patch16_224", **kwargs):
    torch.manual_seed(1)
    options = {
        "prototypes": 5,
        "hidden": 32,
        "embedding": 8,
        "epsilon": 0.05,
        "optim": Optim(warmup_epochs=0),
        **kwargs,
    }
    return SwAV(backbone=backbone, img_size=32, **options)


def films(count=4, small=2, seed=0):
    """A batch of normalised views, two large and some small."""
    torch.manual_seed(seed)
    views = [torch.randn(count, 1, 32, 32) for _ in range(2)] + [torch.randn(count, 1, 16, 16) for _ in range(small)]
    return {"image": views[0], "views": views}


def slow_codes(score):
    """Caron et al. 2020, section 3.1, with the exponentials as they are."""
    code = (score.double() / 0.05).exp()
    for _ in range(3):
        code = code / code.sum(dim=0, keepdim=True)
        code = code / code.sum(dim=1, keepdim=True)
    return code


def slow_loss(method, views, waiting=()):
    """A pair of views and a film at a time; `waiting` are the embeddings in the two queues."""
    prototypes = torch.stack([one / one.norm() for one in method.prototype_KE.double()])
    units, terms = [], []
    for view in views:  # a film at a time: nothing of a batch but the codes may matter
        pooled = torch.cat([method.backbone(film[None]).mean(dim=(2, 3)) for film in view])
        units.append(nn.functional.normalize(method.head(pooled).double()))
    scores = [torch.stack([torch.stack([film @ one for one in prototypes]) for film in unit]) for unit in units]
    for number in range(2):
        beside = [waiting[number].double() @ prototypes.T] if waiting else []
        code = slow_codes(torch.cat([scores[number], *beside]).detach())
        for other in range(len(views)):
            for b in range(len(views[0])) if other != number else ():
                chance = (scores[other][b] / 0.1).exp() / (scores[other][b] / 0.1).exp().sum()
                terms.append(-(code[b] * chance.log()).sum())
    return torch.stack(terms).mean()


def in_epoch(monkeypatch, epoch):
    monkeypatch.setattr(SwAV, "current_epoch", epoch)


@pytest.mark.parametrize("small", [0, 2])
@pytest.mark.parametrize("backbone", NETWORKS)
def test_the_loss_and_its_gradient_are_those_of_a_slow_recomputation(backbone, small):
    method, batch = swav(backbone).eval(), films(small=small)
    found, expected = method.losses(batch)["loss"], slow_loss(method, batch["views"])
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    found.backward()
    grads = [parameter.grad.clone() for parameter in (method.prototype_KE, method.head[0].weight)]
    method.zero_grad()
    expected.backward()
    for grad, parameter in zip(grads, (method.prototype_KE, method.head[0].weight), strict=True):
        assert torch.allclose(grad, parameter.grad, atol=1e-4, rtol=1e-3)


def test_the_length_of_a_prototype_does_not_matter():
    method, batch = swav().eval(), films()
    before = method.losses(batch)["loss"].item()
    method.prototype_KE.data *= torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])[:, None]
    assert method.losses(batch)["loss"].item() == pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize("queued", [False, True])
def test_a_full_queue_is_shared_out_with_the_batch_where_it_is_used(queued):
    method, batch = swav(queue=6).eval(), films()
    method.queued.fill_(queued)
    waiting = [nn.functional.normalize(torch.randn(6, 8)) for _ in range(2)]
    for bank, embeddings in zip(method.queues, waiting, strict=True):
        bank.enqueue(embeddings)
    alone, together = (slow_loss(method, batch["views"], beside).item() for beside in ((), waiting))
    assert together != pytest.approx(alone, rel=1e-3)
    assert method.losses(batch)["loss"].item() == pytest.approx(together if queued else alone, rel=1e-4)


@pytest.mark.parametrize(("epoch", "queued"), [(0, False), (1, True)])
def test_the_queue_is_used_after_some_epochs(epoch, queued, monkeypatch):
    method = swav(queue=6, queue_after=1).train()
    in_epoch(monkeypatch, epoch)
    method.losses(films())
    assert bool(method.queued) is queued


def test_the_weights_alone_are_validated_as_in_their_training(shoulder, tmp_path):
    shoulder.augment = replace(shoulder.augment, views=2)
    method = swav(queue=6, queue_after=1)
    trainer = Trainer(default_root_dir=str(tmp_path), max_epochs=2, **QUIET)
    trainer.fit(method, datamodule=shoulder)
    again = swav(queue=6, queue_after=1)
    again.load_state_dict(method.state_dict())
    (found,) = Trainer(default_root_dir=str(tmp_path), **QUIET).validate(again, datamodule=shoulder, verbose=False)
    assert method.queued
    assert found["val/loss"] == pytest.approx(trainer.callback_metrics["val/loss"].item(), rel=1e-5)


def test_a_queue_that_is_not_full_yet_is_not_used():
    method, batch = swav(queue=6).eval(), films()
    method.queued.fill_(True)
    for bank in method.queues:
        bank.enqueue(nn.functional.normalize(torch.randn(5, 8)))
    assert method.losses(batch)["loss"].item() == pytest.approx(slow_loss(method, batch["views"]).item(), rel=1e-4)


def test_each_queue_gets_the_embeddings_of_its_view_in_training():
    method, batch = swav(queue=4).train(), films()
    units = method.embed(batch["views"])
    method.losses(batch)
    for number in range(2):
        assert torch.allclose(method.queues[number].embedding_NE, units[number], atol=1e-6)


def test_validation_changes_nothing(shoulder):
    shoulder.augment = replace(shoulder.augment, views=2)
    method = swav("resnet18", queue=6, queue_after=0)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    Trainer(**QUIET).validate(method, datamodule=shoulder, verbose=False)
    assert all(torch.equal(before[name], value) for name, value in method.state_dict().items())


@pytest.mark.parametrize("freeze", [0, 1])
def test_prototypes_stay_in_the_first_epoch_and_the_rest_moves(freeze, shoulder, tmp_path):
    shoulder.augment = replace(shoulder.augment, views=2)
    method = swav(freeze=freeze)
    before = {name: value.clone() for name, value in method.named_parameters()}
    Trainer(default_root_dir=tmp_path, max_epochs=1, limit_val_batches=0, **QUIET).fit(method, datamodule=shoulder)
    assert torch.equal(before["prototype_KE"], method.prototype_KE) == (freeze == 1)
    assert not torch.equal(before["head.0.weight"], method.head[0].weight)


def test_prototypes_move_after_the_first_epoch(shoulder, tmp_path):
    shoulder.augment = replace(shoulder.augment, views=2)
    method = swav()
    before = method.prototype_KE.detach().clone()
    Trainer(default_root_dir=tmp_path, max_epochs=2, limit_val_batches=0, **QUIET).fit(method, datamodule=shoulder)
    assert not torch.equal(before, method.prototype_KE)


def test_the_hinge_is_added_with_its_weight():
    plain, held, batch = swav().eval(), swav(variance=0.5).eval(), films()
    found = held.losses(batch)
    units = [math.sqrt(8) * unit for unit in held.embed(batch["views"])[:2]]
    deviations = torch.stack([(unit.var(dim=0) + 1e-4).sqrt() for unit in units])
    hinge = (1 - deviations).clamp(min=0).mean().item()
    assert found["variance"].item() == pytest.approx(hinge, rel=1e-4)
    assert found["loss"].item() == pytest.approx(plain.losses(batch)["loss"].item() + 0.5 * hinge, rel=1e-4)


def test_validation_counts_the_prototypes_that_are_the_nearest_of_a_film(shoulder, tmp_path):
    shoulder.augment = replace(shoulder.augment, views=2)
    method = swav(prototypes=40).eval()
    with torch.no_grad():
        method.prototype_KE[2:] = -method.embed([torch.randn(1, 1, 32, 32)])[0]  # opposite to what this network gives
    trainer = Trainer(default_root_dir=tmp_path, **QUIET)
    trainer.validate(method, datamodule=shoulder, verbose=False)
    films = len(shoulder.manifest.rows("val"))
    assert method.used_K.sum() == films
    assert trainer.callback_metrics["val/prototypes_used"] == (method.used_K > 0).sum()
    share = method.used_K[method.used_K > 0] / films
    expected = math.exp(-(share * share.log()).sum())
    assert trainer.callback_metrics["val/perplexity"].item() == pytest.approx(expected, rel=1e-5)


def test_films_in_one_view_are_refused_with_the_key_to_set(shoulder, tmp_path):
    with pytest.raises(UserError, match=r"--data\.augment\.views 2"):
        Trainer(default_root_dir=tmp_path, max_epochs=1, **QUIET).fit(swav(), datamodule=shoulder)
    with pytest.raises(UserError, match=r"--data\.augment\.views 2"):
        swav().losses({"image": torch.randn(2, 1, 32, 32)})


def test_small_crops_beside_one_view_are_no_second_view(shoulder, tmp_path):
    shoulder.augment = replace(shoulder.augment, small=Small(count=2, size=16))
    with pytest.raises(UserError, match=r"--data\.augment\.views 2"):
        Trainer(default_root_dir=tmp_path, max_epochs=1, **QUIET).fit(swav(), datamodule=shoulder)
    batch = films()
    with pytest.raises(UserError, match=r"--data\.augment\.views 2"):
        swav().losses({**batch, "views": batch["views"][1:]})


def test_small_crops_that_patches_do_not_divide_are_refused():
    batch = films(small=0)
    batch["views"].append(torch.randn(4, 1, 20, 20))
    with pytest.raises(UserError, match="Small crops of 20 x 20 px"):
        swav().losses(batch)


def test_all_wrong_numbers_are_named_at_once():
    with pytest.raises(UserError) as caught:
        swav(prototypes=1, temperature=0.0, queue=-1)
    assert [message.split()[0] for message in caught.value.messages] == [
        "model.prototypes", "model.temperature", "model.queue",
    ]  # fmt: skip


@pytest.mark.parametrize(("queue", "warned"), [(0, 1), (4, 0)])
def test_fewer_films_than_prototypes_are_said_in_the_log(queue, warned, shoulder, tmp_path, caplog):
    shoulder.augment = replace(shoulder.augment, views=2)
    with caplog.at_level(logging.WARNING, "xrayssl.methods.swav"):
        method = swav(prototypes=8, queue=queue)
        Trainer(default_root_dir=tmp_path, fast_dev_run=True, **QUIET).fit(method, datamodule=shoulder)
    assert sum("shared out over 8 prototypes" in record.message for record in caplog.records) == warned


def test_another_temperature_or_queue_is_another_run():
    one, other = swav()._settings(), swav(temperature=0.2, queue=8)._settings()
    assert {name for name in one if one[name] != other[name]} == {"model.temperature", "model.queue"}


@pytest.mark.parametrize(("epsilon", "warned"), [(10.0, 1), (0.001, 0)])
def test_codes_over_all_prototypes_are_named_in_words_with_the_key_that_helps(
    epsilon, warned, shoulder, tmp_path, caplog
):
    shoulder.augment = replace(shoulder.augment, views=2)
    with caplog.at_level(logging.WARNING, "xrayssl.methods.swav"):
        trainer = Trainer(default_root_dir=tmp_path, max_epochs=2, limit_train_batches=1, **QUIET)
        trainer.fit(swav(prototypes=3, epsilon=epsilon, freeze=0), datamodule=shoulder)
    assert sum("--model.epsilon" in record.message for record in caplog.records) == warned  # once, not every epoch
    assert (trainer.callback_metrics["val/prototypes_per_film"] > 2.9) == bool(warned)
