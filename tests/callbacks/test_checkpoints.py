"""Which epochs are written to the disk."""

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from xrayssl.callbacks import checkpoints
from xrayssl.callbacks.checkpoints import LastCheckpoint
from xrayssl.methods import RotationProxy
from xrayssl.optim import Optim


class Watch(Callback):
    """Notes after every epoch which step last.ckpt holds."""

    def __init__(self, folder):
        self.path, self.steps = folder / "last.ckpt", []

    def on_train_epoch_start(self, trainer, pl_module):
        self.steps.append(torch.load(self.path)["global_step"] if self.path.exists() else None)


def written(tmp_path, data, **kwargs):
    """The step that last.ckpt held at the start of each epoch of three steps, and at the end."""
    watch = Watch(tmp_path)
    Trainer(
        default_root_dir=tmp_path, callbacks=[watch, LastCheckpoint(tmp_path)], limit_val_batches=0, logger=False,
        accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, **kwargs,
    ).fit(RotationProxy(backbone="resnet18", img_size=32, optim=Optim(warmup_epochs=0)), datamodule=data)  # fmt: skip
    return [*watch.steps, torch.load(watch.path)["global_step"]]


def test_of_short_epochs_the_first_and_the_last_are_written(tmp_path, shoulder):
    assert written(tmp_path, shoulder, max_epochs=4) == [None, 3, 3, 3, 12]


def test_long_epochs_are_all_written(tmp_path, shoulder, monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN_EPOCHS", 0.0)
    assert written(tmp_path, shoulder, max_epochs=4) == [None, 3, 6, 9, 12]


@pytest.mark.parametrize("end", [{"max_steps": 9}, {"max_epochs": 3}])
def test_the_end_is_written_however_it_comes(end, tmp_path, shoulder):
    assert written(tmp_path, shoulder, **end)[-1] == 9
