"""Lightning's own callbacks as a user of the command line writes them."""

import json

import pandas as pd
import pyarrow.parquet
import pytest
import torch
import yaml

from xrayssl.cli import main

CONFIG = """# Small
model:
  class_path: Finetune
  init_args: {backbone: test_resnet, optim: {lr: 1.0e-3, warmup_epochs: 0}}
data:
  class_path: ChestXrayDataModule
  init_args: {img_size: 32, batch_size: 4, num_workers: 0, corpora: {phantom: {films: 24, size: 48, seed: 2}}}
trainer: {max_epochs: 8, enable_progress_bar: false, accelerator: cpu, num_sanity_val_steps: 0, precision: 32-true}
wandb: {mode: disabled}
"""
STOP = """# Ends a training whose validation gets no better
trainer:
  callbacks:
    - class_path: lightning.pytorch.callbacks.EarlyStopping
      init_args: {monitor: val/auroc, mode: max, patience: 2, min_delta: 1.0}
"""
SEARCH = """# Looks for the largest batch, then for its rate
trainer:
  callbacks:
    - class_path: lightning.pytorch.callbacks.BatchSizeFinder
      init_args: {init_val: 4, steps_per_trial: 1, max_trials: 2, max_val: 8}
    - class_path: lightning.pytorch.callbacks.LearningRateFinder
      init_args: {num_training_steps: 16, min_lr: 1.0e-5, max_lr: 1.0e-1}
"""


def run(folder, *parts, words=()):
    """A fit of several configurations, one over the other."""
    names = []
    for number, part in enumerate(parts):
        (folder / f"{number}.yaml").write_text(part)
        names += ["--config", str(folder / f"{number}.yaml")]
    assert main(["fit", *names, "--out", str(folder / "run"), *words]) == 0
    return folder / "run"


def test_early_stopping_ends_the_run_and_the_best_checkpoint_is_kept(tmp_path):
    folder = run(tmp_path, CONFIG, STOP)
    curves = pd.read_csv(folder / "metrics.csv")
    assert curves["epoch"].max() == 2  # the first epoch, and two that were no whole AUROC better
    best, last = (torch.load(folder / "checkpoints" / f"{name}.ckpt") for name in ("best", "last"))
    auroc = curves.groupby("epoch")["val/auroc"].max()
    assert best["epoch"] == auroc.idxmax() and last["epoch"] == 2
    figures = json.loads((folder / "metrics.json").read_text())
    assert figures["metrics"]["auroc_macro"]["value"] == pytest.approx(auroc.max(), abs=1e-6)


def test_finders_in_a_configuration_set_batch_and_rate_and_leave_a_run_that_can_be_gone_on_with(tmp_path, caplog):
    folder = run(tmp_path, CONFIG, SEARCH, words=["--trainer.max_epochs", "20"])
    (told,) = [line for line in caplog.messages if line.startswith("Found.")]
    found = dict(zip(told.split()[-4::2], told.rstrip(".").split()[-3::2], strict=True))
    assert found["--data.batch_size"] == "8"
    rate = float(found["--model.optim.lr"])
    assert 1e-5 < rate < 1e-1 and rate != 1e-3
    curves = pd.read_csv(folder / "metrics.csv")
    assert curves["lr"].max() <= rate and curves["epoch"].max() == 19
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    record = json.loads((folder / "run.json").read_text())
    assert record["found"] == {"model.optim.lr": rate, "data.batch_size": 8}
    assert main(["test", "--run", str(folder)]) == 0
    told = [line for line in caplog.messages if line.startswith(("val: ", "test: "))]
    assert len(told) == 2 and "test: 7 films" in told[1]  # and no figures of the few films of a trial
    films = json.loads((folder / "test" / "metrics.json").read_text())["films"]
    assert films == len(pd.read_parquet(folder / "test" / "predictions.parquet")) == 7
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    saved["trainer"]["callbacks"] = []
    (tmp_path / "again").mkdir()
    last = ["--ckpt_path", str(folder / "checkpoints" / "last.ckpt"), "--trainer.max_epochs", "20"]
    run(tmp_path / "again", yaml.safe_dump(saved), words=[*(word for pair in found.items() for word in pair), *last])


def test_selecting_on_the_test_films_is_one_switch(tmp_path, caplog):
    folder = run(tmp_path, CONFIG, words=["--model.select_on", "test", "--trainer.max_epochs", "2"])
    curves = pd.read_csv(folder / "metrics.csv")
    best = torch.load(folder / "checkpoints" / "best.ckpt")
    assert best["epoch"] == curves.groupby("epoch")["test/auroc"].max().idxmax()
    assert main(["test", "--run", str(folder), "--model.select_on", "val"]) == 0
    assert main(["export", "--run", str(folder)]) == 0
    assert json.loads((folder / "export" / "config.json").read_text())["xrayssl"]["selected_on"] == "test"
    assert "Mind: these weights were selected on test films" in caplog.text
    table = pyarrow.parquet.read_schema(folder / "test" / "predictions.parquet").metadata[b"xrayssl"]
    assert json.loads(table)["selected_on"] == "test"
    marks = [json.loads((place / "metrics.json").read_text())["selected_on"] for place in (folder, folder / "test")]
    assert marks == ["test", "test"]


def test_a_stage_that_starts_from_what_test_films_selected_says_so_and_the_next_one_too(tmp_path, capsys):
    from xrayssl import handoff

    places = [tmp_path / name for name in ("first", "second", "third")]
    for number, place in enumerate(places):
        place.mkdir()
        start = ["--model.init_from", str(places[number - 1] / "run")] if number else ["--model.select_on", "test"]
        run(place, CONFIG, words=["--trainer.max_epochs", "1", *start])
    first, second, third = (json.loads((place / "run" / "run.json").read_text()) for place in places)
    marked = handoff.sha256(places[0] / "run" / "backbone.safetensors")
    assert "selected_on_test" not in first
    assert second["selected_on_test"] == third["selected_on_test"] == [marked]
    assert handoff.describe(places[0] / "run")["selected_on"] == "test" and third["parents"][0] == marked
    assert "selected_on" not in handoff.describe(places[1] / "run")
    capsys.readouterr()
    for place, says in zip(places[1:], ("its start", f"an earlier stage, {marked[:12]}"), strict=True):
        page = place / "page.html"
        assert main(["report", str(place / "run"), "--out", str(page)]) == 0
        assert f"; selected on test films: {says}</d" in page.read_text()
