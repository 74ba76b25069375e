import json
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from xrayssl.study.label_efficiency import Result, drawn, summarised, told, write

FIGURES = {
    "mae": {0.01: (0.6, 0.62, 0.66), 1.0: (0.8, 0.81, 0.82)},
    "scratch": {0.01: (0.5, 0.52, 0.48), 1.0: (0.7, 0.71, 0.75)},
}


@pytest.fixture
def results(tmp_path):
    made = []
    for start, amounts in FIGURES.items():
        for amount, values in amounts.items():
            for seed, value in enumerate(values):
                run = tmp_path / f"{start}_{amount:g}_seed{seed}"
                (run / "test").mkdir(parents=True)
                metrics = {"auroc_macro": {"value": value, "low": 0, "high": 1}, "auroc/mass": {"value": None}}
                (run / "test" / "metrics.json").write_text(json.dumps({"metrics": metrics}))
                (run / "run.json").write_text(json.dumps({"data": {"splits": {"train": round(amount * 100)}}}))
                made.append(Result(start, amount, seed, run))
    return made


def test_the_interval_is_that_of_a_mean_over_seeds(results, tmp_path):
    table = write(tmp_path, results, "fraction", "auroc_macro")
    row = table[(table["start"] == "mae") & (table["fraction"] == 0.01) & (table["metric"] == "auroc_macro")].iloc[0]
    values = np.array(FIGURES["mae"][0.01])
    expected = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((values.mean(), *expected))
    assert (row["seeds"], row["films"]) == (3, 1.0)


def test_one_seed_has_no_interval_and_a_figure_that_no_run_has_is_unknown():
    runs = [{"start": "a", "amount": 1.0, "training": 9, "metrics": {"auroc_macro": 0.7, "auroc/mass": None}}]
    table = summarised(runs).set_index("metric")
    assert table.loc["auroc_macro", ["low", "high", "sd"]].isna().all()
    assert (table.loc["auroc/mass", "seeds"], np.isnan(table.loc["auroc/mass", "mean"])) == (0, True)


def test_csv_and_json_hold_the_same_table_and_json_every_run(results, tmp_path):
    write(tmp_path, results, "fraction", "auroc_macro")
    table, held = pd.read_csv(tmp_path / "efficiency.csv"), json.loads((tmp_path / "efficiency.json").read_text())
    means = [np.nan if row["mean"] is None else row["mean"] for row in held["table"]]
    assert means == pytest.approx(table["mean"].to_list(), nan_ok=True)
    assert (len(held["table"]), len(held["runs"]), held["amount"]) == (len(table), 12, "fraction")
    assert "not over patients" in held["note"]


def test_figures_of_checkpoints_selected_on_test_are_marked_wherever_they_are_told(results, tmp_path):
    write(tmp_path, results, "fraction", "auroc_macro")
    before = told(tmp_path, "auroc_macro") + (tmp_path / "efficiency.svg").read_text()
    assert {*pd.read_csv(tmp_path / "efficiency.csv")["selected_on"]} == {"val"} and "selected" not in before
    path = results[0].run / "test" / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"selected_on": "test"}))
    write(tmp_path, results, "fraction", "auroc_macro")
    table = pd.read_csv(tmp_path / "efficiency.csv")
    marked = table[table["selected_on"] == "test"]
    assert {*zip(marked["start"], marked["fraction"], strict=True)} == {(results[0].start, results[0].amount)}
    picture = ElementTree.parse(tmp_path / "efficiency.svg").getroot()
    sentence = "Checkpoints were selected on the test films: these figures are too good."
    assert sentence in [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    lines = told(tmp_path, "auroc_macro").splitlines()
    assert sentence in lines and [line for line in lines if line.endswith("3 seeds  selected on test")] == [lines[1]]


def test_a_start_keeps_the_name_that_it_was_given(results, tmp_path):
    named = [Result({"mae": "1.50", "scratch": "null"}[one.start], one.amount, one.seed, one.run) for one in results]
    write(tmp_path, named, "fraction", "auroc_macro")
    lines = told(tmp_path, "auroc_macro").splitlines()[1:5]
    assert [line.split()[0] for line in lines] == ["1.50", "1.50", "null", "null"]


def test_the_picture_has_a_line_per_start_that_rises_with_its_figures(results, tmp_path):
    write(tmp_path, results, "fraction", "auroc_macro")
    picture = ElementTree.parse(tmp_path / "efficiency.svg").getroot()
    name = "{http://www.w3.org/2000/svg}"
    lines = [[[float(part) for part in point.split(",")] for point in line.get("points").split()]
             for line in picture.iter(f"{name}polyline")]  # fmt: skip
    assert len(lines) == 2
    assert all(line[0][0] < line[1][0] and line[0][1] > line[1][1] for line in lines)
    assert len(list(picture.iter(f"{name}polygon"))) == 2
    words = [text.text for text in picture.iter(f"{name}text")]
    assert {"1 %", "100 %", "mae 0.810", "scratch 0.720"} <= {*words}


def test_a_single_amount_and_a_single_seed_can_be_drawn():
    rows = pd.DataFrame([{"start": "a", "shots": 5, "mean": 0.7, "low": np.nan, "high": np.nan}])
    assert "a 0.700" in drawn(rows, "shots", "auroc_macro")


def test_a_metric_that_does_not_exist_is_said_with_those_that_do(results, tmp_path):
    write(tmp_path, results, "fraction", "f1")
    assert "no training has the figure 'f1'; they have auroc_macro" in told(tmp_path, "f1")
    assert "mae                 0.01  0.627" in told(tmp_path, "auroc_macro")


def test_an_interval_ends_where_the_figure_can_go_no_further():
    def run(seed, **metrics):
        return {"start": "a", "amount": 0.1, "seed": seed, "training": 5, "metrics": metrics}

    runs = [run(0, auroc_macro=0.99, kappa=0.05), run(1, auroc_macro=0.9, kappa=-0.2)]
    table = summarised(runs).set_index("metric")
    assert table.loc["auroc_macro", "high"] == 1 and 0 <= table.loc["auroc_macro", "low"] < 0.9
    assert table.loc["kappa", "low"] == -1 and table.loc["kappa", "high"] == 1
