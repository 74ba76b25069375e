import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chains_of import chain, own, written
from PIL import Image
from tokenizers import untrained

from xrayssl.chains import graph, leaks, spec
from xrayssl.cli import main
from xrayssl.errors import UserError


def table(corpus, patients, paths, **more):
    return pd.DataFrame({"corpus": corpus, "patient": patients, "path": paths, **more})


LEARNED = table("nih", ["p1", "p2", "p3"], ["/a/x/1.png", "/a/x/2.png", "/a/x/3.png"], sha256=["s1", "", "s3"])


def test_a_patient_of_the_same_corpus_is_found():
    held = table("nih", ["p2"], ["/b/y/9.png"])
    assert leaks.same_films(LEARNED, held, set()).tolist() == [False, True, False]


def test_the_same_name_in_another_corpus_is_another_patient():
    assert not leaks.same_films(LEARNED, table("mimic", ["p2"], ["/b/y/9.png"]), set()).any()


def test_a_film_of_a_moved_corpus_and_of_another_suffix_is_found():
    held = table("nih", ["q"], ["/moved/x/3.jpg"])
    assert leaks.same_films(LEARNED, held, set()).tolist() == [False, False, True]


def test_a_path_and_a_checksum_are_found_across_corpora():
    held = table("other", ["q", "r"], ["/a/x/2.png", "/z/z/z.png"], sha256=["", "s1"])
    assert leaks.same_films(LEARNED, held, set()).tolist() == [True, True, False]


def test_films_without_checksums_are_not_alike():
    held = table("other", ["q"], ["/z/z.png"], sha256=[""])
    assert not leaks.same_films(LEARNED, held, set()).any()


def test_patients_of_two_folders_are_not_compared():
    held = table("nih", ["p2"], ["/b/x/2.png"])
    assert not leaks.same_films(LEARNED, held, {"nih"}).any()


def films(root, count=12):
    rng = np.random.default_rng(0)
    for number in range(count):
        path = root / "AB"[number % 2] / f"patient{number // 2:02d}_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 40), dtype=np.uint8)).save(path)
    return str(root)


def built(tmp_path, recipes, words=()):
    return graph.build(spec.asked(own(written(tmp_path, recipes)), list(words)), tmp_path / "stages")


def refused(tmp_path, recipes, words=()):
    with pytest.raises(UserError) as error:
        built(tmp_path, recipes, words)
    return error.value.messages


def test_a_chain_on_films_split_alike_is_not_refused(tmp_path):
    words = ["--data.corpora", json.dumps({"folder": films(tmp_path / "films")})]
    assert len(built(tmp_path, {"a": ["mae", "turn", "tune"]}, words).stages) == 3


def test_films_split_otherwise_are_refused_with_the_words_that_split_them_alike(tmp_path):
    words = ["--data.corpora", json.dumps({"folder": films(tmp_path / "films")}), "--mae.data.split_seed", "3",
             "--turn.data.split_seed", "4"]  # fmt: skip
    told = refused(tmp_path, {"a": ["mae", "turn", "tune"]}, words)
    assert [sentence.rpartition(": ")[2] for sentence in told] == [
        "--mae.data.split_seed 0.",
        "--turn.data.split_seed 0.",
    ]


def test_what_lies_further_back_is_looked_at_too(tmp_path):
    words = ["--mae.data.corpora", json.dumps({"folder": films(tmp_path / "films")}), "--mae.data.split_seed", "3",
             "--tune.data.corpora", json.dumps({"folder": films(tmp_path / "films")})]  # fmt: skip
    assert "mae learns from" in refused(tmp_path, {"a": ["mae", "turn", "tune"]}, words)[0]


def test_the_list_that_is_written_mends_a_leak(tmp_path, capsys):
    root, table, leaked = films(tmp_path / "films"), tmp_path / "all.csv", str(tmp_path / "leaked.txt")
    rows = pd.DataFrame({"path": [str(path) for path in sorted((tmp_path / "films").rglob("*.png"))]})
    rows.assign(split=["train"] * 10 + ["val"] * 2).to_csv(table, index=False)
    corpora = [
        "--mae.data.corpora",
        json.dumps({"table": str(table)}),
        "--tune.data.corpora",
        json.dumps({"folder": root}),
    ]
    words = ["chain", "--config", written(tmp_path, {"a": ["mae", "tune"]}), "--plan", *corpora]
    assert main([*words, "--leaks", leaked]) == 2
    assert "for --mae.data.exclude '[LIST]'" in capsys.readouterr().err
    assert main([*words, "--mae.data.exclude", f"[{leaked}]"]) == 0


def test_the_run_that_a_chain_starts_from_is_looked_at_too(tmp_path):
    words = ["--data.corpora", json.dumps({"folder": films(tmp_path / "films")})]
    written(tmp_path, {"a": ["tune"]})
    run = str(tmp_path / "run")
    assert main(["fit", "--config", str(tmp_path / "mae.yaml"), "--out", run, *words, "--data.split_seed", "3"]) == 0
    assert f"{run} learns from" in refused(tmp_path, {"a": chain("tune", start=run)}, words)[0]


def test_a_start_that_tells_nothing_of_its_films_is_said(tmp_path, caplog):
    from xrayssl import handoff
    from xrayssl.backbone import Backbone

    (tmp_path / "far" / "off").mkdir(parents=True)
    file = handoff.save(Backbone("test_vit", 32), tmp_path / "far" / "off" / "b.safetensors", method="x")
    built(tmp_path, {"a": chain("tune", start=str(file))})
    assert "is not known here" in caplog.text


def test_the_run_that_trained_a_tokenizer_is_looked_at_too(tmp_path):
    words = ["--data.corpora", json.dumps({"folder": films(tmp_path / "films")})]
    written(tmp_path, {"a": ["tune"]})
    run = str(tmp_path / "run")
    assert main(["fit", "--config", str(tmp_path / "turn.yaml"), "--out", run, *words, "--data.split_seed", "3"]) == 0
    untrained(str(Path(run) / "checkpoints" / "codes.ckpt"))
    codes = {"model.target": "tokens", "model.tokenizer": f"{run}/checkpoints/codes.ckpt",
             "model.backbone": "vit_tiny_patch16_224"}  # fmt: skip
    told = refused(tmp_path, {"a": chain(("mae", codes), ("tune", {"model.backbone": "vit_tiny_patch16_224"}))}, words)
    assert len(told) == 1 and f"{run} learns from" in told[0]
