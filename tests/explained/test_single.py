import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from classifiers import films

from xrayssl.classifier import load
from xrayssl.cli import main
from xrayssl.explain import cam, statistics
from xrayssl.explained import figures
from xrayssl.explained.collection import Collection


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
    least = min(every, key=lambda one: one["p"])
    assert len(every) > 10 and least["p_holm"] == pytest.approx(min(1.0, least["p"] * len(every)))


def test_another_random_network_is_seldom_told_from_random_networks():
    rng, wrong = np.random.default_rng(0), 0
    table = pd.DataFrame({"patient": [str(k) for k in range(30)], "class": "a", "row": range(30)})
    for _ in range(20):
        grids = [rng.random(16) ** 2 for _ in range(5)]  # every network has its favourite cells
        maps = [(grid + 0.05 * rng.random((30, 16))).reshape(30, 4, 4) for grid in grids]
        rows = figures.beside_nulls(Collection(table, maps[0], {}, {}), maps[1:])
        wrong += sum(row["nulls"]["random_weights"]["p"] < 0.05 for row in rows if row["name"] == "center_dy")
    assert wrong <= 4  # of 20, one expected


def test_the_null_of_other_patients_is_of_the_same_class():
    rng, places = np.random.default_rng(0), {"a": (0, 0), "b": (3, 3)}
    classes = np.repeat(["a", "b"], 30)
    maps, region = 0.01 + 0.01 * rng.random((60, 4, 4)), np.zeros((60, 4, 4))
    for number, name in enumerate(classes):  # maps that know the class, and nothing of the film
        maps[number][places[name]] += 1
        region[number][places[name]] = 1
    table = pd.DataFrame({"patient": [str(k % 30) for k in range(60)], "class": classes, "row": range(60)})
    found = figures.beside_nulls(Collection(table, maps, {"box": region}, {}), [])
    (one,) = [row for row in found if row["name"] == "relative_energy/box"]
    assert abs(one["nulls"]["other_patients"]["difference"]) < 0.1 and one["nulls"]["uniform"]["p_holm"] < 0.05


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
    (["--run", "RUN", "--data.split_seed", "3"], "has no place beside --run"),
    (["--run", "RUN", "--data.img_size", "96"], "trained on films of 64 x 64"),
    (["--run", "RUN", "--config", "finetune_chest"], "has no place beside runs"),
    (["--run", "RUN", "--masks", "/no/such"], "there is no such folder"),
    (["RUN", "--class", "prediction"], "cannot be compared"),
    (["RUN", "--faithful", "3"], "give --run RUN"),
])  # fmt: skip
def test_mistakes_end_in_a_sentence(run, words, told, capsys):
    assert main(["explain", *(str(run) if word == "RUN" else word for word in words)]) == 2
    assert told in capsys.readouterr().err


def test_a_folder_that_holds_something_is_not_written_to(run, explained, capsys):
    assert main(["explain", "--run", str(run), "--out", str(explained[0]), "--class", "Effusion"]) == 2
    assert "not empty" in capsys.readouterr().err


def few(run, out, *words):
    none = [word for name in ("random_weights", "faithful", "cascade") for word in (f"--{name}", "0")]
    return ["explain", "--run", str(run), "--out", str(out), "--sheets", "1", *none, *words]


def test_other_films_stand_in_place_of_the_runs_own_and_may_have_no_labels(run, tmp_path):
    films(tmp_path / "films")
    assert main(few(run, tmp_path / "x", "--class", "Effusion", "--data.corpora.folder", str(tmp_path / "films"))) == 0
    table = pd.read_parquet(tmp_path / "x" / "films.parquet")
    assert len(table) == 8 and table["label"].isna().all() and table["film"].str.contains("films/test").all()


def test_labels_are_found_by_name_whatever_their_order(run, explained, tmp_path):
    names = load(run).classes
    assert (
        main(few(run, tmp_path / "x", "--class", "Effusion", "--data.labels", f"[{', '.join(reversed(names))}]")) == 0
    )
    found, usual = (pd.read_parquet(path / "films.parquet") for path in (tmp_path / "x", explained[0]))
    usual = usual[usual["class"] == "Effusion"]
    assert found["label"].tolist() == usual["label"].tolist() and {*found["label"]} == {0.0, 1.0}


def test_what_no_threshold_decides_is_neither_right_nor_missed(run, tmp_path):
    for metrics in run.glob("test*/metrics.json"):
        content = json.loads(metrics.read_text())
        copy = tmp_path / "run"
        shutil.copytree(run, copy)
        content["operating"]["threshold"]["Effusion"] = None
        next(copy.glob("test*/metrics.json")).write_text(json.dumps(content))
    assert main(few(copy, tmp_path / "x", "--class", "Effusion")) == 0
    assert pd.read_parquet(tmp_path / "x" / "films.parquet")["right"].isna().all()
