import json

import pytest
from chains_of import written

from xrayssl.chains import perform
from xrayssl.chains.record import joined
from xrayssl.cli import main

RECIPES = {"alone": ["tune"], "mae": ["mae", "tune"]}


def run(recipe, seed, settings="s"):
    return {"recipe": recipe, "seed": seed, "fraction": 1.0, "settings": settings}


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Runs the verb without training, and returns the recipes and seeds that study.json then has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(perform, "perform", lambda stages, store, launcher=(), **more: 0)

    def asked(*words):
        assert main(["chain", "--config", written(tmp_path, RECIPES), *words]) == 0
        told = json.loads((tmp_path / "runs" / "studies" / "study" / "study.json").read_text())
        return sorted((one["recipe"], one["seed"], one["fraction"]) for one in told["runs"])

    return asked


def test_a_study_grows_by_seeds_and_recipes(results):
    results("--recipes", "alone", "--seeds", "0")
    assert results("--seeds", "1") == [("alone", 0, 1.0), ("alone", 1, 1.0), ("mae", 1, 1.0)]
    assert ("mae", 1, 1.0) in results("--recipes", "alone", "--seeds", "2", "--fractions", "0.5")


def test_results_that_were_trained_otherwise_leave_the_study(results, capsys):
    results("--seeds", "0", "1")
    capsys.readouterr()
    assert results("--recipes", "alone", "--seeds", "2", "--tune.model.optim.lr", "0.5") == [("alone", 2, 1.0)]
    assert "4 results of earlier commands leave" in capsys.readouterr().err


def test_a_recipe_asked_for_now_keeps_what_is_alike_and_others_unless_something_changed():
    now = [run("a", 1)]
    assert joined(now, [run("a", 0), run("b", 0, "t")]) == ([run("a", 0), run("b", 0, "t")], [])
    assert joined(now, [run("a", 0, "u"), run("b", 0)]) == ([], [run("a", 0, "u"), run("b", 0)])
    assert joined(now, [run("a", 1, "u"), run("b", 0)]) == ([], [run("b", 0)])
