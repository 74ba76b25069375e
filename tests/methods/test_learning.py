"""What every method must do: learn eight films by heart, resume bitwise, refuse another's checkpoint."""

from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from xrayssl import handoff
from xrayssl.data.augment import Small
from xrayssl.data.films import collate
from xrayssl.errors import UserError
from xrayssl.masking import Masking
from xrayssl.methods import (
    BYOL,
    DVAE,
    Exemplar,
    Finetune,
    Jigsaw,
    MAEPretrain,
    MaskedCNNPretrain,
    MoCo,
    RelativePatch,
    RotationProxy,
    SwAV,
)
from xrayssl.optim import Optim

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu",
         "use_distributed_sampler": False}  # fmt: skip
FAST = Optim(lr=2e-3, warmup_epochs=0)


def mae(data, **kwargs):
    decoder = {"decoder_width": 64, "decoder_depth": 1, "decoder_heads": 2, "masking": Masking(0.5)}
    options = {"backbone": "vit_tiny_patch16_224", "img_size": 32, "target": "pixels", **decoder, **kwargs}
    return MAEPretrain(optim=FAST, **options)


def cross(data, **kwargs):
    schedule = Masking(0.5, ratio_end=0.75, kind="block")
    return mae(data, decoder="cross", decode_fraction=0.5, decoder_fusion=True, masking=schedule, **kwargs)


def components(data, **kwargs):
    return mae(data, target="pca", pca_components=16, encoder_mask_tokens=True, **kwargs)


def codes(data, **kwargs):
    return DVAE(backbone="vit_tiny_patch16_224", img_size=32, codes=16, code_width=32, optim=FAST, **kwargs)


def holes(data, **kwargs):
    options = {"hiding": "zeros", "cell": 16, "target": "pixels", "decoder_width": 128}  # 32 px are one sparse cell
    return MaskedCNNPretrain(Masking(0.5), backbone="resnet18", img_size=32, optim=FAST, **options, **kwargs)


def rotation(data, **kwargs):
    return RotationProxy(backbone="resnet18", img_size=32, optim=FAST, **kwargs)


def finetune(data, **kwargs):
    return Finetune(data.classes, data.task, backbone="vit_tiny_patch16_224", img_size=32, optim=FAST, **kwargs)


def jigsaw(data, **kwargs):
    options = {"permutations": 8, "cells": 2, "tile": 16, "embedding": 64, "hidden": 64, **kwargs}
    return Jigsaw(backbone="vit_tiny_patch16_224", img_size=32, optim=FAST, **options)


def relative(data, **kwargs):
    return RelativePatch(backbone="resnet18", img_size=32, embedding=64, hidden=64, optim=FAST, **kwargs)


def in_views(data, **kwargs):
    """Lets films come in two views."""
    data.augment = replace(data.augment, views=2, **kwargs)


def swav(data, **kwargs):
    in_views(data, small=Small(count=2, size=16))
    options = {"prototypes": 8, "hidden": 64, "embedding": 16, "queue": 8, "queue_after": 1, "freeze": 1, **kwargs}
    return SwAV(backbone="vit_tiny_patch16_224", img_size=32, optim=FAST, **options)


def surrogate(data, **kwargs):
    return Exemplar("surrogate", backbone="resnet18", img_size=32, optim=FAST, **kwargs)


def instance(data, **kwargs):
    in_views(data)
    return Exemplar("instance", backbone="vit_tiny_patch16_224", img_size=32, optim=FAST, **kwargs)


def moco(data, **kwargs):
    in_views(data)
    options = {"queue": 10, "momentum": 0.9, "splits": 2, "variance": 0.1, "embedding": 16, **kwargs}
    return MoCo(backbone="resnet18", img_size=32, optim=FAST, **options)


def byol(data, **kwargs):
    in_views(data)
    options = {"momentum": 0.9, "hidden": 64, "embedding": 16, "variance": 0.1, **kwargs}
    return BYOL(backbone="vit_tiny_patch16_224", img_size=32, optim=FAST, **options)


METHODS = [mae, cross, components, codes, holes, rotation, finetune]
METHODS += [jigsaw, relative]
METHODS += [swav, surrogate, instance]
METHODS += [moco, byol]
SLOW = {cross: 100, components: 160, codes: 80, moco: 15, byol: 25}


def overfit(method, batch, steps=40):
    """Loss over eight films before and after some steps on them, in the mean over ten draws of masks."""
    if isinstance(method, MAEPretrain):
        method.target.fit([method.backbone.normalize(batch["image"])])
    if isinstance(method, Exemplar) and method.kind != "instance":
        method.classify(batch["index"].tolist())
    optimizer = torch.optim.AdamW((p for p in method.parameters() if p.requires_grad), 1e-3)

    def loss():
        with torch.no_grad():
            return sum(method._losses(batch)["loss"].item() for _ in range(10)) / 10

    before = loss()
    for _ in range(steps):
        optimizer.zero_grad()
        method._losses(batch)["loss"].backward()
        optimizer.step()
    return before, loss()


@pytest.mark.parametrize("make", METHODS)
def test_eight_films_are_learned_by_heart(make, shoulder):
    torch.manual_seed(0)
    method = make(shoulder).train()
    dataset = shoulder.val_dataloader().dataset
    films = collate([dataset[(0, row)] for row in range(8)])
    before, after = overfit(method, films, SLOW.get(make, 40))
    assert after < before / 2


class Interrupt(Callback):
    """Raises after a number of steps, as a kill would."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(trainer.default_root_dir + "/cut.ckpt")
            raise InterruptedError


def train(folder, make, data, ckpt_path=None, **kwargs):
    torch.manual_seed(5)
    method = make(data, drop_path=0.1) if make in (mae, finetune) else make(data)
    trainer = Trainer(default_root_dir=str(folder), max_epochs=3, enable_checkpointing=False, num_sanity_val_steps=0,
                      **QUIET, **kwargs)  # fmt: skip
    trainer.fit(method, datamodule=data, ckpt_path=ckpt_path)
    return method.state_dict()


@pytest.mark.parametrize("make", METHODS)
@pytest.mark.parametrize("cut", [2, 3, 5])
def test_straight_and_interrupted_training_give_bitwise_equal_weights(make, cut, tmp_path, shoulder):
    straight = train(tmp_path, make, shoulder)  # 3 epochs of 3 steps
    with pytest.raises(InterruptedError):
        train(tmp_path, make, shoulder, callbacks=[Interrupt(cut)])
    torch.manual_seed(99)
    resumed = train(tmp_path, make, shoulder, ckpt_path=str(tmp_path / "cut.ckpt"))
    assert [name for name in straight if not torch.equal(straight[name], resumed[name])] == []


@pytest.mark.parametrize("cut", [1, 3])
def test_accumulated_gradients_survive_an_interruption_between_steps(cut, tmp_path, shoulder):
    straight = train(tmp_path, finetune, shoulder, accumulate_grad_batches=2)
    with pytest.raises(InterruptedError):
        train(tmp_path, finetune, shoulder, callbacks=[Interrupt(cut)], accumulate_grad_batches=2)
    resumed = train(tmp_path, finetune, shoulder, ckpt_path=str(tmp_path / "cut.ckpt"), accumulate_grad_batches=2)
    assert [name for name in straight if not torch.equal(straight[name], resumed[name])] == []


def test_a_run_with_workers_equals_one_without(tmp_path, shoulder):
    alone = train(tmp_path, rotation, shoulder)
    shoulder.workers = 2
    helped = train(tmp_path, rotation, shoulder)
    assert all(torch.equal(alone[name], helped[name]) for name in alone)


def test_another_seed_gives_another_run(tmp_path, shoulder, monkeypatch):
    first = train(tmp_path, rotation, shoulder)
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    second = train(tmp_path, rotation, shoulder)
    assert not torch.equal(first["backbone.network.conv1.weight"], second["backbone.network.conv1.weight"])


def test_masks_differ_between_ranks_epochs_and_steps(shoulder, monkeypatch):
    keys = set()
    for rank in range(2):
        for epoch in range(3):
            method = mae(shoulder)
            monkeypatch.setattr(type(method), "global_rank", rank)
            monkeypatch.setattr(type(method), "current_epoch", epoch)
            keys |= {method._key(step) for step in range(4)}
            monkeypatch.undo()
    assert len(keys) == 2 * 3 * 4


def test_resuming_with_another_method_is_refused_in_a_sentence_that_names_init_from(tmp_path, shoulder):
    with pytest.raises(InterruptedError):
        train(tmp_path, mae, shoulder, callbacks=[Interrupt(1)])
    with pytest.raises(UserError, match=r"MAEPretrain.*Finetune.*--model\.init_from") as caught:
        train(tmp_path, finetune, shoulder, ckpt_path=str(tmp_path / "cut.ckpt"))
    assert len(caught.value.messages) == 1


def test_resuming_with_another_rate_or_seed_is_refused_and_says_both(tmp_path, shoulder, monkeypatch):
    with pytest.raises(InterruptedError):
        train(tmp_path, rotation, shoulder, callbacks=[Interrupt(1)])
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    other = RotationProxy(backbone="resnet18", img_size=32, optim=Optim(lr=1e-6, warmup_epochs=0))
    with pytest.raises(UserError) as caught:
        train(tmp_path, lambda data: other, shoulder, ckpt_path=str(tmp_path / "cut.ckpt"))
    assert ["optim.lr" in caught.value.messages[0], "seed" in caught.value.messages[1]] == [True, True]


def test_a_run_that_goes_on_does_not_need_the_file_it_started_from(tmp_path, shoulder):
    source = handoff.save(rotation(shoulder).backbone, tmp_path / "start.safetensors")

    def started(data, **kwargs):
        return RotationProxy(backbone="resnet18", img_size=32, optim=FAST, init_from=str(source))

    with pytest.raises(InterruptedError):
        train(tmp_path, started, shoulder, callbacks=[Interrupt(1)])
    source.unlink()
    train(tmp_path, started, shoulder, ckpt_path=str(tmp_path / "cut.ckpt"))


def test_a_schedule_without_an_end_is_refused(tmp_path, shoulder):
    trainer = Trainer(default_root_dir=str(tmp_path), max_epochs=-1, enable_checkpointing=False, **QUIET)
    with pytest.raises(UserError, match="needs an end"):
        trainer.fit(rotation(shoulder), datamodule=shoulder)
