import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import recall_score, roc_auc_score

from xrayssl import results
from xrayssl.errors import UserError
from xrayssl.metrics import Gathered
from xrayssl.series.pooling import after_test, pool, summary
from xrayssl.statistics.calibration import scaled
from xrayssl.statistics.operating import Operating

CLASSES = ["mass", "edema"]
THRESHOLDS = [{"mass": 0.3, "edema": 0.5}, {"mass": 0.7, "edema": None}]
TEMPERATURES = [0.5, 3.0]


def films(folds=2, each=60):
    """Two films a patient; scores of the second fold are shifted up, as those of another model may be."""
    rng = np.random.default_rng(0)
    count = folds * each
    label = (rng.random((count, 2)) < 0.4).astype(np.float32)
    fold = np.repeat(np.arange(folds), each)
    probability = np.clip(0.25 * label + 0.3 * fold[:, None] + 0.4 * rng.random((count, 2)), 0.01, 0.99)
    patient = [f"p{i // 2}" for i in range(count)]
    table = pd.DataFrame({"path": [f"/{i}.png" for i in range(count)], "corpus": "folder", "patient": patient,
                          "study": patient, "view": "PA", "split": "train"})  # fmt: skip
    shuffled = rng.permutation(count)  # rows of the manifest are in no order of folds
    return (
        table.iloc[shuffled].reset_index(drop=True),
        label[shuffled],
        probability.astype(np.float32)[shuffled],
        fold[shuffled],
    )


@pytest.fixture
def made(tmp_path):
    table, label, probability, fold = films()
    for number, (threshold, temperature) in enumerate(zip(THRESHOLDS, TEMPERATURES, strict=True)):
        rows = np.flatnonzero(fold == number)
        tuned = Operating("youden", "val", 40, threshold, temperature)
        folder = tmp_path / f"fold-{number + 1}" / "test"
        folder.mkdir(parents=True)
        gathered = Gathered(rows, probability[rows], label[rows])
        results.write(folder, table, gathered, "multilabel", CLASSES, "test", tuned=tuned)
    return tmp_path


def pooled(folder):
    return pool(folder, [after_test(folder / "fold-1"), after_test(folder / "fold-2")], films()[0])


def test_every_film_is_in_the_pool_once_and_its_figures_are_those_of_all_films(made):
    table, label, probability, _ = films()
    figures = pooled(made)
    found = pd.read_parquet(made / results.PREDICTIONS)
    assert (found["film"].tolist(), figures["films"]) == (table["path"].tolist(), len(table))
    assert found["split"].unique().tolist() == ["test"]
    expected = [roc_auc_score(label[:, k], probability[:, k]) for k in range(2)]
    assert [figures["metrics"][f"auroc/{name}"]["value"] for name in CLASSES] == pytest.approx(expected)
    assert figures["metrics"]["auroc_macro"]["low"] < np.mean(expected) < figures["metrics"]["auroc_macro"]["high"]


def test_decisions_are_made_at_each_folds_own_threshold(made):
    _, label, probability, fold = films()
    metrics = pooled(made)["metrics"]
    called = probability[:, 0] >= np.where(fold == 0, 0.3, 0.7)
    assert metrics["sensitivity/mass"]["value"] == pytest.approx(recall_score(label[:, 0], called))
    assert metrics["specificity/mass"]["value"] == pytest.approx(recall_score(1 - label[:, 0], ~called))
    first = fold == 0
    expected = recall_score(label[first, 1], probability[first, 1] >= 0.5)
    assert metrics["sensitivity/edema"]["value"] == pytest.approx(expected)
    assert metrics["sensitivity/mass"]["low"] < metrics["sensitivity/mass"]["high"]


def test_a_fold_without_a_threshold_is_named(made):
    assert pooled(made)["folds"]["without_threshold"] == {"edema": [2]}


def test_scaled_probabilities_have_each_folds_own_temperature(made):
    table, label, probability, fold = films()
    after = probability.astype(float)
    for number, temperature in enumerate(TEMPERATURES):
        after[fold == number] = scaled(after[fold == number], temperature, "multilabel")
    expected = results.evaluate(after, label, table["patient"], "multilabel", CLASSES, resamples=0)["metrics"][
        "ece/mass"
    ]
    assert pooled(made)["metrics"]["ece_scaled/mass"]["value"] == pytest.approx(expected["value"])


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_folds_that_decide_alike_say_of_their_figures_what_one_test_of_all_films_says(tmp_path, task):
    rng = np.random.default_rng(1)
    label = np.zeros((12, 3), np.float32)
    label[np.arange(12), np.where(rng.random(12) < 0.5, 0, 1)] = 1  # of the third class there is no film
    probability = 0.1 + 0.2 * rng.random((12, 3)).astype(np.float32) + 0.5 * label * (rng.random((12, 1)) < 0.9)
    table = films(2, 6)[0].assign(path=[f"/{i}.png" for i in range(12)], split="test")
    tuned = Operating("youden", "val", 40, dict.fromkeys("abc", 0.4), 1.5)
    for folder, rows in {"one": np.arange(12), "fold-1": np.arange(6), "fold-2": np.arange(6, 12)}.items():
        (tmp_path / folder / "test").mkdir(parents=True)
        gathered = Gathered(rows, probability[rows], label[rows])
        results.write(tmp_path / folder / "test", table, gathered, task, list("abc"), "test", tuned=tuned)
    one, *folds = (after_test(tmp_path / folder) for folder in ("one", "fold-1", "fold-2"))
    both = pool(tmp_path, folds, table)
    assert both["metrics"] == one.figures["metrics"] and both["macro_without"] == one.figures["macro_without"]
    expected = one.figures["interval"]
    assert both["interval"]["left_out"] == expected["left_out"] and {*both["interval"]["exact"]} == {*expected["exact"]}
    assert "sensitivity/a" in expected["left_out"] and "specificity/c" in expected["exact"]
    assert len({*both["interval"]["exact"]}) == len(both["interval"]["exact"])


def test_the_mean_over_folds_stands_beside_the_pool_and_tells_another_story(made):
    figures = pooled(made)
    each = [
        json.loads((made / f"fold-{i}/test/metrics.json").read_text())["metrics"]["auroc/mass"]["value"] for i in (1, 2)
    ]
    assert figures["folds"]["mean"]["auroc/mass"] == pytest.approx(np.mean(each))
    assert figures["folds"]["sd"]["auroc/mass"] == pytest.approx(np.std(each, ddof=1))
    assert figures["metrics"]["auroc/mass"]["value"] < figures["folds"]["mean"]["auroc/mass"]  # the shift of scores
    assert "no standard error" in figures["folds"]["note"]
    assert "mean of 2 folds" in summary(figures)


def test_the_file_holds_what_is_returned(made):
    figures = pooled(made)
    assert json.loads((made / results.METRICS).read_text()) == json.loads(json.dumps(figures, default=str))


def test_a_film_that_was_tested_twice_is_refused(made):
    with pytest.raises(UserError, match="was tested in two folds"):
        pool(made, [after_test(made / "fold-1"), after_test(made / "fold-1")], films()[0])


def test_selection_on_the_test_films_marks_the_pool(made):
    path = made / "fold-2" / "test" / results.METRICS
    path.write_text(json.dumps(json.loads(path.read_text()) | {"selected_on": "test"}))
    assert pooled(made)["selected_on"] == "test"
