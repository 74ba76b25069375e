"""Wherever Ctrl-C or SIGTERM lands, what is kept goes on to the very weights of a run that was left alone."""

import os
import signal
import threading
from contextlib import nullcontext
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from xrayssl.callbacks.interruption import Forced, Interruption
from xrayssl.callbacks.progress import Progress
from xrayssl.cli import main
from xrayssl.methods import Finetune

pytestmark = pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals need the main thread"
)
CONFIG = """
model:
  class_path: Finetune
  init_args: {backbone: test_vit, drop_path: 0.1, optim: {lr: 0.01, warmup_epochs: 0}}
data:
  class_path: ChestXrayDataModule
  init_args: {img_size: 32, batch_size: 4, num_workers: 0, corpora: {phantom: {films: 48, size: 48}}}
trainer: {max_epochs: 2, enable_progress_bar: false, accelerator: cpu, num_sanity_val_steps: 0,
          accumulate_grad_batches: 3}
wandb: {mode: disabled}
"""  # 7 batches an epoch: steps after the batches 2, 5 and 6 of each


def fit(folder, config, *words):
    return main(["fit", "--config", str(config), "--out", str(folder), *words])


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("configs") / "tiny.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def straight(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XRAYSSL_RUN", "")
        assert fit(folder, config) == 0
    return folder


def goes_on(cut, run):
    assert fit(run, cut / "config.yaml", "--ckpt_path", f"{cut}/checkpoints/last.ckpt") == 0


def failing_at(place):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if batch_idx == place:
            raise RuntimeError("device lost")

    return on_train_batch_end


def strike(patch, method, call, *blows):
    """Sends signals, or raises, at the end of a method's call of that number."""
    calls, plain = [], getattr(Finetune, method)

    def struck(self, *args, **kwargs):
        result = plain(self, *args, **kwargs)
        calls.append(method)
        for blow in blows if len(calls) == call else ():
            if isinstance(blow, Exception):
                raise blow
            os.kill(os.getpid(), blow)
        return result

    patch.setattr(Finetune, method, struck)


def kept(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def same(one, two):
    """Whether two nested structures are equal, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    return all(map(same, one, two)) if isinstance(one, list | tuple) else one == two


PLACES = [
    ("training_step", 1, signal.SIGINT),  # the first step of a window
    ("training_step", 5, signal.SIGINT),  # its middle
    ("training_step", 5, signal.SIGTERM),
    ("optimizer_step", 2, signal.SIGINT),  # after the weights moved and before the batch is counted
    ("lr_scheduler_step", 2, signal.SIGTERM),
    ("training_step", 7, signal.SIGINT),  # the last batch of the epoch, whose window is short
    ("validation_step", 1, signal.SIGINT),
    ("validation_step", 2, signal.SIGTERM),
    ("on_validation_epoch_end", 1, signal.SIGINT),
    ("training_step", 8, signal.SIGINT),
    ("optimizer_step", 6, signal.SIGINT),  # the last of all
]


@pytest.mark.parametrize(("method", "call", "signum"), PLACES)
def test_an_interrupted_run_goes_on_to_the_very_weights_and_curves(method, call, signum, config, straight, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        strike(patch, method, call, signum)
        assert fit(tmp_path / "cut", config) == {signal.SIGINT: 130, signal.SIGTERM: 143}[signum]
    goes_on(tmp_path / "cut", tmp_path / "r")
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert same(kept(straight)[part], kept(tmp_path / "r")[part])
    curves = [pd.read_csv(run / "metrics.csv").drop(columns="train/loss") for run in (straight, tmp_path / "r")]
    pd.testing.assert_frame_equal(*curves)  # Lightning begins the mean of train/loss anew


def test_a_validation_within_an_epoch_that_was_cut_short_is_made_anew(config, tmp_path):
    twice = ["--trainer.val_check_interval", "3"]
    assert fit(tmp_path / "straight", config, *twice) == 0
    with pytest.MonkeyPatch.context() as patch:
        strike(patch, "validation_step", 4, signal.SIGINT)  # the second of the second validation
        assert fit(tmp_path / "cut", config, *twice) == 130
    goes_on(tmp_path / "cut", tmp_path / "r")
    curves = [pd.read_csv(tmp_path / run / "metrics.csv").drop(columns="train/loss") for run in ("straight", "r")]
    pd.testing.assert_frame_equal(*curves)
    assert same(kept(tmp_path / "straight")["state_dict"], kept(tmp_path / "r")["state_dict"])


@pytest.mark.parametrize("place", [("training_step", 9), ("optimizer_step", 4)], ids=lambda place: place[0])
def test_a_second_ctrl_c_stops_at_once_and_leaves_the_last_checkpoint_alone(place, config, straight, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        strike(patch, *place, signal.SIGINT, signal.SIGINT)
        assert fit(tmp_path / "cut", config) == 130
    assert kept(tmp_path / "cut")["global_step"] == 3  # the first epoch's
    goes_on(tmp_path / "cut", tmp_path / "r")
    assert same(kept(straight)["state_dict"], kept(tmp_path / "r")["state_dict"])


@pytest.mark.parametrize(("call", "step"), [(9, 3), (12, 3)])
def test_a_failure_in_a_step_leaves_the_last_checkpoint_alone(call, step, config, tmp_path, monkeypatch):
    strike(monkeypatch, "training_step", call, RuntimeError("device lost"))
    with pytest.raises(RuntimeError, match="device lost"):
        fit(tmp_path / "cut", config)
    assert kept(tmp_path / "cut")["global_step"] == step


def test_a_failure_between_two_windows_keeps_the_work(config, straight, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "on_train_batch_end", failing_at(2))
        with pytest.raises(RuntimeError, match="device lost"):
            fit(tmp_path / "cut", config, "--trainer.enable_progress_bar", "true")
    assert kept(tmp_path / "cut")["global_step"] == 1
    goes_on(tmp_path / "cut", tmp_path / "r")
    assert same(kept(straight)["state_dict"], kept(tmp_path / "r")["state_dict"])


@pytest.mark.parametrize("ends", [True, False])
def test_a_fit_gives_the_signals_back(ends, config, tmp_path, monkeypatch):
    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    if not ends:
        strike(monkeypatch, "training_step", 1, signal.SIGINT)
    assert fit(tmp_path / "r", config) == (0 if ends else 130)
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_run_that_was_stopped_at_its_end_only_has_to_hand_over(config, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        strike(patch, "optimizer_step", 6, signal.SIGINT)
        assert fit(tmp_path / "cut", config) == 130
    goes_on(tmp_path / "cut", tmp_path / "r")
    assert (tmp_path / "r" / "backbone.safetensors").is_file()
    assert (tmp_path / "r" / "metrics.json").is_file()


@pytest.mark.parametrize(("seconds", "insists"), [(0.1, False), (5.0, True)])
def test_the_echo_of_a_launcher_is_no_second_ctrl_c(seconds, insists, monkeypatch):
    callback, clock = Interruption(), iter([10.0, 10.0 + seconds])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    callback._learning = True
    callback._trainer = SimpleNamespace(world_size=2, validating=False, is_global_zero=False)
    callback._hear(signal.SIGINT, None)
    with pytest.raises(Forced) if insists else nullcontext():
        callback._hear(signal.SIGINT, None)
    assert callback.asked == signal.SIGINT
