import json

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from predicted import CLASSES, study, trained
from scipy import stats

from xrayssl.comparison import tested
from xrayssl.comparison.comparison import compare
from xrayssl.comparison.page import sentences
from xrayssl.comparison.selection import select
from xrayssl.errors import UserError

RECIPES = {"random": 0.3, "mae": 1.0, "other": 0.35}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("xrayssl.comparison.tested.RESAMPLES", 64)
    monkeypatch.setattr(tested.measure, "__defaults__", (64,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return study(tmp_path_factory.mktemp("study"), RECIPES, networks=("resnet18",), fractions=(0.1, 1.0))


def compared(*words, reference=None, metrics=()):
    return compare(select([str(word) for word in words]), reference, metrics)


def row(content, part, **wanted):
    (found,) = [one for one in content[part] if all(one[key] == value for key, value in wanted.items())]
    return found


def test_means_are_over_the_figures_of_the_runs(folder):
    content = compared(folder)
    files = [folder / f"mae-resnet18-1.0-{seed}" / "test" / "metrics.json" for seed in range(3)]
    values = [json.loads(path.read_text())["metrics"]["auroc_macro"]["value"] for path in files]
    entry = row(content, "recipes", recipe="mae", fraction=1.0)["metrics"]["auroc_macro"]
    assert entry["value"] == pytest.approx(np.mean(values)) and entry["sd"] == pytest.approx(np.std(values, ddof=1))
    assert [*entry["per_seed"].values()] == pytest.approx(values) and entry["low"] < entry["value"] < entry["high"]


def test_every_metric_of_the_runs_is_compared(folder):
    metrics = json.loads((folder / "mae-resnet18-1.0-0" / "test" / "metrics.json").read_text())["metrics"]
    content = compared(folder)
    assert {*row(content, "recipes", recipe="mae", fraction=1.0)["metrics"]} == {*metrics}
    assert {one["metric"] for one in content["differences"]} == {*metrics}


def test_the_interval_of_a_difference_holds_patients_beside_seeds(folder):
    content = compared(folder)
    one = row(content, "differences", recipe="mae", fraction=1.0, metric="auroc_macro")
    ours, theirs = (row(content, "recipes", recipe=name, fraction=1.0)["metrics"]["auroc_macro"]["per_seed"]
                    for name in ("mae", "random"))  # fmt: skip
    apart = np.array([ours[seed] - theirs[seed] for seed in ours])
    assert one["value"] == pytest.approx(apart.mean()) and one["seeds"] == [0, 1, 2]
    assert one["t"] <= stats.ttest_1samp(apart, 0).statistic + 1e-9 and one["df"] >= 2


def test_p_is_adjusted_over_the_recipes_of_a_table(folder):
    found = [one for one in compared(folder)["differences"] if (one["metric"], one["fraction"]) == ("brier", 1.0)]
    assert len(found) == 2
    low, high = sorted(found, key=lambda one: one["p"])
    assert low["p_holm"] == pytest.approx(min(1, 2 * low["p"])) and high["p_holm"] >= low["p_holm"]


def test_networks_are_compared_each_with_its_own_reference(tmp_path):
    content = compared(study(tmp_path, {"random": 0.3, "mae": 1.0}, networks=("resnet18", "vit")))
    assert {(one["network"], one["recipe"]) for one in content["differences"]} == {("resnet18", "mae"), ("vit", "mae")}
    p = [(one["p"], one["p_holm"]) for one in content["differences"] if one["metric"] == "auroc_macro"]
    assert min(p)[1] == pytest.approx(min(1, 2 * min(p)[0]))  # one table, although two networks


def test_with_one_seed_nothing_is_said_of_recipes(tmp_path):
    content = compared(study(tmp_path, RECIPES, seeds=(0,)))
    one = row(content, "differences", recipe="mae", metric="auroc_macro")
    assert one["scope"] == "within-checkpoint only" and one["low"] < one["value"] < one["high"]
    assert [one[key] for key in ("p", "p_holm", "t", "effect")] == [None] * 4
    assert content["tables"][0]["ranked"] is False and "Within-checkpoint only" in content["notes"][0]


def test_two_seeds_are_said_to_be_too_few_for_a_narrow_interval_to_mean_much(tmp_path):
    notes = {count: " ".join(compared(study(tmp_path / str(count), RECIPES, seeds=range(count)))["notes"])
             for count in (2, 3)}  # fmt: skip
    assert "narrow by luck" in notes[2] and "narrow by luck" not in notes[3] and "wide" not in notes[2]


def test_nothing_is_called_better_after_two_seeds(tmp_path):
    """With p as small as with three, which is what calls it better there."""
    content = compared(study(tmp_path, RECIPES))
    sure = [one | {"p_holm": 0.001} for one in content["differences"]]
    of = {count: [one | {"seeds": one["seeds"][:count]} for one in sure] for count in (2, 3)}
    said = {count: " ".join(sentences(content | {"differences": of[count]})) for count in of}
    assert "is better than" in said[3] and "is better than" not in said[2]


def test_differences_are_over_the_seeds_that_both_recipes_have(tmp_path):
    content = compared(study(tmp_path, RECIPES, untrained=[("mae", 1)]))
    assert row(content, "differences", recipe="mae", metric="auroc_macro")["seeds"] == [0, 2]
    assert row(content, "differences", recipe="other", metric="auroc_macro")["seeds"] == [0, 1, 2]
    assert any("Missing: mae, seed 1 (not trained)" in note for note in content["notes"])


def test_recipes_that_lack_the_same_are_told_in_one_sentence(tmp_path):
    content = compared(study(tmp_path, RECIPES, untrained=[("mae", 1), ("other", 1)]))
    (told,) = [note for note in content["notes"] if "Missing" in note]
    assert told.startswith("Missing: mae and other, seed 1 (not trained)")


def test_a_shared_pretraining_is_said(tmp_path, folder):
    content = compared(study(tmp_path / "s", {"mae": 1.0}, pretraining_seed=7))
    assert any("share one pretraining (seed 7)" in note for note in content["notes"])
    same = [f"a={trained(tmp_path / str(seed), 'a', seed, parents=['w'])}" for seed in (0, 1)]
    assert any("start from the same weights" in note for note in compared(*same)["notes"])
    assert not any("pretraining" in note for note in compared(folder)["notes"])


def test_selection_on_test_is_marked_on_the_mean_and_on_the_difference(tmp_path):
    folder = study(tmp_path / "s", {"random": 0.3, "mae": 1.0})
    trained(folder / "mae-resnet18-1.0-1", "mae", 1, selected_on="test")
    content = compared(folder)
    assert row(content, "recipes", recipe="mae")["selected_on"] == "test"
    assert row(content, "recipes", recipe="random")["selected_on"] == "val"
    assert {one["selected_on"] for one in content["differences"]} == {"test"}


@pytest.mark.parametrize(
    ("change", "words"),
    [({"patients": 61}, "test films are not the same"), ({"classes": ["a", "b"]}, "classes differ"),
     ({"unit": "study"}, "films and studies are mixed")],
)  # fmt: skip
def test_tests_of_something_else_are_refused_in_one_sentence(tmp_path, change, words):
    runs = trained(tmp_path / "a", "a"), trained(tmp_path / "b", "b", **change)
    with pytest.raises(UserError, match=words) as refused:
        compared(*(f"{run.name}={run}" for run in runs))
    assert len(refused.value.messages) == 1


def test_other_labels_of_the_same_films_are_refused(tmp_path):
    runs = trained(tmp_path / "a", "a"), trained(tmp_path / "b", "b")
    path = runs[1] / "test" / "predictions.parquet"
    before = pyarrow.parquet.read_table(path)
    table = before.to_pandas()
    table.loc[0, f"label/{CLASSES[0]}"] = 1 - table.loc[0, f"label/{CLASSES[0]}"]
    changed = pyarrow.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(before.schema.metadata)
    pyarrow.parquet.write_table(changed, path)
    with pytest.raises(UserError, match="different labels"):
        compared(*(f"{run.name}={run}" for run in runs))


def test_films_that_have_moved_are_the_same_films(tmp_path):
    runs = trained(tmp_path / "a", "a"), trained(tmp_path / "b", "b", root="/mnt/other/films")
    assert len(compared(*(f"{run.name}={run}" for run in runs))["recipes"]) == 2


def test_figures_that_do_not_follow_from_the_predictions_are_refused(tmp_path):
    run = trained(tmp_path / "a", "a")
    path = run / "test" / "metrics.json"
    figures = json.loads(path.read_text())
    figures["metrics"]["auroc_macro"]["value"] += 0.01
    path.write_text(json.dumps(figures))
    with pytest.raises(UserError, match=r"auroc_macro in metrics\.json does not follow from predictions.parquet"):
        compared(run)


def test_studies_are_scored_as_their_tests_scored_them(tmp_path):
    runs = [trained(tmp_path / f"{seed}", "a", seed, unit="study") for seed in (0, 1)]
    content = compared(*(f"a={run}" for run in runs))
    assert content["unit"] == "study" and content["recipes"][0]["metrics"]["auroc_macro"]["low"] is not None


def test_an_unknown_reference_or_metric_is_refused_with_the_nearest(folder):
    with pytest.raises(UserError, match="Did you mean random"):
        compared(folder, reference="randm")
    with pytest.raises(UserError, match="Did you mean auroc_macro"):
        compared(folder, metrics=["auroc_marco"])


def test_curves_end_in_their_corners_and_hold_the_auroc(folder):
    content = compared(folder)
    curve = row({"curves": content["curves"][CLASSES[0]]}, "curves", recipe="mae", seed=0)
    x, y = curve["roc"]["x"], curve["roc"]["y"]
    assert ((x[0], y[0]), (x[-1], y[-1])) == ((0, 0), (1, 1)) and len(x) <= 100
    entry = row(content, "recipes", recipe="mae", fraction=1.0)["metrics"][f"auroc/{CLASSES[0]}"]
    assert np.trapezoid(y, x) == pytest.approx(entry["per_seed"]["0"], abs=0.01)


def test_the_structure_is_plain_json_without_films_or_patients(folder):
    text = json.dumps(compared(folder), allow_nan=False)
    assert "/films" not in text and "p001" not in text and json.loads(text)["version"] == 1


def test_the_headline_comes_first_and_what_is_asked_for_is_shown(folder):
    assert compared(folder)["headline"] == "auroc_macro"
    content = compared(folder, metrics=["f1_macro", "brier"])
    assert (content["headline"], content["metrics"]) == ("f1_macro", ["f1_macro", "brier"])
    assert pd.Series(content["fractions"]).is_monotonic_decreasing
