import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from PIL import Image
from torch import nn

from xrayssl import hardware, lightning_cli, rundir
from xrayssl.advice import how_to_resume
from xrayssl.batchnorm import PooledBatchNorm2d
from xrayssl.callbacks import checkpoints
from xrayssl.cli import main
from xrayssl.errors import UserError
from xrayssl.lightning_cli import XrayCLI
from xrayssl.loggers import Wandb, loggers, resolve
from xrayssl.request import fold_corpora, fold_nulls, understand

CONFIG = """# Tiny
model:
  class_path: Finetune
  init_args: {backbone: test_vit, optim: {warmup_epochs: 0}}
data:
  class_path: ChestXrayDataModule
  init_args: {img_size: 32, batch_size: 4, num_workers: 0, corpora: {phantom: {films: 24, size: 48}}}
trainer: {max_epochs: 1, limit_train_batches: 2, enable_progress_bar: false, accelerator: cpu, num_sanity_val_steps: 0}
wandb: {mode: disabled}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("configs") / "tiny.yaml"
    path.write_text(CONFIG)
    return str(path)


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XRAYSSL_RUN", "")
        assert main(["fit", "--config", config, "--out", str(out), "--model.optim.lr=1e-3"]) == 0
    return out


def forbidden(*args, **kwargs):
    raise AssertionError


def saved(run):
    return yaml.safe_load((run / "config.yaml").read_text())


def recorded(run):
    return json.loads((run / "run.json").read_text())


def test_a_run_leaves_everything_in_its_folder(run):
    left = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    wanted = {"config.yaml", "run.json", "metrics.csv", "backbone.safetensors"}
    assert left >= wanted | {"checkpoints/last.ckpt", "checkpoints/best.ckpt"}


def test_a_runs_record_names_the_group_that_it_was_given(tmp_path):
    words = ["--trainer.fast_dev_run", "true", "--out", str(tmp_path / "r"), "--wandb.mode", "disabled"]
    assert (
        main(["fit", "--config", "demo_mae_chest", "--model.backbone", "test_vit", "--wandb.group", "ways", *words])
        == 0
    )
    assert recorded(tmp_path / "r")["group"] == "ways"


def test_the_saved_configuration_holds_overrides_and_nothing_that_comes_from_the_data(run):
    arguments = saved(run)["model"]["init_args"]
    assert arguments["optim"]["lr"] == 1e-3
    assert not {"img_size", "classes", "task"} & set(arguments)


def test_the_record_says_what_was_run_on_what_and_how_it_ended(run):
    found = recorded(run)
    assert (found["verb"], found["config"], found["seed"], found["outcome"]) == ("fit", "tiny", 0, "finished")
    assert (found["method"], found["backbone"], found["parents"]) == ("Finetune", "test_vit", [])
    assert found["data"]["films"] == 24
    assert len(found["data"]["checksum"]) == 64
    assert found["seconds"] > 0
    assert "torch" in found["packages"]


def test_metrics_have_the_learning_rate(run):
    assert "lr" in (run / "metrics.csv").read_text().splitlines()[0].split(",")


def test_a_run_is_measured_by_naming_it_and_measuring_again_overwrites_nothing(run):
    assert [main(["test", "--run", str(run), "--trainer.limit_test_batches", "1"]) for _ in range(2)] == [0, 0]
    assert recorded(run / "test")["verb"] == recorded(run / "test-2")["verb"] == "test"
    assert (run / "test" / "metrics.json").is_file()


def test_a_resumed_run_has_its_own_folder_and_brings_the_best_along(run, tmp_path):
    last = run / "checkpoints" / "last.ckpt"
    words = ["--config", f"{run}/config.yaml", "--ckpt_path", str(last), "--out", str(tmp_path / "r")]
    assert main(["fit", *words, "--trainer.max_epochs", "2", "--trainer.limit_val_batches", "0"]) == 0
    assert recorded(tmp_path / "r")["resumed"] == str(last)
    assert recorded(tmp_path / "r")["config"] == "tiny"
    assert saved(tmp_path / "r")["ckpt_path"] is None
    best = [folder / "checkpoints" / "best.ckpt" for folder in (run, tmp_path / "r")]
    assert best[0].read_bytes() == best[1].read_bytes()


def moved(run, folder, *, best):
    """A copy of a run whose checkpoint says that its best lay somewhere else."""
    shutil.copytree(run, folder)
    if not best:
        (folder / "checkpoints" / "best.ckpt").unlink()
    last = torch.load(folder / "checkpoints" / "last.ckpt")
    (state,) = [state for state in last["callbacks"].values() if state.get("monitor") == "val/auroc"]
    state["best_model_path"] = "/was/here/checkpoints/best.ckpt"
    torch.save(last, folder / "checkpoints" / "last.ckpt")
    return ["fit", "--config", f"{folder}/config.yaml", "--ckpt_path", f"{folder}/checkpoints/last.ckpt"]


def test_a_moved_run_brings_its_best_along_too(run, tmp_path):
    words = [*moved(run, tmp_path / "moved", best=True), "--out", str(tmp_path / "r")]
    assert main([*words, "--trainer.max_epochs", "2", "--trainer.limit_val_batches", "0"]) == 0
    best = [folder / "checkpoints" / "best.ckpt" for folder in (run, tmp_path / "r")]
    assert best[0].read_bytes() == best[1].read_bytes()


def test_a_best_checkpoint_that_is_gone_is_told(run, tmp_path, capsys):
    words = [*moved(run, tmp_path / "moved", best=False), "--out", str(tmp_path / "r")]
    assert main([*words, "--trainer.max_epochs", "2"]) == 0
    assert "/was/here/checkpoints/best.ckpt is gone: the best epoch is chosen anew" in capsys.readouterr().err


def test_the_curves_have_as_many_epochs_as_the_fit(run):
    curves = pd.read_csv(run / "metrics.csv")
    assert set(curves["epoch"]) == {0}
    assert len(curves["val/auroc"].dropna()) == 1


def test_a_resumed_runs_curves_begin_with_the_first_epoch(run, tmp_path):
    words = ["--config", f"{run}/config.yaml", "--ckpt_path", f"{run}/checkpoints/last.ckpt"]
    assert main(["fit", *words, "--out", str(tmp_path / "r"), "--trainer.max_epochs", "2"]) == 0
    before, after = (pd.read_csv(folder / "metrics.csv") for folder in (run, tmp_path / "r"))
    pd.testing.assert_frame_equal(after[after["epoch"] == 0], before)
    assert set(after["epoch"]) == {0, 1}


def test_a_run_is_finished_only_when_its_best_checkpoint_has_been_measured(config, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(XrayCLI, "_validate", lambda *_: seen.append(recorded(tmp_path / "r")["outcome"]))
    assert main(["fit", "--config", config, "--out", str(tmp_path / "r")]) == 0
    assert (seen, recorded(tmp_path / "r")["outcome"]) == (["running"], "finished")


def test_paths_are_saved_so_that_they_hold_in_every_folder(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [f"{split}/{label}/{i}" for split in ("train", "val", "test") for label in "ab" for i in range(4)]:
        (tmp_path / "films" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "films" / f"{name}.png")
    corpora = ["--data.corpora", '{"folder": "films"}']
    assert main(["fit", "--config", config, "--out", "r", *corpora]) == 0
    assert saved(tmp_path / "r")["data"]["init_args"]["corpora"] == {"folder": f"{tmp_path}/films"}
    assert corpora[1] in recorded(tmp_path / "r")["command"]
    monkeypatch.chdir("/")
    assert main(["test", "--run", str(tmp_path / "r")]) == 0


def test_a_test_tells_its_figures_once(run, tmp_path, capsys, caplog):
    assert main(["test", "--run", str(run), "--out", str(tmp_path / "r")]) == 0
    assert caplog.text.count("auroc_macro") == 1
    assert "test/" not in capsys.readouterr().out


def test_predictions_of_a_run_lie_in_its_folder(run):
    assert main(["predict", "--run", str(run)]) == 0
    table = pd.read_parquet(run / "predict" / "predictions.parquet")
    names = [name for name in table if name.startswith("probability/")]
    assert len(table) > 0
    assert table[names].notna().all(axis=None)
    assert table["film"].is_unique


@pytest.mark.parametrize("method", ["Finetune", "RotationProxy"])
def test_torchrun_trains_one_run(method, tmp_path):
    config = tmp_path / "tiny.yaml"
    config.write_text(CONFIG.replace("class_path: Finetune", f"class_path: {method}"))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "xrayssl"]
    (tmp_path / "code").symlink_to(Path(rundir.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "code"), "WANDB_MODE": "disabled"}
    # with the bar, which the first process alone draws: it must not wait for the others' part of a mean by itself
    words = ["--trainer.enable_progress_bar", "true"]
    call = subprocess.run([*torchrun, "fit", "--config", config, *words], cwd=tmp_path, env=environment,
                          capture_output=True, text=True, check=False, timeout=240)  # fmt: skip
    assert call.returncode == 0, call.stderr
    (folder,) = (tmp_path / "runs" / "tiny").iterdir()
    assert len(list(tmp_path.glob("runs/**/backbone.safetensors"))) == 1
    assert recorded(folder)["machine"]["processes"] == 2
    assert (recorded(folder)["outcome"], pd.read_csv(folder / "metrics.csv")["epoch"].max()) == ("finished", 0)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--seed_everything", "-1"], "--seed_everything: expected a whole number from 0 to 4294967295, got -1."),
        (["--out", "/proc/xx"], "/proc/xx: no folder can be made there"),
        (["--trainer.fast_dev_run", "-1"], "fast_dev_run"),
        (["--trainer.val_check_interval", "100"], "must be less than or equal to the number of the training batches"),
        (["--data.corpora.folder", "/a", "--data.corpora.folder", "/b"], "--data.corpora.folder is given 2 times"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(words, sentence, config, tmp_path, capsys):
    assert main(["fit", "--config", config, "--out", str(tmp_path / "r"), *words]) == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("xrayssl: ")]
    assert sentence in said
    assert not (tmp_path / "r").exists()


def test_weights_and_biases_without_a_login_is_a_mistake_not_a_crash(config, tmp_path, monkeypatch, capsys):
    wandb = pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE")

    def refused(self):
        raise wandb.errors.UsageError("api_key not configured (no-tty).")

    monkeypatch.setattr(WandbLogger, "experiment", property(refused))
    assert main(["fit", "--config", config, "--out", str(tmp_path / "r"), "--wandb.mode", "online"]) == 2
    assert "xrayssl: Weights & Biases: api_key not configured (no-tty). Or go without: --wandb.mode offline." in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "r").exists()


def test_a_checkpoint_of_another_method_is_refused_and_leaves_no_folder(run, config, tmp_path, capsys):
    words = ["--config", config, "--model", "RotationProxy", "--out", str(tmp_path / "r")]
    assert main(["fit", *words, "--ckpt_path", f"{run}/checkpoints/last.ckpt"]) == 2
    assert "--model.init_from" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_a_checkpoint_never_replaces_the_configured_model(config, tmp_path, monkeypatch):
    assert "_parse_ckpt_path" in vars(LightningCLI)  # private: where this fails, look for its new name
    other = {"_class_path": "xrayssl.methods.RotationProxy", "backbone": "test_vit"}
    torch.save({"state_dict": {}, "hyper_parameters": other}, tmp_path / "foreign.ckpt")
    monkeypatch.setattr(XrayCLI, "_run_subcommand", lambda self, verb: None)
    words = ["--config", config, "--ckpt_path", str(tmp_path / "foreign.ckpt"), "--out", str(tmp_path / "r")]
    assert type(lightning_cli.start(understand("fit", words)).model).__name__ == "Finetune"


def test_the_model_takes_from_the_data_what_it_has_arguments_for(config, tmp_path, monkeypatch):
    monkeypatch.setattr(XrayCLI, "_run_subcommand", lambda self, verb: None)
    cli = lightning_cli.start(understand("fit", ["--config", config, "--out", str(tmp_path / "a")]))
    assert cli.model.classes == cli.datamodule.classes
    assert cli.model.backbone.img_size == (32, 32)
    words = ["--config", config, "--model", "RotationProxy", "--out", str(tmp_path / "b")]
    assert not hasattr(lightning_cli.start(understand("fit", words)).model, "classes")


def test_a_refused_value_of_a_classifier_is_told_alone(config, tmp_path, capsys):
    words = ["fit", "--config", config, "--model.unfreeze_after", "-1", "--out", str(tmp_path / "r")]
    assert main(words) == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("xrayssl:")]
    assert "--model.unfreeze_after" in said


def test_synchronised_batch_norms_are_ours_on_any_device_and_keep_their_activation(config, tmp_path, monkeypatch):
    monkeypatch.setattr(XrayCLI, "_run_subcommand", lambda self, verb: None)
    words = ["--config", config, "--model.backbone", "densenet121", "--trainer.sync_batchnorm", "true"]
    cli = lightning_cli.start(understand("fit", [*words, "--trainer.devices", "2", "--out", str(tmp_path / "a")]))
    norms = [part for part in cli.model.modules() if isinstance(part, nn.BatchNorm2d)]
    assert {type(norm) for norm in norms} == {PooledBatchNorm2d}
    assert any(isinstance(norm.act, nn.ReLU) for norm in norms)
    assert cli.trainer.strategy._layer_sync is None  # private: what would replace them


def test_a_trial_run_does_not_offer_itself_for_testing(config, tmp_path, capsys):
    assert main(["fit", "--config", config, "--out", str(tmp_path / "r"), "--trainer.fast_dev_run", "true"]) == 0
    assert "leave out --trainer.fast_dev_run" in (said := capsys.readouterr().err)
    assert "xrayssl test" not in said
    assert recorded(tmp_path / "r")["outcome"] == "finished"


def test_the_next_command_is_said_after_a_fit(config, tmp_path, capsys):
    assert main(["fit", "--config", config, "--out", str(tmp_path / "r")]) == 0
    assert f"Next: xrayssl test --run {tmp_path}/r" in capsys.readouterr().err


def test_an_out_folder_with_something_in_it_is_refused(config, tmp_path, capsys):
    (tmp_path / "mine.txt").touch()
    assert main(["fit", "--config", config, "--out", str(tmp_path)]) == 2
    assert "never overwrites" in capsys.readouterr().err


def test_the_whole_configuration_is_printed_without_making_a_folder(config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", config, "--print_config", "--data.batch_size", "8"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]["batch_size"] == 8
    assert not any(tmp_path.iterdir())


def test_help_is_short_and_help_all_is_everything(capsys):
    assert main(["fit", "--help"]) == 0
    assert len(capsys.readouterr().out.splitlines()) < 30
    assert main(["fit", "--help-all"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 200


class Interrupt(Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if batch_idx == 0:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals need the main thread")
def test_ctrl_c_keeps_the_work_and_says_how_to_go_on(config, run, tmp_path, capsys):
    before = signal.getsignal(signal.SIGINT)  # a suite that was started in the background is to ignore it
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(XrayCLI, "_callbacks", lambda *_, old=XrayCLI._callbacks: [*old(*_), Interrupt()])
        assert main(["fit", "--config", config, "--out", str(tmp_path / "cut"), "--model.optim.lr=1e-3"]) == 130
    command = capsys.readouterr().err.rpartition("To go on: xrayssl ")[2].split()
    assert recorded(tmp_path / "cut")["outcome"] == "interrupted"
    assert signal.getsignal(signal.SIGINT) is before
    assert main([*command, "--out", str(tmp_path / "r")]) == 0
    straight, resumed = (torch.load(folder / "checkpoints" / "last.ckpt") for folder in (run, tmp_path / "r"))
    weights = straight["state_dict"]
    assert [name for name in weights if not torch.equal(weights[name], resumed["state_dict"][name])] == []


def test_an_interruption_before_the_first_checkpoint_promises_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv(rundir.VARIABLE, str(tmp_path))
    assert "start anew" in how_to_resume("fit")


def test_what_the_user_can_mend_does_not_replace_the_last_checkpoint(tmp_path, monkeypatch):
    saves = []
    monkeypatch.setattr(checkpoints.ModelCheckpoint, "on_exception", lambda self, *_: saves.append(_[-1]))
    keeper = checkpoints.LastCheckpoint(tmp_path)
    trainer = Trainer(logger=False, barebones=True, accelerator="cpu")
    trainer.state.fn = "fit"
    for error in (UserError("loss is not finite"), RuntimeError("disk")):
        keeper.on_exception(trainer, None, error)
    assert [type(error) for error in saves] == [RuntimeError]


# --- words -> request


@pytest.mark.parametrize(
    ("words", "corpora"),
    [
        (["--data.corpora.nih", "/n"], {"phantom": {"films": 24, "size": 48}, "nih": "/n"}),
        (["--data.corpora", '{"nih": "/n", "folder": "/f"}'], {"nih": "/n", "folder": "/f"}),
        (["--data.corpora.phantom.films=9"], {"phantom": {"films": 9}}),
    ],
)
def test_corpora_are_named_in_one_flag(words, corpora, config, capsys):
    assert main(["fit", "--config", config, *words, "--print_config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]["corpora"] == corpora


def test_a_root_given_alone_joins_the_options_of_its_corpus():
    words = ["--data.corpora.nih", "/n", "--x", "1", "--data.corpora.nih.view", "PA"]
    assert fold_corpora(words) == ["--x", "1", "--data.corpora.nih", '{"root": "/n", "view": "PA"}']


@pytest.mark.parametrize(
    ("verb", "words", "sentence"),
    [
        ("test", ["--trainer.devices", "1"], "--run RUN"),
        ("test", ["--run", "nowhere"], "no run in that folder"),
        ("fit", ["--run", "r"], "--ckpt_path r/checkpoints/last.ckpt"),
        ("fit", ["--ckpt_path", "best"], "no such checkpoint"),
        ("fit", ["--config"], "needs a value"),
        ("fit", ["--config", "--out", "x"], "needs a value"),
    ],
)
def test_a_command_that_cannot_work_is_refused_before_anything_is_loaded(verb, words, sentence):
    with pytest.raises(UserError, match=sentence):
        understand(verb, words)


def test_the_best_checkpoint_is_measured_unless_the_last_is_asked_for(run):
    assert understand("test", ["--run", str(run)]).words[-1].endswith("best.ckpt")
    assert understand("test", ["--run", str(run), "--ckpt_path", "last"]).words[-1].endswith("last.ckpt")


@pytest.mark.parametrize("start", ["timm", "/gone.safetensors"])
@pytest.mark.parametrize("verb", ["test", "fit"])
def test_a_checkpoint_needs_nothing_of_what_its_run_once_started_from(verb, start, run, tmp_path, monkeypatch):
    monkeypatch.setattr("timm.models._builder.load_pretrained", forbidden)
    shutil.copytree(run, tmp_path / "run")
    words = ["--model.init_from", start, "--out", str(tmp_path / "r"), "--ckpt_path"]
    if verb == "fit":
        words += [f"{tmp_path}/run/checkpoints/last.ckpt", "--config", f"{run}/config.yaml"]
    assert main([verb, *words, *(["last", "--run", f"{tmp_path}/run"] if verb == "test" else [])]) == 0
    assert saved(tmp_path / "r")["model"]["init_args"]["init_from"] == start


# --- run folders


def test_two_runs_in_the_same_second_get_two_folders(tmp_path):
    names = [rundir.fresh(tmp_path / "now").name for _ in range(3)]
    assert names == ["now", "now-2", "now-3"]


def test_a_later_process_takes_the_folder_of_the_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chosen = rundir.choose("mae")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert rundir.choose("mae") == chosen


def test_the_processes_of_torchrun_agree_on_one_folder(tmp_path):
    script = tmp_path / "agree.py"
    script.write_text("from xrayssl import rundir\nfrom pathlib import Path\nimport os\n"
                      "Path(os.environ['RANK']).write_text(str(rundir.choose('mae')))\n")  # fmt: skip
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    root = str(Path(rundir.__file__).parents[1])
    subprocess.run(torchrun, cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}, check=True, capture_output=True)
    assert (tmp_path / "0").read_text() == (tmp_path / "1").read_text()


def test_processes_that_cannot_agree_ask_for_a_name(monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "1")
    with pytest.raises(UserError, match="--out DIR"):
        rundir.choose("mae")


def test_a_folder_with_work_in_it_is_never_abandoned(tmp_path, monkeypatch):
    (tmp_path / "run.json").touch()
    (tmp_path / "metrics.csv").touch()
    monkeypatch.setenv(rundir.VARIABLE, str(tmp_path))
    rundir.abandon()
    assert (tmp_path / "run.json").exists()


# --- precision, processes


@pytest.mark.parametrize(("amx", "chosen"), [(True, "bf16-mixed"), (False, "32-true")])
def test_precision_follows_the_processor(amx, chosen, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert hardware.precision("cpu") == chosen


@pytest.mark.parametrize(("fast", "chosen"), [(True, "bf16-mixed"), (False, "32-true")])
def test_precision_follows_the_gpu(fast, chosen, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: fast)
    assert hardware.precision("auto") == chosen


def test_torchrun_decides_the_number_of_processes(monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    asked = {"devices": "auto", "strategy": "auto"}
    assert hardware.processes(asked) == {"devices": 2, "num_nodes": 2, "strategy": "ddp"}


def test_srun_decides_the_number_of_processes_and_a_batch_script_that_starts_none_does_not(monkeypatch):
    asked = {"devices": "auto", "strategy": "auto"}
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert hardware.processes(asked) == {}
    for name, value in {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2"}.items():
        monkeypatch.setenv(name, value)
    assert hardware.processes(asked) == {"devices": 2, "num_nodes": 2, "strategy": "ddp"}
    assert hardware.processes({**asked, "devices": 1}) == {}


# --- loggers


def test_nothing_goes_online_unless_asked():
    assert Wandb().mode == "offline"


@pytest.mark.parametrize(
    ("asked", "wish", "done"),
    [("offline", "online", "offline"), ("online", "offline", "offline"), ("online", "disabled", "disabled"),
     ("online", "", "online"), ("offline", "dryrun", "offline"), ("auto", "online", "online")],
)  # fmt: skip
def test_the_environment_can_only_make_it_stricter(asked, wish, done, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", wish)
    assert resolve(asked) == done


def test_auto_is_offline_without_a_login_and_online_with_one(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert resolve("auto") == "offline"
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password none\n")
    assert resolve("auto") == "online"


def test_a_disabled_run_logs_to_the_file_only(tmp_path):
    (logger,) = loggers(tmp_path, Wandb(mode="disabled"))
    assert isinstance(logger, CSVLogger)
    assert logger.log_dir.rstrip("/") == str(tmp_path)


def test_privacy_sends_no_console_code_or_machine(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    logger = loggers(tmp_path, Wandb(mode="offline", group="chain", tags=["a"], privacy=True))[1]
    assert isinstance(logger, WandbLogger)
    settings = logger._wandb_init["settings"]
    assert (settings.console, settings.disable_code, settings.x_disable_meta) == ("off", True, True)
    assert (logger._wandb_init["group"], logger._wandb_init["tags"]) == ("chain", ["a"])


def test_an_offline_run_of_weights_and_biases_stays_in_the_folder(config, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    words = ["--out", str(tmp_path / "r"), "--wandb.mode", "offline", "--wandb.privacy", "true"]
    assert main(["fit", "--config", config, *words]) == 0
    assert list((tmp_path / "r" / "wandb").glob("offline-run-*/*.wandb"))
    assert not (tmp_path / "r" / "wandb" / "latest-run" / "files" / "wandb-metadata.json").exists()


def test_every_logger_gets_the_configuration_and_where_the_weights_come_from(config, tmp_path, monkeypatch):
    told = {}
    monkeypatch.setattr("xrayssl.loggers.MetricsFile.log_hyperparams", lambda self, params: told.update(params))
    assert main(["fit", "--config", config, "--out", str(tmp_path / "r"), "--trainer.limit_val_batches", "0"]) == 0
    assert told["config"]["trainer"]["max_epochs"] == 1
    assert {"method", "backbone", "parents", "data"} <= set(told)


def test_other_loggers_of_the_configuration_stand_beside_the_own_one(config, tmp_path):
    words = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", str(tmp_path / "other")]
    assert main(["fit", "--config", config, "--out", str(tmp_path / "r"), *words]) == 0
    (theirs,) = (tmp_path / "other").rglob("metrics.csv")
    assert theirs.read_text() == (tmp_path / "r" / "metrics.csv").read_text()
    assert yaml.safe_load((theirs.parent / "hparams.yaml").read_text())["config"]["trainer"]["max_epochs"] == 1


@pytest.mark.parametrize(("kind", "package"), [("TensorBoardLogger", "tensorboard"), ("MLFlowLogger", "mlflow")])
def test_a_logger_whose_package_is_missing_is_a_mistake_not_a_crash(
    kind, package, config, tmp_path, monkeypatch, capsys
):
    for module, flags in {"tensorboard": ("_TENSORBOARD_AVAILABLE", "_TENSORBOARDX_AVAILABLE"), "mlflow": ()}.items():
        for flag in flags:
            monkeypatch.setattr(f"lightning.fabric.loggers.{module}.{flag}", False)
    monkeypatch.setattr("lightning.pytorch.loggers.mlflow._MLFLOW_AVAILABLE", Missing())
    words = ["--trainer.logger", kind, "--trainer.logger.save_dir", str(tmp_path)]
    assert main(["fit", "--config", config, "--out", str(tmp_path / "r"), *words]) == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("xrayssl: ")]
    assert package in said and "pip install" in said


class Missing:
    """What Lightning knows of a package that is not installed."""

    def __bool__(self):
        return False

    def __str__(self):
        return "Requirement 'mlflow>=1.0.0' not met. HINT: Try running `pip install -U mlflow`"


@pytest.mark.parametrize("name", ["--model.optim.layer_decay", "--model.init_args.optim.layer_decay"])
def test_null_reaches_an_option_of_an_option(name, config, capsys):
    assert main(["fit", "--config", config, "--model.optim.layer_decay", "0.5", name, "null", "--print_config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["optim"]["layer_decay"] is None


def test_null_elsewhere_stays_as_it_is():
    words = ["--model.init_from", "null", "--data.corpora.nih", "null", "--trainer.max_time", "null"]
    assert fold_nulls(words) == words
