import json
from pathlib import Path

import numpy as np
import pytest
from classifiers import PHANTOMS, fitted, measured

from xrayssl.cli import main
from xrayssl.comparison.inference import over_seeds
from xrayssl.comparison.selection import Entry
from xrayssl.comparison.tested import Measured
from xrayssl.explained import recipes, several
from xrayssl.explained.collection import Collection

FEW = ["--sheets", "2", "--random_weights", "1", "--class", "Effusion"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two recipes of two seeds."""
    found = {}
    for recipe, options in {
        "plain": "backbone: test_resnet",
        "dropped": "backbone: test_resnet, drop_path: 0.1",
    }.items():
        for seed in (0, 1):
            folder = tmp_path_factory.mktemp(f"{recipe}{seed}")
            found[recipe, seed] = measured(fitted(folder, PHANTOMS, options, "--seed_everything", str(seed)))
    return found


def words(runs, out):
    return ["explain", *(f"{recipe}={run}" for (recipe, _), run in runs.items()), "--out", str(out), *FEW]


@pytest.fixture(scope="module")
def compared(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared")
    assert main(words(runs, out)) == 0
    return out, json.loads((out / "explain.json").read_text())


def test_recipes_are_compared_by_their_maps_over_seeds_and_patients(compared):
    _, content = compared
    (one,) = [one for one in content["differences"] if one["metric"] == "empty_rate"]
    assert (one["recipe"], one["reference"], one["seeds"]) == ("dropped", "plain", [0, 1]) and one[
        "scope"
    ] == "seeds and patients"
    assert content["repeatability"][0]["seeds"] == 2 and {row["null"] for row in content["nulls"]} >= {
        "uniform",
        "random_weights",
    }


def test_the_pages_turn_recipe_by_recipe_and_open_offline(compared):
    out, _ = compared
    (slider,) = out.glob("slider-*.html")
    assert 'data-names="plain|dropped"' in slider.read_text() and "http" not in slider.read_text().replace(
        "http-equiv", ""
    )
    assert "What nothing learned gives" in (out / "recipes.html").read_text()


def test_what_is_explained_is_not_explained_again(runs, compared, monkeypatch):
    monkeypatch.setattr(several, "collect", None)
    before = (compared[0] / "recipes.csv").read_text()
    assert main(words(runs, compared[0])) == 0
    assert (compared[0] / "recipes.csv").read_text() == before


def collection(value, patients, right=True):
    import pandas as pd

    maps = np.ones((len(patients), 2, 2)) * np.asarray(value, float)[:, None, None]
    maps[:, 0, 0] += 1
    table = pd.DataFrame({"row": range(len(patients)), "patient": patients, "class": "a", "right": right})
    return Collection(table, maps, {}, {"films": "x", "task": "multiclass", "names": ["a"]})


def test_a_patient_counts_by_all_its_films_in_every_resample():
    made = collection([1, 2, 4], ["p", "p", "q"])
    found = recipes.measure(Entry("r", 1.0, 0, Path()), made, ["p", "q"])
    gini = recipes.numbers(made.map_Nhw, {})["gini"]
    assert isinstance(found, Measured) and found.value["gini"] == pytest.approx(gini.mean())
    means = {round(value, 9) for value in found.cloud["gini"]}
    assert means == {round(value, 9) for value in (gini[:2].mean(), gini[2], gini.mean())}


def test_numbers_of_right_predictions_leave_the_others_out():
    made = collection([1, 2, 4], ["p", "q", "r"], [True, False, False])
    found = recipes.measure(Entry("r", 1.0, 0, Path()), made, ["p", "q", "r"])
    assert found.value["gini/right"] == recipes.numbers(made.map_Nhw, {})["gini"][0] != found.value["gini"]


def test_an_interval_over_seeds_comes_from_the_comparisons_own_formula(compared):
    entries = [one for one in compared[1]["recipes"] if one["recipe"] == "plain"]
    per_seed = [*entries[0]["metrics"]["empty_rate"]["per_seed"].values()]
    told = over_seeds(np.array(per_seed), np.zeros((2, 5)), 5)
    assert entries[0]["metrics"]["empty_rate"]["value"] == pytest.approx(told.value)
