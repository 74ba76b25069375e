import json
import subprocess
import sys
import time

import pandas as pd
import pytest

from xrayssl.cli import main
from xrayssl.series import runs as series

CONFIG = """# Tiny
model:
  class_path: {method}
  init_args: {{backbone: test_vit, optim: {{warmup_epochs: 0}}}}
data:
  class_path: ShoulderXrayDataModule
  init_args:
    {{img_size: 32, batch_size: 8, num_workers: 0, val: 0.3,
      corpora: {{phantom: {{body: shoulder, films: 48, size: 48, split: {split}}}}}}}
trainer: {{max_epochs: 1, enable_progress_bar: false, accelerator: cpu, num_sanity_val_steps: 0, precision: 32-true}}
wandb: {{mode: disabled}}
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("XRAYSSL_RUN", "")
    monkeypatch.setattr(series, "process", lambda words, lock: main(list(words)))
    return written(tmp_path)


def written(folder, method="Finetune", split="false"):
    (folder / "tiny.yaml").write_text(CONFIG.format(method=method, split=split))
    return str(folder / "tiny.yaml")


def figures(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_folds_test_every_film_once_and_pool_them(config, tmp_path, capsys):
    words = ["folds", "--config", config, "--folds", "2", "--out", str(tmp_path / "cv")]
    assert main(words) == 0
    found, pooled = pd.read_parquet(tmp_path / "cv" / "predictions.parquet"), figures(tmp_path / "cv")
    assert (len(found), found["film"].nunique(), pooled["films"]) == (48, 48, 48)
    parts = [pd.read_parquet(tmp_path / f"cv/fold-{i}/test/predictions.parquet") for i in (1, 2)]
    assert not {*parts[0]["patient"]} & {*parts[1]["patient"]}
    assert pooled["folds"]["count"] == 2
    said, page = capsys.readouterr().out, tmp_path / "cv" / "report.html"
    assert "mean of 2 folds" in said and said.rstrip().endswith(f"Its page is {page}.")
    assert "tiny in 2 folds reached" in page.read_text() and "All data are phantoms." in page.read_text()
    before = (tmp_path / "cv/fold-1/run.json").stat().st_mtime_ns
    assert main(words) == 0
    assert (tmp_path / "cv/fold-1/run.json").stat().st_mtime_ns == before


def test_folds_of_a_fraction_are_pooled_too(config, tmp_path):
    words = ["folds", "--config", config, "--folds", "2", "--data.fraction", "0.5", "--out", str(tmp_path / "cv")]
    assert main(words) == 0
    assert pd.read_parquet(tmp_path / "cv" / "predictions.parquet")["film"].nunique() == 48


def test_a_killed_fold_goes_on_from_its_last_checkpoint(config, tmp_path, monkeypatch, capsys):
    words = ["folds", "--config", config, "--folds", "2", "--trainer.max_epochs", "8", "--out", str(tmp_path / "cv")]
    monkeypatch.setattr(series, "process", killed)
    assert main(words) == 1
    assert "To go on with all: xrayssl folds --config" in capsys.readouterr().err
    monkeypatch.setattr(series, "process", lambda words, lock: main(list(words)))
    assert main(words) == 0
    command = json.loads((tmp_path / "cv/fold-1/run.json").read_text())["command"]
    assert str(tmp_path / "cv/interrupted/fold-1.1/checkpoints/last.ckpt") in command
    curves = pd.read_csv(tmp_path / "cv/fold-1/metrics.csv")
    assert sorted(curves["epoch"][curves["val/auroc"].notna()]) == list(range(8))
    assert figures(tmp_path / "cv")["films"] == 48


def killed(words, lock):
    """A real process that is killed once it has a checkpoint."""
    with subprocess.Popen([sys.executable, "-m", "xrayssl", *words], stderr=subprocess.DEVNULL) as child:
        last = series.Path(words[-1], "checkpoints", "last.ckpt")
        while not last.is_file() and child.poll() is None:
            time.sleep(0.01)
        child.kill()
    return child.returncode


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--folds", "1"], "--folds must be 2 or more, not 1"),
        (["--data.fold", "1/5"], "--data.fold has no place here: --folds says how many"),
        (["--ckpt_path", "x"], "--ckpt_path has no place here"),
        (["--folds", "40"], "too few for 40 folds"),
        (["--model.init_from", "nowhere"], "nowhere"),
        (["--trainer.max_epochz", "3"], "max_epochz"),
        (["--config", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(words, says, config, tmp_path, capsys):
    assert main(["folds", "--config", config, "--out", str(tmp_path / "cv"), *words]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "cv").exists()


def test_a_corpus_with_a_test_split_is_refused(config, tmp_path, capsys):
    assert main(["folds", "--config", written(tmp_path, split="true"), "--out", str(tmp_path / "cv")]) == 2
    assert "'phantom' has a test split of its own" in capsys.readouterr().err


def test_a_method_without_labels_is_refused(config, tmp_path, capsys):
    assert main(["folds", "--config", written(tmp_path, "RotationProxy")]) == 2
    assert "RotationProxy learns without labels and has nothing to test" in capsys.readouterr().err
