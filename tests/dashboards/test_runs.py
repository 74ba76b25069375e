import json
import time

import pytest

from xrayssl.cli import main
from xrayssl.dashboards.listing import lower, read


def record(folder, started, **what):
    folder.mkdir(parents=True)
    content = {"version": 1, "verb": "fit", "config": "finetune", "method": "Finetune", "backbone": "test_vit",
               "seed": 0, "started": f"2026-01-{started:02d}T10:00:00+00:00", "outcome": "finished", "parents": [],
               "data": {"corpora": {"uci_shoulder": "/films"}, "films": 24}, **what}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(content))
    return folder


def figures(folder, split="val", **values):
    folder.mkdir(exist_ok=True)
    entries = {name: {"value": value, "low": None, "high": None} for name, value in values.items()}
    (folder / "metrics.json").write_text(json.dumps({"version": 2, "split": split, "metrics": entries}))


@pytest.fixture
def store(tmp_path):
    """A pretraining, a tested classifier from it, one in a series that was interrupted, and two broken folders."""
    mae = record(tmp_path / "mae" / "a", 1, config="mae", method="MAEPretrain", weights="f" * 64, seed=1,
                 data={"corpora": {"nih": "/n", "rsna": "/r"}, "films": 9})  # fmt: skip
    figures(mae, **{"val/loss": 0.4})
    tested = record(tmp_path / "stages" / "finetune-1", 3, parents=["0" * 64, "f" * 64])
    figures(tested, auroc_macro=0.99)
    figures(tested / "test", "test", auroc_macro=0.7, brier=0.2)
    record(tested / "test" / "inner", 9)
    stopped = record(tmp_path / "curve" / "interrupted" / "x.1", 2, outcome="interrupted", parents=["a" * 64])
    (stopped / "metrics.csv").write_text(
        "epoch,step,train/loss,val/loss,val/auroc\n0,1,2,0.9,\n0,1,,,0.6\n1,2,,0.5,0.5\n"
    )
    (tmp_path / "torn" / "checkpoints").mkdir(parents=True)
    (tmp_path / "edited").mkdir()
    (tmp_path / "edited" / "run.json").write_text('{"version": 1, ')
    return tmp_path


def listed(store, capsys, *words):
    assert main(["runs", str(store), "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_runs_are_found_wherever_they_lie_newest_first_and_a_test_is_a_part_of_its_run(store, capsys):
    found = listed(store, capsys)
    assert [row["run"] for row in found] == ["stages/finetune-1", "curve/interrupted/x.1", "mae/a"]
    assert found[2]["corpora"] == ["nih", "rsna"]


def test_figures_are_of_the_test_where_there_was_one(store, capsys):
    tested, _, mae = listed(store, capsys)
    assert (tested["split"], tested["metrics"]["auroc_macro"]) == ("test", 0.7)
    assert (mae["split"], mae["metrics"]) == ("val", {"val/loss": 0.4})


def test_a_training_without_figures_shows_the_best_of_its_curves(store, capsys):
    assert listed(store, capsys, "--filter", "outcome=interrupted")[0]["metrics"] == {"val/loss": 0.5, "val/auroc": 0.6}


def test_a_parent_is_named_by_its_folder_or_else_by_its_checksum(store, capsys):
    assert [row["parent"] for row in listed(store, capsys)] == ["mae/a", "a" * 12, None]


def test_broken_folders_are_named_and_stop_nothing(store, capsys):
    assert main(["runs", str(store)]) == 0
    told = capsys.readouterr()
    assert "3 runs" in told.out and "test auroc_macro 0.7" in told.out
    assert f"{store / 'torn'} has no run.json" in told.err
    assert f"{store / 'edited' / 'run.json'} cannot be read as JSON" in told.err


@pytest.mark.parametrize(
    ("words", "count"),
    [(["config=finetune"], 2), (["method=MAE*"], 1), (["corpora=rsna"], 1), (["seed=0", "outcome=finished"], 1),
     (["data.films=24"], 2), (["parent=mae/a"], 1), (["config=none"], 0)],
)  # fmt: skip
def test_filters_are_joined_by_and(words, count, store, capsys):
    assert len(listed(store, capsys, "--filter", *words)) == count


@pytest.mark.parametrize(
    ("metric", "first"),
    [("auroc_macro", "stages/finetune-1"), ("val/loss", "mae/a"), ("config", "stages/finetune-1")],
)
def test_the_best_comes_first_and_what_has_no_such_figure_last(metric, first, store, capsys):
    found = listed(store, capsys, "--sort", metric)
    assert found[0]["run"] == first
    assert len(found) == 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(["--filter", "confg=a"], "no run has 'confg'. Did you mean config?"), (["--filter", "a"], "write KEY=VALUE"),
     (["--sort", "aurocmacro"], "--sort aurocmacro: no run has it. Did you mean auroc_macro?")],
)  # fmt: skip
def test_a_word_that_no_run_knows_is_refused(words, sentence, store, capsys):
    assert main(["runs", str(store), *words]) == 2
    assert sentence in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_refused_and_an_empty_one_is_not(tmp_path, capsys):
    assert [main(["runs", str(tmp_path / "no")]), main(["runs", str(tmp_path)])] == [2, 0]
    assert capsys.readouterr().out == "No run.\n"


def test_five_hundred_runs_take_less_than_two_seconds(tmp_path):
    for number in range(500):
        figures(record(tmp_path / str(number), 1 + number % 28), **{f"auroc/{name}": 0.5 for name in "ABCDEFGHIJKLMN"})
    start = time.process_time()
    assert len(read(tmp_path)[0]) == 500
    assert time.process_time() - start < 2


def test_less_is_better_for_losses_and_calibration():
    names = ("val/loss", "brier", "ece_scaled", "auroc_macro", "auroc/Edema")
    assert [lower(name) for name in names] == [True, True, True, False, False]
