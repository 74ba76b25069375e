"""A method from outside the package: the README's own example trains, is killed, resumes bitwise and hands off."""

import multiprocessing
import re
import signal
import sys
from pathlib import Path

import pytest
import torch

from xrayssl import cli, handoff

README = (Path(__file__).parent.parent / "README.md").read_text().partition("## Add a method")[2].partition("\n## ")[0]
CORPORA = '{"phantom": {"body": "%s", "films": 24, "size": 48, "seed": 2}}'
TINY = ["--data.img_size", "32", "--data.batch_size", "4", "--data.num_workers", "0", "--trainer.accelerator", "cpu"]
KILLER = """
import os, signal
from lightning.pytorch import Callback

class Kill(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.current_epoch == 1 and batch_idx == 1:
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    """The README's two files, as they stand there."""
    for suffix, kind in (("py", "python"), ("yaml", "yaml")):
        (code,) = re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL)
        (tmp_path / f"inversion.{suffix}").write_text(code)
    (tmp_path / "killer.py").write_text(KILLER)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("inversion", "killer"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path / "inversion.yaml"


def fit(config, out, *words):
    corpora = ["--data.corpora", CORPORA % "chest", "--trainer.max_epochs", "3"]
    return cli.main(["fit", "--config", str(config), "--out", str(out), *TINY, *corpora, *words])


def weights(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process with threads
def test_a_method_from_outside_that_is_killed_resumes_to_the_same_bits(config, tmp_path):
    cut, straight, resumed = tmp_path / "cut", tmp_path / "straight", tmp_path / "resumed"
    killed = multiprocessing.get_context("fork").Process(
        target=fit, args=(config, cut, "--trainer.callbacks", "[{class_path: killer.Kill}]")
    )
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert fit(config, straight) == fit(config, resumed, "--ckpt_path", f"{cut}/checkpoints/last.ckpt") == 0
    one, other = weights(straight), weights(resumed)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert not torch.equal(one["head.linear.weight"], weights(cut)["head.linear.weight"])


def test_a_method_from_outside_hands_off(config, tmp_path):
    run = tmp_path / "run"
    assert fit(config, run, "--trainer.max_epochs", "1") == 0
    assert handoff.describe(run)["method"] == "Inversion"
    start = ["--model.backbone", "resnet18", "--model.init_from", str(run)]
    words = ["fit", "--config", "probe_shoulder", "--out", str(tmp_path / "probe"), *start, *TINY]
    assert cli.main([*words, "--data.corpora", CORPORA % "shoulder", "--trainer.fast_dev_run", "true"]) == 0


def test_the_readme_takes_about_thirty_lines():
    blocks = re.findall(r"```(?:python|yaml)\n(.*?)```", README, re.DOTALL)
    assert len("".join(blocks).splitlines()) <= 32
