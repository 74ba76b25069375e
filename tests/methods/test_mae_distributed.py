"""Two processes fit the principal components of the films of both."""

import pytest
import torch
from lightning.pytorch import Trainer
from phantoms import small

from xrayssl.data import ChestXrayDataModule
from xrayssl.masking import Masking
from xrayssl.methods import MAEPretrain
from xrayssl.optim import Optim

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu",
         "use_distributed_sampler": False, "limit_val_batches": 0, "num_sanity_val_steps": 0,
         "enable_checkpointing": False}  # fmt: skip


def axes(folder, batch_size, **kwargs):
    data = ChestXrayDataModule(small("chest"), img_size=32, batch_size=batch_size, num_workers=0)
    torch.manual_seed(3)
    method = MAEPretrain(
        backbone="vit_tiny_patch16_224", img_size=32, target="pca", pca_components=4, masking=Masking(0.5),
        decoder_width=32, decoder_depth=1, decoder_heads=2, optim=Optim(warmup_epochs=0),
    )  # fmt: skip
    Trainer(default_root_dir=folder, max_epochs=1, **QUIET, **kwargs).fit(method, datamodule=data)
    return method.state_dict()["target.axes_PK"]


@pytest.mark.filterwarnings("ignore:It is recommended to use `self.log")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process with threads
def test_two_processes_find_the_components_of_one(tmp_path):
    one_PK, two_PK = axes(tmp_path, 4), axes(tmp_path, 2, devices=2, strategy="ddp_fork")
    torch.testing.assert_close(one_PK, two_PK, atol=1e-3, rtol=0)
