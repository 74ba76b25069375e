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


def leaves(content):
    """What metrics.json holds, in its order; probabilities differ in their last digits between batches of other sizes,
    and what is made of their values with them.
    """
    if isinstance(content, dict | list):
        entries = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in entries:
            yield key
            yield from leaves(value)
    else:
        yield content


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process with threads
def test_two_processes_give_the_figures_of_one_with_an_odd_number_of_films(tmp_path):
    one, films = figures(tmp_path / "one", 24)
    two, _ = figures(tmp_path / "two", 24, devices=2, strategy="ddp_fork")
    assert films % 2 == 1 and one["films"] == films
    by_rank = ("auroc", "accuracy", "balanced_accuracy", "kappa")
    assert {n: e for n, e in one["metrics"].items() if n.startswith(by_rank)} == {
        n: e for n, e in two["metrics"].items() if n.startswith(by_rank)
    }
    assert one["operating"]["films"] % 2 == 1
    assert list(leaves(one)) == pytest.approx(list(leaves(two)), abs=1e-6)


def test_processes_share_out_every_film_and_agree_on_the_order():
    parts = [list(EpochSampler(range(7), seed=1, rank=rank, world=2)) for rank in range(2)]
    assert [len(part) for part in parts] == [4, 4]
    assert {row for part in parts for _, row in part} == set(range(7))
