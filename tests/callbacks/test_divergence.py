import pytest
import torch
from lightning.pytorch import Trainer
from phantoms import small

from xrayssl import cli
from xrayssl.callbacks.checkpoints import LastCheckpoint
from xrayssl.callbacks.divergence import Divergence
from xrayssl.errors import UserError
from xrayssl.methods import RotationProxy
from xrayssl.optim import Optim


class Diverging(RotationProxy):
    """Loses its way at the fifth step."""

    def losses(self, batch):
        losses = super().losses(batch)
        return {**losses, "loss": losses["loss"] * (torch.nan if self.training and self.global_step == 4 else 1)}


def test_a_loss_that_is_no_number_ends_the_run_and_leaves_the_last_good_checkpoint(tmp_path, chest):
    trainer = Trainer(default_root_dir=tmp_path, max_epochs=3, limit_train_batches=2, limit_val_batches=0,
                      accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, logger=False,
                      callbacks=[Divergence(), LastCheckpoint(tmp_path)])  # fmt: skip
    method = Diverging(backbone="test_resnet", img_size=32, optim=Optim(warmup_epochs=0))
    with pytest.raises(UserError, match=r"diverged: in epoch 3.*--model\.optim\.lr"):
        trainer.fit(method, datamodule=chest)
    kept = torch.load(tmp_path / "last.ckpt")
    assert kept["global_step"] < 5
    assert all(value.isfinite().all() for value in kept["state_dict"].values())


def test_it_watches_over_every_fit(tmp_path, capfd):
    films = str(small("chest")).replace("'", '"')
    words = ["fit", "--config", "rotation_chest", "--out", str(tmp_path / "run"), "--model.backbone", "test_resnet",
             "--data.img_size", "32", "--data.corpora", films, "--data.batch_size", "4", "--data.num_workers", "0",
             "--model.optim.lr", "1e30", "--model.optim.warmup_epochs", "0", "--trainer.max_epochs", "2",
             "--trainer.accelerator", "cpu", "--wandb.mode", "disabled"]  # fmt: skip
    assert cli.main(words) == 2
    assert "diverged" in capfd.readouterr().err
    assert not (tmp_path / "run" / "backbone.safetensors").exists()
