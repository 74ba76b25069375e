import json

import numpy as np
import pandas as pd
import pytest
import torch

from xrayssl.classifier import load
from xrayssl.cli import main
from xrayssl.explain import cam, statistics


def row(content, name):
    (found,) = [one for one in content["numbers"] if one["name"] == name]
    return found


def test_the_maps_are_those_of_the_engine_at_their_own_grid(run, explained):
    out, _ = explained
    table, maps = pd.read_parquet(out / "films.parquet"), np.load(out / "maps.npz")["map"]
    model = load(run)
    entry = table.iloc[5]
    image = torch.from_numpy(model.viewing.view(model.viewing.film(entry["film"])))[None, None]
    number = model.classes.index(entry["class"])
    expected, logit = cam.maps(
        model.method, model.method.backbone.grid, model.method.backbone.normalize(image), [number]
    )
    np.testing.assert_allclose(maps[5], expected[0, 0], atol=1e-5 * max(1e-6, float(expected.max())) + 1e-7)
    assert entry["probability"] == pytest.approx(float(logit.sigmoid()), abs=1e-5)


def test_every_named_class_is_explained_in_every_test_film(run, explained):
    table = pd.read_parquet(explained[0] / "films.parquet")
    tested = pd.read_parquet(next(run.glob("test*/predictions.parquet")))
    assert len(table) == 2 * len(tested) and {*table["film"]} == {*tested["film"]}


def test_the_means_are_those_of_the_maps(explained):
    out, content = explained
    values = statistics.edge_energy(np.load(out / "maps.npz")["map"], 0.125)
    found = row(content, "edge_energy_0.125")
    assert found["value"] == pytest.approx(np.nanmean(values), rel=1e-5)
    assert found["nulls"]["uniform"]["difference"] == pytest.approx(found["value"] - 1)
    assert {*found["nulls"]} == {"uniform", "centred_gaussian", "random_weights"}


def test_boxes_of_the_corpus_are_among_the_numbers(explained):
    found = row(explained[1], "relative_energy/box")
    assert 0 < found["films"] < explained[1]["maps"] and "other_patients" in found["nulls"]


def test_p_is_adjusted_over_the_whole_table(explained):
    every = [one for row in explained[1]["numbers"] for one in row["nulls"].values() if one["p"] is not None]
    assert every and all(one["p_holm"] >= one["p"] for one in every)


def test_the_page_has_films_and_fetches_nothing(explained):
    text = (explained[0] / "explain.html").read_text()
    assert text.count("data:image/jpeg") == 3 and "http" not in text.replace("http-equiv", "").replace(
        "http://www.w3.org", ""
    )
    assert "This is one checkpoint" in text and len([*(explained[0] / "sheets").glob("*.png")]) == 3


def test_what_costs_many_passes_is_there_and_may_be_left_out(run, explained, tmp_path):
    assert explained[1]["faithfulness"]["films"] <= 4 and explained[1]["cascade"][0]["lost"] == "head"
    words = ["explain", "--run", str(run), "--out", str(tmp_path / "x"), "--sheets", "0", "--random_weights", "0",
             "--faithful", "0", "--cascade", "0", "--class", "Effusion"]  # fmt: skip
    assert main(words) == 0
    content = json.loads((tmp_path / "x" / "explain.json").read_text())
    assert content["faithfulness"] is None and content["cascade"] is None and "centred_gaussian" in content["profile"]


@pytest.mark.parametrize(("words", "told"), [
    ([], "explain needs a trained run"),
    (["--run", "RUN", "--class", "Efusion"], "Did you mean Effusion"),
    (["--run", "RUN", "--kind", "grad_kam"], "invalid choice"),
    (["--run", "RUN", "--layer", "backbone.network.layer33"], "has no layer"),
    (["--run", "RUN", "--sheets", "-1"], "must be 0 or more"),
    (["RUN", "--run", "RUN"], "give one of both"),
    (["--run", "RUN", "--kind", "rollout"], "--kind rollout"),
])  # fmt: skip
def test_mistakes_end_in_a_sentence(run, words, told, capsys):
    assert main(["explain", *(str(run) if word == "RUN" else word for word in words)]) == 2
    assert told in capsys.readouterr().err


def test_a_folder_that_holds_something_is_not_written_to(run, explained, capsys):
    assert main(["explain", "--run", str(run), "--out", str(explained[0]), "--class", "Effusion"]) == 2
    assert "not empty" in capsys.readouterr().err
