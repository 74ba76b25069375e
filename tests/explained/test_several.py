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
from xrayssl.explained.collection import Collection, alike
from xrayssl.explained.storage import load, save

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


def collection(value, patients, right=1.0):
    import pandas as pd

    maps = np.ones((len(patients), 2, 2)) * np.asarray(value, float)[:, None, None]
    maps[:, 0, 0] += 1
    films = [f"x/{number}.png" for number in range(len(patients))]
    table = pd.DataFrame(
        {"row": range(len(patients)), "film": films, "patient": patients, "class": "a", "right": right}
    )
    return Collection(table, maps, {}, {"films": "x", "task": "multiclass", "names": ["a"]})


def test_a_patient_counts_by_all_its_films_in_every_resample():
    made = collection([1, 2, 4], ["p", "p", "q"])
    found = recipes.measure(Entry("r", 1.0, 0, Path()), made, ["p", "q"], ())
    gini = recipes.numbers(made.map_Nhw, {})["gini"]
    assert isinstance(found, Measured) and found.value["gini"] == pytest.approx(gini.mean())
    means = {round(value, 9) for value in found.cloud["gini"]}
    assert means == {round(value, 9) for value in (gini[:2].mean(), gini[2], gini.mean())}


def test_figures_in_right_are_of_the_films_that_all_runs_of_a_network_say_rightly():
    one, two = (collection([1, 2, 4], ["p", "q", "r"], right) for right in ([1, 1, 0], [1, 0, np.nan]))
    entries = [Entry("a", 1.0, 0, Path(), network="n"), Entry("b", 1.0, 0, Path(), network="n")]
    right = recipes.right_in_all(list(zip(entries, (one, two), strict=True)))["n"]
    found = recipes.measure(entries[0], one, ["p", "q", "r"], right)
    assert found.value["gini/right"] == recipes.numbers(one.map_Nhw, {})["gini"][0] != found.value["gini"]


def test_collections_are_known_by_films_and_classes_and_not_by_rows():
    one, two, other = (collection([1, 2], ["p", "q"]) for _ in range(3))
    two.table["row"] += 7
    other.table["film"] = ["x/9.png", "x/8.png"]
    assert alike([one, two]) and not alike([one, other])


def test_an_interval_over_seeds_holds_seeds_and_patients(compared):
    (row,) = [one for one in compared[1]["recipes"] if one["recipe"] == "plain"]
    kept = [load(path, json.loads((path / "facts.json").read_text())) for path in (
        compared[0] / "maps" / f"plain-test_resnet-1-{seed}" for seed in (0, 1))]  # fmt: skip
    everybody = sorted({patient for one in kept for patient in one.patients})
    made = [recipes.measure(Entry("plain", 1.0, seed, Path()), one, everybody, ()) for seed, one in enumerate(kept)]
    value, cloud = ([getattr(one, part)["empty_rate"] for one in made] for part in ("value", "cloud"))
    told = over_seeds(np.array(value), np.stack(cloud), len(everybody))
    entry = row["metrics"]["empty_rate"]
    ends = (None, None) if told.low is None else (pytest.approx(max(0.0, told.low)), pytest.approx(min(1.0, told.high)))
    assert (entry["low"], entry["high"]) == ends and entry["value"] == pytest.approx(told.value)


def test_maps_of_other_settings_are_not_taken_nor_half_written_ones(tmp_path, monkeypatch):
    made = collection([1, 2], ["p", "q"])
    save(made, tmp_path)
    assert load(tmp_path, made.facts) is not None and load(tmp_path, made.facts | {"kind": "other"}) is None
    (tmp_path / "maps.npz").write_bytes(b"PK cut off")
    assert load(tmp_path, made.facts) is None
    monkeypatch.setattr("xrayssl.explained.storage.np.savez_compressed", None)
    with pytest.raises(TypeError):
        save(made, tmp_path)
    assert not (tmp_path / "facts.json").exists()
