"""Two processes on gloo, beside one."""

import json

import pytest
import torch
from lightning.pytorch import Trainer
from phantoms import small

from xrayssl.data import ShoulderXrayDataModule
from xrayssl.data.sampler import EpochSampler
from xrayssl.methods import Finetune

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu",
         "use_distributed_sampler": False}  # fmt: skip


def figures(folder, films, **kwargs):
    """metrics.json of a network with fixed random weights."""
    folder.mkdir()
    data = ShoulderXrayDataModule(small("shoulder", films), img_size=32, batch_size=2, num_workers=0)
    torch.manual_seed(3)
    method = Finetune(data.classes, data.task, backbone="resnet18", img_size=32)
    Trainer(default_root_dir=folder, **QUIET, **kwargs).test(method, datamodule=data, verbose=False)
    return json.loads((folder / "metrics.json").read_text()), len(data.manifest.rows("test"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process with threads
def test_two_processes_give_the_figures_of_one_with_an_odd_number_of_films(tmp_path):
    one, films = figures(tmp_path / "one", 24)
    two, _ = figures(tmp_path / "two", 24, devices=2, strategy="ddp_fork")
    assert films % 2 == 1
    assert one == two


def test_processes_share_out_every_film_and_agree_on_the_order():
    parts = [list(EpochSampler(range(7), seed=1, rank=rank, world=2)) for rank in range(2)]
    assert [len(part) for part in parts] == [4, 4]
    assert {row for part in parts for _, row in part} == set(range(7))
