import json

import pandas as pd
import pytest

from xrayssl import handoff
from xrayssl.backbone import Backbone
from xrayssl.cli import main
from xrayssl.series import runs as series

CONFIG = """# Tiny
model:
  class_path: Finetune
  init_args: {backbone: test_vit, optim: {warmup_epochs: 0}}
data:
  class_path: ChestXrayDataModule
  init_args: {img_size: 32, batch_size: 8, num_workers: 0, corpora: {phantom: {films: 60, size: 48}}}
trainer: {max_epochs: 1, enable_progress_bar: false, accelerator: cpu, num_sanity_val_steps: 0, precision: 32-true}
wandb: {mode: disabled}
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("XRAYSSL_RUN", "")
    monkeypatch.setattr(series, "process", lambda words, lock: main(list(words)))
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    return str(tmp_path / "tiny.yaml")


def record(folder, name):
    return json.loads((folder / name / "run.json").read_text())


def test_every_start_amount_and_seed_is_trained_and_drawn(config, tmp_path, capsys):
    out = tmp_path / "curve"
    words = ["efficiency", "--config", config, "--fractions", "1", "0.2", "--seeds", "0", "1", "--out", str(out)]
    assert main(words) == 0
    table = pd.read_csv(out / "efficiency.csv")
    drawn = table[table["metric"] == "auroc_macro"]
    assert (drawn["fraction"].tolist(), drawn["seeds"].tolist()) == ([0.2, 1.0], [2, 2])
    assert (out / "efficiency.svg").read_text().startswith("<svg")
    assert "tiny                 0.2" in capsys.readouterr().out
    few, more = (record(out, name) for name in ("tiny_0.2_seed1", "tiny_1_seed1"))
    assert (few["seed"], few["data"]["splits"]["test"]) == (1, more["data"]["splits"]["test"])
    assert few["data"]["splits"]["train"] < 0.3 * more["data"]["splits"]["train"]
    assert few["data"]["checksum"] != record(out, "tiny_0.2_seed0")["data"]["checksum"]
    before = (out / "tiny_1_seed1" / "run.json").stat().st_mtime_ns
    assert main(words) == 0
    assert (out / "tiny_1_seed1" / "run.json").stat().st_mtime_ns == before


def test_names_of_starts_may_have_dots_and_each_has_a_folder_and_a_line_of_its_own(config, tmp_path, capsys):
    out, file = tmp_path / "curve", tmp_path / "mae.v2" / "backbone.safetensors"
    handoff.save(Backbone("test_vit", 32), file.parent.mkdir() or file, method="MAEPretrain")
    words = ["--fractions", "1", "--seeds", "0", "--starts", f"mae.v2={file}", "1.50=null", "1.5=null"]
    assert main(["efficiency", "--config", config, *words, "--out", str(out)]) == 0
    parents = {name: record(out, f"{name}_1_seed0")["parents"] for name in ("mae.v2", "1.50", "1.5")}
    assert parents == {"mae.v2": [handoff.sha256(file)], "1.50": [], "1.5": []}
    said = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith("1 seed, no interval")]
    assert said == ["1.5", "1.50", "mae.v2"]


def test_starts_and_shots_reach_the_training_by_name(config, tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(series, "process", lambda words, lock: commands.append(list(words)) or 2)
    out = str(tmp_path / "curve")
    assert (
        main(
            [
                "efficiency",
                "--config",
                config,
                "--shots",
                "5",
                "1",
                "--seeds",
                "3",
                "--starts",
                "scratch=null",
                "--out",
                out,
            ]
        )
        == 2
    )
    assert commands == [["fit", "--config", config, "--data.shots", "1", "--data.subset_seed", "3", "--seed_everything",
                         "3", "--model.init_from", "null", "--out", f"{out}/scratch_1_seed3"]]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--fractions", "5"], "--fractions are shares above 0 and up to 1"),
        (["--shots", "0"], "--shots are films per class, 1 or more"),
        (["--shots", "1", "--fractions", "1"], "two kinds of curves"),
        (["--seeds", "0", "0"], "each once, not [0, 0]"),
        (["--starts", "mae"], "--starts mae: write NAME=FILE"),
        (["--starts", "a=null", "a=timm"], "--starts names 'a' twice"),
        (["--starts", "mae.v2/backbone.safetensors"], "--starts mae.v2/backbone.safetensors: write NAME=FILE"),
        (["--starts", "..=null"], "--starts ..=null: write NAME=FILE"),
        (["--starts", "a_1=null"], "has letters, digits, hyphens and dots"),
        (["--starts", "a=nowhere", "b=elsewhere"], "nowhere"),
        (["--starts", "a=nowhere", "b=elsewhere"], "elsewhere"),
        (["--data.fraction", "0.5"], "--data.fraction has no place here: --fractions says it"),
        (["--seed_everything", "1"], "--seed_everything has no place here: --seeds says it"),
        (["--data.batch_size", "0"], "batch_size must be 1 or more"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(words, says, config, tmp_path, capsys):
    assert main(["efficiency", "--config", config, "--out", str(tmp_path / "curve"), *words]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "curve").exists()
