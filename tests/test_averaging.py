import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn

from xrayssl.averaging import CURRENT, Averaging
from xrayssl.callbacks import BackboneExport
from xrayssl.callbacks.checkpoints import LastCheckpoint
from xrayssl.checkpoint import AtomicCheckpointIO, load
from xrayssl.errors import UserError
from xrayssl.handoff import FILE, read
from xrayssl.methods import Finetune, RotationProxy
from xrayssl.optim import Optim


def method(kind=RotationProxy, ema=0.9, **options):
    torch.manual_seed(1)
    optim = Optim(lr=1e-2, warmup_epochs=0)
    return kind(backbone="test_resnet", img_size=32, optim=optim, ema=ema, **options)


def trained(folder, data, model=None, resume=None, callbacks=(), epochs=3):
    model = model or method()
    trainer = Trainer(default_root_dir=folder, max_epochs=epochs, limit_train_batches=2, limit_val_batches=1,
                      logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
                      num_sanity_val_steps=0, plugins=[AtomicCheckpointIO()],
                      callbacks=[*callbacks, LastCheckpoint(folder / "checkpoints")])  # fmt: skip
    trainer.fit(model, datamodule=data, ckpt_path=resume)
    return model


def equal(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def last(folder):
    return load(folder / "checkpoints" / "last.ckpt")


class Stop(Callback):
    """Ctrl-C in the middle of the second validation."""

    def on_validation_batch_end(self, trainer, *args):
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt


class Watch(Callback):
    """Remembers one weight of every step and of every validation."""

    def __init__(self):
        self.steps, self.validated = [], []

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.steps.append(pl_module.head.linear.weight.detach().clone())

    def on_validation_batch_end(self, trainer, pl_module, *args):
        self.validated.append(pl_module.head.linear.weight.detach().clone())


def test_validation_sees_the_average_and_training_goes_on_from_its_own_weights(tmp_path, chest):
    watch, mean = Watch(), None
    trained(tmp_path, chest, callbacks=[watch])
    means = []
    for step, weight in enumerate(watch.steps, start=1):
        share = min(0.9, (1 + step) / (10 + step))
        mean = weight if mean is None else share * mean + (1 - share) * weight
        means.append(mean)
    assert all(torch.allclose(seen, means[i]) for seen, i in zip(watch.validated, (1, 3, 5), strict=True))
    plain = Watch()
    trained(tmp_path / "plain", chest, method(ema=None), callbacks=[plain])
    assert all(torch.equal(one, other) for one, other in zip(watch.steps, plain.steps, strict=True))


@pytest.fixture
def whole(tmp_path, chest):
    model = trained(tmp_path / "whole", chest, callbacks=[BackboneExport()])
    return model, tmp_path / "whole"


def test_the_averages_are_what_is_left_exported_and_read_from_a_checkpoint(whole):
    model, folder = whole
    checkpoint = last(folder)
    assert equal(model.state_dict(), checkpoint["state_dict"])
    assert equal(read(folder / FILE).tensors, model.backbone.network.state_dict())
    assert not torch.equal(checkpoint[CURRENT]["head.linear.weight"], model.head.linear.weight)


@pytest.mark.parametrize("stop", [False, True], ids=["between epochs", "in a validation"])
def test_a_resumed_run_ends_bit_for_bit_like_one_that_was_never_stopped(stop, whole, tmp_path, chest):
    if stop:
        with pytest.raises(SystemExit):
            trained(tmp_path / "part", chest, callbacks=[Stop()])
    else:
        trained(tmp_path / "part", chest, epochs=3, callbacks=[_EndAfter(1)])
    resumed = trained(tmp_path / "on", chest, resume=tmp_path / "part" / "checkpoints" / "last.ckpt")
    assert equal(resumed.state_dict(), whole[0].state_dict())
    assert equal(last(tmp_path / "on")[CURRENT], last(whole[1])[CURRENT])


class _EndAfter(Callback):
    def __init__(self, epochs):
        self.epochs = epochs

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = trainer.current_epoch + 1 == self.epochs


def test_a_resumed_run_keeps_the_mean_of_the_films_that_no_average_holds(tmp_path, chest):
    model = method()
    model.backbone.mean.fill_(0.4)
    trained(tmp_path / "a", chest, model, epochs=3, callbacks=[_EndAfter(1)])
    resumed = trained(tmp_path / "b", chest, resume=tmp_path / "a" / "checkpoints" / "last.ckpt")
    assert resumed.backbone.mean.tolist() == pytest.approx([0.4])


def test_a_run_is_not_resumed_with_another_decay(whole, tmp_path, chest):
    with pytest.raises(UserError, match=r"model\.ema 0\.9, the config says None"):
        trained(tmp_path, chest, method(ema=None), resume=whole[1] / "checkpoints" / "last.ckpt")


@pytest.mark.filterwarnings("ignore:Be aware that when using")
def test_what_is_tested_later_is_the_average(tmp_path, shoulder):
    model = method(Finetune, classes=shoulder.classes, task=shoulder.task)
    trained(tmp_path, shoulder, model)
    later = method(Finetune, classes=shoulder.classes, task=shoulder.task)
    Trainer(default_root_dir=tmp_path, logger=False, accelerator="cpu", enable_progress_bar=False).validate(
        later, datamodule=shoulder, ckpt_path=tmp_path / "checkpoints" / "last.ckpt", verbose=False
    )
    assert equal(later.state_dict(), model.state_dict())


def test_frozen_weights_and_other_buffers_stay_the_modules_own():
    module = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1), nn.BatchNorm1d(1))
    module[1].requires_grad_(False)
    average = Averaging(0.5)
    average.update(module, 1)
    for value in module.state_dict().values():
        value.add_(8)
    before = module[0].weight.item(), module[1].weight.item()
    average.update(module, 100)
    average.show(module)
    assert module[0].weight.item() == pytest.approx(before[0] - 4)
    assert module[1].weight.item() == before[1]
    assert (module[2].running_mean.item(), module[2].num_batches_tracked.item()) == (4, 8)


@pytest.mark.parametrize("decay", [0, 1, -0.1, 99])
def test_a_decay_that_is_no_share_is_refused(decay):
    with pytest.raises(ValueError, match=r"model\.ema is a share between 0 and 1"):
        Averaging(decay)
