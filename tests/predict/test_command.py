import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from classifiers import films, fitted, measured
from dicoms import dicom
from PIL import Image

from xrayssl import classifier
from xrayssl.cli import main
from xrayssl.errors import UserError

FEW = ["--data.num_workers", "0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return films(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def run(tmp_path_factory, folder):
    """A classifier of two classes, measured with test-time augmentation, with thresholds and a temperature."""
    options = "backbone: test_vit, ema: 0.5, tta: {crops: [0.9]}"
    return measured(fitted(tmp_path_factory.mktemp("classes"), f"{{folder: {folder}}}", options))


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    """A classifier of findings that no test has measured."""
    return fitted(tmp_path_factory.mktemp("findings"))


@pytest.fixture(scope="module")
def table(run, folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("out") / "table.csv"
    assert main(["predict", "--run", str(run), str(folder / "test"), "--out", str(path), *FEW]) == 0
    return pd.read_csv(path)


def complaint(capsys, *words):
    capsys.readouterr()
    assert main(["predict", *map(str, words)]) == 2
    return capsys.readouterr().err


def predicted(run, path, *words):
    assert main(["predict", "--run", str(run), *map(str, words), "--out", str(path), *FEW]) == 0
    return pd.read_csv(path)


def test_a_film_has_the_probability_that_the_test_of_the_run_gave_it(run, table):
    expected = pd.read_parquet(run / "test" / "predictions.parquet").set_index("film").loc[table["film"]]
    assert len(table) == len(expected) == 8
    for name in ("A", "B"):
        np.testing.assert_allclose(table[f"probability/{name}"], expected[f"probability/{name}"], atol=1e-6)
    assert table["probability/A"].nunique() == 8


def test_the_temperature_and_the_thresholds_are_those_of_the_test(run, table):
    operating = json.loads((run / "test" / "metrics.json").read_text())["operating"]
    raw = table[["probability/A", "probability/B"]].to_numpy()
    scaled = (torch.from_numpy(raw).log() / operating["temperature"]).softmax(dim=1).numpy()
    np.testing.assert_allclose(table[["calibrated/A", "calibrated/B"]], scaled, atol=1e-5)
    for name, least in operating["threshold"].items():
        assert (table[f"above/{name}"] == (table[f"probability/{name}"] >= least)).all()


def test_other_weights_have_no_thresholds_of_the_tested_ones(run, folder, tmp_path):
    weights = run / "checkpoints" / "last.ckpt"
    found = predicted(run, tmp_path / "t.csv", folder / "test" / "A", "--ckpt_path", weights)
    assert not any(name.startswith(("above/", "calibrated/")) for name in found)
    assert classifier.load(run).operating and classifier.load(run, weights).operating is None


def test_a_later_test_of_other_views_or_without_validation_leaves_the_thresholds_alone(run, tmp_path):
    copied, before = shutil.copytree(run, tmp_path / "run"), classifier.load(run).operating
    options = {"views": ["--model.tta.crops", "[0.5]"], "empty": ["--trainer.limit_val_batches", "0.01"]}
    for name, words in options.items():
        assert main(["test", "--run", str(copied), *words, "--out", str(copied / name), *FEW]) == 0
    assert json.loads((copied / "empty" / "metrics.json").read_text())["operating"] is None
    assert json.loads((copied / "views" / "metrics.json").read_text())["operating"] != before
    shutil.rmtree(copied / "empty")
    assert classifier.load(copied).operating == before


def test_a_runs_own_films_are_not_dealt_anew(run, capsys):
    assert main(["test", "--run", str(run), "--data.fold", "2/3", "--data.split_seed", "1"]) == 2
    said = capsys.readouterr().err
    assert "--data.fold has no place beside --run" in said and "--data.split_seed has no place" in said


def test_a_run_that_was_moved_keeps_its_thresholds(run, tmp_path):
    moved = shutil.copytree(run, tmp_path / "elsewhere")
    record = json.loads((moved / "test" / "run.json").read_text())
    (moved / "test" / "run.json").write_text(json.dumps(record | {"resumed": "/gone/checkpoints/best.ckpt"}))
    assert classifier.load(moved).operating == classifier.load(run).operating


def test_a_batch_and_processes_change_nothing(run, folder, table, tmp_path):
    words = ["--data.batch_size", "3", "--data.num_workers", "2"]
    found = predicted(run, tmp_path / "t.csv", folder / "test", *words)
    np.testing.assert_allclose(found["probability/A"], table["probability/A"], atol=1e-6)
    assert (found["film"] == table["film"]).all()


def test_films_and_folders_may_be_mixed_and_each_film_is_read_once(run, folder, tmp_path):
    one = folder / "test" / "A" / "4-0.png"
    found = predicted(run, tmp_path / "t.csv", one, folder / "test" / "A", folder / "val" / "B")
    assert len(found) == 8 and found["film"].iloc[0] == str(one)


def test_films_of_a_store_are_predicted_from_their_files_as_from_the_store(folder, tmp_path, caplog):
    store = tmp_path / "stores" / "folder"
    words = ["--data.window", "percentile", "--data.limits", "[1, 99]", "--size", "32", "--workers", "0"]
    assert main(["prepare", "--data.corpora.folder", str(folder), "--out", str(store.parent), *words]) == 0
    run = fitted(tmp_path, f"{{folder: {store}}}", "backbone: test_resnet")
    assert main(["predict", "--run", str(run)]) == 0
    stored = pd.read_parquet(run / "predict" / "predictions.parquet").set_index("film")
    found = predicted(run, tmp_path / "t.csv", folder / "test")
    np.testing.assert_allclose(found["probability/A"], stored.loc[found["film"], "probability/A"], atol=1e-6)
    store.rename(tmp_path / "moved")
    assert predicted(run, tmp_path / "without.csv", folder / "test").equals(found)
    record = json.loads((run / "run.json").read_text())
    del record["data"]["stores"]  # of a time when that was not kept
    (run / "run.json").write_text(json.dumps(record))
    caplog.clear()
    assert not predicted(run, tmp_path / "older.csv", folder / "test").equals(found)
    assert f"{store}: the run learned from this folder, which is not there any more" in caplog.text


def test_without_films_the_runs_test_films_are_predicted_as_ever(findings):
    assert main(["predict", "--run", str(findings), "--data.batch_size", "3"]) == 0
    assert (findings / "predict" / "predictions.parquet").is_file()
    assert not (findings / "predict" / "predictions.csv").exists()


def test_a_run_without_a_test_of_its_own_says_why_there_are_no_thresholds(findings, folder, tmp_path, caplog):
    table = predicted(findings, tmp_path / "table.csv", folder / "test")
    assert not [name for name in table if name.startswith(("above/", "calibrated/"))]
    assert "`xrayssl test --run RUN` fits them" in caplog.text


def test_a_single_dicom_without_a_suffix_is_predicted_as_its_pixels_are(run, folder, table, tmp_path):
    grey = np.asarray(Image.open(folder / "test" / "A" / "4-0.png")).astype(np.uint16)
    dicom(tmp_path / "123", grey, BitsStored=12, HighBit=11)
    found = predicted(run, tmp_path / "t.csv", tmp_path / "123")
    expected = table.set_index("film").loc[str(folder / "test" / "A" / "4-0.png"), "probability/A"]
    assert found["probability/A"][0] == pytest.approx(expected, abs=1e-6)


def test_a_single_film_is_told_at_once_and_its_table_lies_in_the_run(run, folder, capsys):
    assert main(["predict", "--run", str(run), str(folder / "test" / "B" / "5-1.png")]) == 0
    said = capsys.readouterr().out.splitlines()
    table = pd.read_csv(said[-1])
    assert said[-1].startswith(str(run / "predict")) and len(table) == 1
    shown = {line.split()[1]: float(line.split()[0]) for line in said[:-1]}
    assert shown == {name: round(table[f"probability/{name}"][0], 3) for name in "AB"}


def test_an_unreadable_film_stops_or_is_listed_beside_the_table(run, folder, tmp_path, capsys):
    broken = tmp_path / "films" / "half.png"
    broken.parent.mkdir()
    broken.write_bytes((folder / "test" / "A" / "4-0.png").read_bytes()[:300])
    said = complaint(capsys, "--run", run, broken, folder / "test", "--out", tmp_path / "t.csv")
    assert "half.png" in said and "--on_error quarantine" in said and not (tmp_path / "t.csv").exists()
    found = predicted(run, tmp_path / "t.csv", broken, folder / "test", "--on_error", "quarantine")
    assert len(found) == 8 and "half.png" in (tmp_path / "t-unreadable.txt").read_text()


def test_films_of_which_none_can_be_read_leave_no_table(run, tmp_path, capsys):
    (tmp_path / "text.png").write_text("no film")
    words = ["--on_error", "quarantine", "--out", tmp_path / "t.csv"]
    said = complaint(capsys, "--run", run, tmp_path / "text.png", *words)
    assert "None of the 1 films" in said and "text.png" in said and not (tmp_path / "t.csv").exists()


def test_a_picture_per_film_and_class_is_drawn(run, folder, tmp_path):
    words = ["--overlay", "--class", "A", "--class", "B", "--out", str(tmp_path / "t.csv"), *FEW]
    assert main(["predict", "--run", str(run), str(folder / "test" / "A"), *words]) == 0
    names = {path.name for path in (tmp_path / "t").iterdir()}
    assert names == {f"4-{film}-{name}.png" for film in range(4) for name in "AB"}


def test_without_a_class_the_predicted_one_is_drawn(run, folder, table, tmp_path):
    predicted(run, tmp_path / "t.csv", folder / "test", "--overlay")
    winner = {film.split("/")[-1][:-4]: "AB"[int(a < b)] for film, a, b in
              zip(table["film"], table["probability/A"], table["probability/B"], strict=True)}  # fmt: skip
    assert {path.stem for path in (tmp_path / "t").iterdir()} == {f"{film}-{name}" for film, name in winner.items()}


def test_the_picture_shows_the_film_as_the_network_sees_it_and_its_own_map(run, folder, tmp_path):
    from xrayssl.explain import cam, overlay

    film = folder / "test" / "A" / "4-0.png"
    found = predicted(run, tmp_path / "t.csv", film, "--overlay", "--class", "B").iloc[0]
    model = classifier.load(run)
    view = model.viewing.view(model.viewing.film(film))
    image = model.method.backbone.normalize(torch.from_numpy(view)[None, None])
    map_hw = cam.maps(model.method, model.method.backbone.grid, image, [1])[0][0, 0].numpy()
    shown = model.viewing.view(model.viewing.film(film), 7)
    verdict = "at or above the threshold" if found["above/B"] else "below the threshold"
    said = f"B: probability {found['probability/B']:.3f}, calibrated {found['calibrated/B']:.3f}, {verdict}"
    picture = np.asarray(Image.open(tmp_path / "t" / "4-0-B.png"))
    below = overlay.GAP + 3 * overlay.LINE + overlay.GAP
    expected = np.asarray(overlay.sheet(shown, map_hw, "4-0.png", [said, ""]))
    assert (picture[below:] == expected[below:]).all()
    assert (picture[: overlay.GAP + 2 * overlay.LINE] == expected[: overlay.GAP + 2 * overlay.LINE]).all()


def test_films_of_one_name_have_a_picture_each(run, folder, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        shutil.copy(folder / "test" / "A" / "4-0.png", tmp_path / name / "film.png")
    predicted(run, tmp_path / "t.csv", tmp_path / "a", tmp_path / "b", "--overlay", "--class", "A")
    assert {path.name for path in (tmp_path / "t").iterdir()} == {"film-A.png", "film-A-2.png"}


def test_findings_without_thresholds_want_a_class_to_draw(findings, folder, tmp_path, capsys):
    film = folder / "test" / "A" / "4-0.png"
    assert "--class NAME" in complaint(capsys, "--run", findings, film, "--overlay", "--out", tmp_path / "t.csv")
    name = classifier.load(findings).classes[0]
    predicted(findings, tmp_path / "t.csv", film, "--overlay", "--class", name)
    assert len(list((tmp_path / "t").iterdir())) == 1


def test_every_mistake_is_told_at_once(tmp_path, run, capsys):
    said = complaint(
        capsys, tmp_path / "gone.png", "--class", "A", "--data.batch_size", "0", "--out", tmp_path / "a.txt"
    )
    for word in ("--run RUN", "gone.png: there is no such film", "goes with --overlay", "batch_size", ".csv"):
        assert word in said
    said = complaint(capsys, "--run", run, tmp_path, "--overlay", "--class", "Aa", "--data.num_workers", "-1")
    assert "no film below this folder" in said and "Did you mean A?" in said and "num_workers" in said
    assert "go with films" in complaint(capsys, "--run", run, "--overlay")


def test_nothing_is_overwritten(run, folder, tmp_path, capsys):
    (tmp_path / "t.csv").write_text("mine")
    assert "nothing is overwritten" in complaint(capsys, "--run", run, folder / "test", "--out", tmp_path / "t.csv")


def test_what_is_no_classifiers_run_is_refused(findings, tmp_path, folder, capsys):
    assert "no run in that folder" in complaint(capsys, "--run", tmp_path, folder)
    copy = shutil.copytree(findings, tmp_path / "copy")
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config.replace("xrayssl.methods.Finetune", "xrayssl.methods.RotationProxy"))
    assert "RotationProxy learns no labels" in complaint(capsys, "--run", copy, folder)
    shutil.rmtree(copy / "checkpoints")
    assert "no checkpoint best.ckpt or last.ckpt" in complaint(capsys, "--run", copy, folder)


@pytest.fixture(scope="module")
def of_studies(tmp_path_factory):
    """A run on a layout of MURA, whose studies are scored: two films of each; and the folder."""
    root, rng = tmp_path_factory.mktemp("mura") / "MURA-v1.1", np.random.default_rng(0)
    for number in range(20):
        outcome = ("positive", "negative")[number % 2]
        study = root / ("valid" if number < 6 else "train") / f"XR_SHOULDER/patient{number:05d}/study1_{outcome}"
        study.mkdir(parents=True)
        for film in (1, 2):
            grey = rng.integers(0, 200, (70, 70), np.uint8) + np.uint8(40 * (number % 2))
            Image.fromarray(grey).save(study / f"image{film}.png")
    corpora = f"{{mura: {{root: {root}, task: multilabel}}}}"
    return measured(fitted(tmp_path_factory.mktemp("studies"), corpora, "backbone: test_resnet")), root / "valid"


def test_thresholds_of_studies_are_not_applied_to_films_and_it_is_said_how_to_decide(of_studies, tmp_path, caplog):
    run, films = of_studies
    figures = json.loads((run / "test" / "metrics.json").read_text())
    assert figures["unit"] == "study" and figures["operating"]["threshold"]["abnormal"] is not None
    found = predicted(run, tmp_path / "t.csv", films)
    assert found.columns.tolist() == ["film", "probability/abnormal"] and len(found) == 12
    assert "no above/ and calibrated/" in caplog.text and "compare a study's mean with `operating`" in caplog.text


def test_findings_of_studies_want_a_class_to_draw(of_studies, tmp_path, capsys):
    run, films = of_studies
    said = complaint(capsys, "--run", run, films, "--overlay", "--out", tmp_path / "t.csv")
    assert "--overlay needs --class NAME: the run has no thresholds for single films" in said


def test_the_card_says_whose_threshold_it_is_and_which_start_test_films_selected(of_studies):
    from xrayssl.export.card import card

    model = classifier.load(of_studies[0])
    model.method.parents = [
        {"method": "MoCo", "sha256": "a"},
        {"method": "Finetune", "sha256": "b", "selected_on": "test"},
    ]
    written = card(model, {}, [])
    assert "1. MoCo: `a`\n2. Finetune: `b`, **selected on test films**" in written
    assert "val studies by the rule Youden" in written and "of the mean probability of a study's films" in written


def test_the_last_weights_stand_in_where_no_best_were_kept_and_it_is_said(findings, tmp_path, caplog):
    copy = shutil.copytree(findings, tmp_path / "copy")
    (copy / "checkpoints" / "best.ckpt").unlink()
    with caplog.at_level("INFO"):
        assert classifier.load(copy).checkpoint.name == "last.ckpt"
    assert "its last one is taken" in caplog.text
    with pytest.raises(UserError, match=r"gone: there is no such checkpoint"):
        classifier.load(copy, "gone")
