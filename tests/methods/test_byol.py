"""BYOL: loss, target network, momentum."""

import math
from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from xrayssl import handoff
from xrayssl.backbone import Backbone
from xrayssl.errors import UserError
from xrayssl.methods import BYOL
from xrayssl.optim import Optim

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu",
         "use_distributed_sampler": False, "enable_checkpointing": False, "num_sanity_val_steps": 0}  # fmt: skip
NETWORKS = ["resnet18", "vit_tiny_patch16_224"]


def byol(backbone="vit_tiny_patch16_224", **kwargs):
    """A method whose target has come away from the network."""
    torch.manual_seed(0)
    method = BYOL(backbone=backbone, img_size=32, hidden=16, embedding=8, **kwargs)
    with torch.no_grad():
        for parameter in method.target_projector.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return method


def films(count=4):
    torch.manual_seed(1)
    views = [torch.randn(count, 1, 32, 32) for _ in range(2)]
    return {"image": views[0], "views": views}


@pytest.mark.parametrize("backbone", NETWORKS)
@pytest.mark.parametrize("training", [True, False])
def test_the_loss_is_that_of_a_slow_recomputation(backbone, training):
    method, batch, total = byol(backbone).train(training), films(), 0.0
    target = (method.target_backbone.copy, method.target_projector.copy)
    for here, there in (batch["views"], batch["views"][::-1]):
        guess = method.predictor(method.projector(method.backbone(here).mean(dim=(2, 3))))
        aim = target[1](target[0](there).mean(dim=(2, 3)))
        for one, two in zip(guess, aim, strict=True):
            total += (one / one.norm() - two / two.norm()).square().sum() / len(guess)
    assert method.losses(batch)["loss"].item() == pytest.approx(total.item(), rel=1e-4)


def test_the_hinge_on_the_projections_is_added():
    method, batch = byol(variance=3.0).eval(), films()
    found, hinges = method.losses(batch), []
    for view in batch["views"]:
        unit = torch.nn.functional.normalize(method.projector(method.backbone(view).mean(dim=(2, 3))))
        hinges.append((1 - (8 * unit.var(dim=0) + 1e-4).sqrt()).relu().mean())
    assert found["loss"].item() == pytest.approx((found["distance"] + 3 * sum(hinges) / 2).item(), rel=1e-4)
    assert found["distance"].item() == pytest.approx(byol().eval().losses(batch)["loss"].item(), rel=1e-4)


def test_the_target_shares_no_tensor_with_the_network_and_gets_no_gradient():
    method = byol("resnet18").train()
    online = {value.data_ptr() for value in (*method.backbone.parameters(), *method.projector.parameters())}
    target = [*method.target_backbone.parameters(), *method.target_projector.parameters()]
    method.losses(films())["loss"].backward()
    assert len(target) == len(online)
    assert not online & {value.data_ptr() for value in target}
    assert all(value.grad is None for value in target)
    trained = [value for value in method.parameters() if value.requires_grad]
    assert all(value.grad is not None for value in trained) and len(trained) > len(online)


def test_the_target_normalises_by_its_batch_while_it_trains():
    method = byol("resnet18").train()
    before = method.target_projector.copy[1].running_mean.clone()
    method.losses(films())
    assert not torch.equal(before, method.target_projector.copy[1].running_mean)


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 0.9), (0.5, 0.95), (1.0, 1.0)])
def test_the_momentum_grows_to_1_by_a_half_cosine(progress, expected, monkeypatch):
    monkeypatch.setattr(BYOL, "progress", progress)
    assert byol(momentum=0.9).target_momentum == pytest.approx(expected)


class Watch(Callback):
    """Notes the state at every turn."""

    def __init__(self):
        self.states, self.validated = [], []

    def on_train_start(self, trainer, method):
        self.states.append(kept(method))

    def on_train_batch_end(self, trainer, method, *args):
        self.states.append(kept(method))

    def on_validation_start(self, trainer, method):
        self.validated = [kept(method)]

    def on_validation_end(self, trainer, method):
        self.validated.append(kept(method))


def kept(method):
    return {name: value.clone() for name, value in method.state_dict().items()}


def test_each_step_moves_the_target_by_exactly_one_minus_the_momentum_and_validation_moves_nothing(tmp_path, shoulder):
    shoulder.augment, watch = replace(shoulder.augment, views=2), Watch()
    options = {"backbone": "vit_tiny_patch16_224", "img_size": 32, "optim": Optim(lr=1e-2, warmup_epochs=0)}
    method = BYOL(momentum=0.5, hidden=16, embedding=8, **options)
    trainer = Trainer(default_root_dir=str(tmp_path), max_epochs=1, callbacks=[watch], **QUIET)
    trainer.fit(method, datamodule=shoulder)
    pairs = {f"target_{part}.copy.{name}": f"{part}.{name}" for part in ("backbone", "projector")
             for name, value in getattr(method, part).named_parameters()}  # fmt: skip
    steps = len(watch.states) - 1
    for step, (before, after) in enumerate(zip(watch.states, watch.states[1:], strict=False)):
        momentum = 1 - 0.5 * (math.cos(math.pi * step / steps) + 1) / 2
        for target, online in pairs.items():
            assert torch.allclose(after[target], momentum * before[target] + (1 - momentum) * after[online], atol=1e-6)
    moved = [name for name in pairs if not torch.equal(watch.states[0][name], watch.states[1][name])]
    assert len(moved) == len(pairs)
    before, after = watch.validated
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


def test_the_target_starts_from_the_file_that_the_network_starts_from(tmp_path):
    path = handoff.save(Backbone("resnet18", 32), tmp_path / "start.safetensors")
    method = BYOL(hidden=16, backbone="resnet18", img_size=32, init_from=str(path))
    method.start()
    copy = method.target_backbone.copy.state_dict()
    assert all(torch.equal(value, copy[name]) for name, value in method.backbone.state_dict().items())


def test_films_in_one_view_are_refused_before_the_first_is_read(tmp_path, shoulder):
    trainer = Trainer(default_root_dir=str(tmp_path), max_epochs=1, **QUIET)
    shoulder._films = None
    with pytest.raises(UserError, match=r"--data\.augment\.views 2"):
        trainer.fit(byol(), datamodule=shoulder)


def test_arguments_that_make_no_sense_are_named_at_once():
    with pytest.raises(UserError) as caught:
        byol(momentum=2.0, variance=-1.0)
    assert ["model.momentum" in caught.value.messages[0], "model.variance" in caught.value.messages[1]] == [True, True]


def test_widths_and_weights_that_are_none_are_named_at_once():
    with pytest.raises(UserError) as caught:
        BYOL(backbone="test_vit", img_size=32, hidden=0, embedding=-1, variance=float("nan"), momentum=2.0)
    assert len(caught.value.messages) == 4
