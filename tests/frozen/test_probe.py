import json

import numpy as np
import pandas as pd
import pytest
import torch
from dicoms import dicom
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from xrayssl import handoff
from xrayssl.backbone import Backbone
from xrayssl.cli import main
from xrayssl.data import XrayDataModule
from xrayssl.errors import UserError
from xrayssl.features import pooled
from xrayssl.frozen.cache import FeatureCache
from xrayssl.frozen.extraction import Extraction
from xrayssl.frozen.probe import probe_command
from xrayssl.frozen.sources import opened

SEEN = ["--data.img_size", "32", "--data.batch_size", "16", "--data.num_workers", "0"]
BODY = {"chest": ["--data.corpora.phantom", '{"films": 60, "size": 32, "seed": 2}'],
        "shoulder": ["--data.corpora.phantom", '{"body": "shoulder", "films": 60, "size": 32, "seed": 2}']}  # fmt: skip


def probed(tmp_path, *words, body="shoulder", out="out"):
    """probe.json of a call."""
    common = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / out)]
    assert main(["probe", *words, *BODY[body], *SEEN, *common]) == 0
    return json.loads((tmp_path / out / "probe.json").read_text())


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    monkeypatch.setattr("xrayssl.hardware.precision", lambda accelerator: "32-true")


@pytest.fixture
def vit(tmp_path):
    return str(handoff.save(Backbone("test_vit", 32), tmp_path / "nets/vit/backbone.safetensors", method="MAEPretrain"))


def films_and_features(vit, body):
    corpora = {"phantom": json.loads(BODY[body][1])}
    data = XrayDataModule(corpora, img_size=32, batch_size=16, num_workers=0)
    backbone = Backbone("test_vit", 32).eval()
    handoff.load(backbone, vit)
    with torch.no_grad():
        batches = data.central(np.arange(len(data.manifest)))
        feature = torch.cat([pooled(backbone, batch["image"]) for batch in batches]).double().numpy()
    return data.manifest, feature


def predictions(folder, classes):
    table = pd.read_parquet(folder / "predictions.parquet")
    return table["index"].to_numpy(), table[[f"probability/{name}" for name in classes]].to_numpy()


def test_the_neighbours_of_classes_are_scikit_learns_with_the_chosen_number(tmp_path, vit):
    chosen = probed(tmp_path, "--backbone", vit)["backbones"][0]["probes"]["knn"]["setting"]
    manifest, x = films_and_features(vit, "shoulder")
    rows, found = predictions(tmp_path / "out/vit/knn", manifest.classes)
    train, label = manifest.rows("train"), manifest.labels().argmax(1)
    model = KNeighborsClassifier(int(chosen), weights=lambda d: np.exp((1 - d) / 0.07), metric="cosine")
    expected = model.fit(x[train], label[train]).predict_proba(x[rows])
    np.testing.assert_array_equal(rows, manifest.rows("test"))
    np.testing.assert_allclose(found[:, model.classes_], expected, atol=1e-3)


def test_the_linear_probe_of_findings_is_scikit_learns_with_the_chosen_penalty(tmp_path, vit):
    probes = probed(tmp_path, "--backbone", vit, body="chest")["backbones"][0]["probes"]
    manifest, x = films_and_features(vit, "chest")
    rows, found = predictions(tmp_path / "out/vit/linear", manifest.classes)
    train = manifest.rows("train")
    x = (x - x[train].mean(0)) / x[train].std(0)
    for k in range(len(manifest.classes)):
        label = manifest.labels()[train, k]
        model = LogisticRegression(C=1 / (probes["linear"]["setting"] * len(train)), tol=1e-10, max_iter=5000)
        if 0 < label.sum() < len(label):
            expected = model.fit(x[train], label).predict_proba(x[rows])[:, 1]
            np.testing.assert_allclose(found[:, k], expected, atol=2e-3)


def test_other_test_labels_change_the_figures_and_not_the_chosen_settings(tmp_path, vit, monkeypatch):
    before = probed(tmp_path, "--backbone", vit)
    original = XrayDataModule.__init__

    def shuffled(self, *args, **kwargs):
        original(self, *args, **kwargs)
        rows = self.manifest.rows("test")
        table, other = self.manifest.table, np.random.default_rng(1).permutation(rows)
        table.loc[rows, self.manifest.classes] = table.loc[other, self.manifest.classes].to_numpy()

    monkeypatch.setattr(XrayDataModule, "__init__", shuffled)
    after = probed(tmp_path, "--backbone", vit, out="again")
    for kind in ("knn", "linear"):
        old, new = (each["backbones"][0]["probes"][kind] for each in (before, after))
        assert {name: old[name] for name in ("setting", "tried")} == {name: new[name] for name in ("setting", "tried")}
        assert old["metrics"]["auroc_macro"] != new["metrics"]["auroc_macro"]


def test_validation_alone_leaves_the_test_films_unread_and_says_that_it_flatters(tmp_path, vit, capsys, monkeypatch):
    read, central = set(), XrayDataModule.central

    def watched(self, rows):
        read.update(self.manifest.table["split"][rows])
        return central(self, rows)

    monkeypatch.setattr(XrayDataModule, "central", watched)
    assert probed(tmp_path, "--backbone", vit, "--split", "val")["split"] == "val"
    assert read == {"train", "val"}
    assert "which flatters" in capsys.readouterr().out
    figures = json.loads((tmp_path / "out/vit/linear/metrics.json").read_text())
    assert figures["operating"] is None


def test_thresholds_come_from_validation_films(tmp_path, vit):
    probed(tmp_path, "--backbone", vit)
    figures = json.loads((tmp_path / "out/vit/linear/metrics.json").read_text())
    assert (figures["split"], figures["operating"]["split"]) == ("test", "val")


def test_a_second_call_gives_the_same_numbers_and_does_not_run_the_network(tmp_path, vit, monkeypatch):
    before = probed(tmp_path, "--backbone", vit, "--backbone", "random:3")
    monkeypatch.setattr("xrayssl.frozen.extraction.pooled", None)
    assert probed(tmp_path, "--backbone", vit, "--backbone", "random:3", out="again") == before


def test_fewer_training_films_and_other_labels_need_no_new_features(tmp_path, vit, monkeypatch):
    probed(tmp_path, "--backbone", vit)
    monkeypatch.setattr("xrayssl.frozen.extraction.pooled", None)
    fewer = probed(tmp_path, "--backbone", vit, "--data.fraction", "0.5", out="again")
    assert fewer["films"]["train"] < 40


@pytest.mark.parametrize(
    "words",
    [["--data.window", "none"], ["--data.augment.circle", "true"], ["--data.img_size", "48"], ["--pool", "class"]],
)
def test_films_seen_otherwise_are_computed_anew(tmp_path, vit, words, monkeypatch):
    probed(tmp_path, "--backbone", vit)
    monkeypatch.setattr("xrayssl.frozen.extraction.pooled", None)
    with pytest.raises(TypeError):
        main(["probe", "--backbone", vit, *BODY["shoulder"], *SEEN, *words, "--cache", str(tmp_path / "cache"),
              "--out", str(tmp_path / "again")])  # fmt: skip
    assert not (tmp_path / "again").exists()


def test_several_backbones_stand_side_by_side(tmp_path, vit, capsys):
    record = probed(tmp_path, "--backbone", vit, "--backbone", "random:1", "--backbone", "random")
    assert [each["name"] for each in record["backbones"]] == ["vit", "random-1", "random"]
    assert {each["architecture"] for each in record["backbones"]} == {"test_vit"}
    assert record["backbones"][1]["sha256"] != record["backbones"][2]["sha256"]
    table = capsys.readouterr().out.splitlines()
    assert sum("penalty" in line for line in table) == 3
    assert any(line.startswith("random-1  test_vit  kNN") for line in table)


def test_an_untrained_cnn_is_settled_on_training_films(tmp_path):
    data = XrayDataModule({"phantom": json.loads(BODY["shoulder"][1])}, img_size=32, batch_size=16, num_workers=0)
    problems = []
    (source,) = opened(["random"], "resnet18", 32, problems)
    before = source.backbone.network.bn1.running_mean.clone()
    Extraction(data, "mean", FeatureCache(None))(source, data.manifest.rows("test"))
    images = torch.cat([batch["image"] for batch in data.central(data.manifest.rows("train"))])
    first = source.backbone.network.conv1(source.backbone.normalize(images))
    assert problems == []
    assert not before.any()
    torch.testing.assert_close(source.backbone.network.bn1.running_mean, first.mean((0, 2, 3)), atol=0.02, rtol=0.1)


def test_a_trained_cnn_keeps_its_statistics(tmp_path):
    path = handoff.save(Backbone("resnet18", 32), tmp_path / "cnn.safetensors")
    probed(tmp_path, "--backbone", str(path))
    source = opened([str(path)], None, 32, [])[0]
    assert not source.untrained
    assert not source.backbone.network.bn1.running_mean.any()


def deep(folder):
    """16-bit PNG and DICOM films of two classes, each told by its brightness."""
    rng = np.random.default_rng(0)
    for i in range(60):
        pixels = rng.integers(0, 20_000, (40, 36), dtype=np.uint16)
        pixels[10:30, 10:20] = 4000 + 50_000 * (i % 2)
        path = folder / "AB"[i % 2] / f"{i:02d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i % 4 < 2:
            Image.fromarray(pixels).save(path.with_suffix(".png"))
        else:
            dicom(path.with_suffix(".dcm"), pixels, PatientID=str(i))
    return folder


def test_folders_of_deep_png_and_dicom_films_are_probed(tmp_path):
    words = ["--backbone", "random", "--architecture", "resnet18", "--data.corpora.folder", str(deep(tmp_path / "raw"))]
    assert main(["probe", *words, *SEEN, "--cache", str(tmp_path / "c"), "--out", str(tmp_path / "out")]) == 0
    probes = json.loads((tmp_path / "out/probe.json").read_text())["backbones"][0]["probes"]
    assert probes["linear"]["metrics"]["auroc_macro"]["value"] > 0.9


def test_a_film_that_was_replaced_is_computed_anew(tmp_path, vit):
    films = deep(tmp_path / "raw")
    words = ["--backbone", vit, "--data.corpora.folder", str(films), *SEEN, "--cache", str(tmp_path / "c")]
    main(["probe", *words, "--out", str(tmp_path / "before")])
    Image.fromarray(np.zeros((40, 40), np.uint16)).save(films / "A/00.png")
    data = XrayDataModule({"folder": str(films)}, img_size=32, num_workers=0)
    extraction = Extraction(data, "mean", FeatureCache(tmp_path / "c"))
    assert extraction(opened([vit], None, 32, [])[0], np.arange(len(data.manifest))).computed == 1


def test_unreadable_films_are_set_aside_into_the_folder_of_the_figures(tmp_path, vit):
    films = deep(tmp_path / "raw")
    (films / "A/00.png").write_bytes(b"no film")
    aside = ["--data.on_error", "quarantine", "--data.max_quarantine", "0.1"]
    words = ["--backbone", vit, "--data.corpora.folder", str(films), *SEEN, "--no-cache", *aside]
    assert main(["probe", *words, "--out", str(tmp_path / "out")]) == 0
    assert "00.png" in (tmp_path / "out/quarantine.txt").read_text()


def test_every_mistake_is_told_at_once(tmp_path, capsys):
    words = ["--backbone", str(tmp_path / "none"), "--backbone", "random:x", "--architecture", "resnet18",
             "--data.img_siz", "3", "--cache", "a", "--no-cache"]  # fmt: skip
    assert main(["probe", *words]) == 2
    said = capsys.readouterr().err
    for part in ("no such file", "the seed is a whole number", "no option img_siz", "contradict each other"):
        assert part in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "Which network"),
        (["--backbone", "random"], "of which network"),
        (["--backbone", "random", "--architecture", "resnet18", "--pool", "class"], "has no class token"),
        (["--backbone", "random", "--architecture", "resnet19"], "Did you mean 'resnet18'"),
        (["--backbone", "random", "--architecture", "resnet18", "--data.labels", "[]"], "A probe needs labels"),
    ],
)
def test_what_cannot_be_probed_is_refused(words, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        probe_command([*words, *BODY["shoulder"], *SEEN, "--no-cache", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_without_test_films_validation_is_offered(tmp_path):
    words = ["--backbone", "random", "--architecture", "resnet18", "--data.corpora.folder", str(deep(tmp_path / "raw"))]
    with pytest.raises(UserError, match=r"no labelled films in the split 'test'\. .* --split val"):
        probe_command([*words, *SEEN, "--data.test", "0", "--no-cache"])


def test_a_finding_without_training_films_gets_an_even_probability_and_is_named(tmp_path, vit, monkeypatch, capsys):
    original = XrayDataModule.__init__

    def without(self, *args, **kwargs):
        original(self, *args, **kwargs)
        self.manifest.table.loc[self.manifest.rows("train"), self.manifest.classes[0]] = np.nan

    monkeypatch.setattr(XrayDataModule, "__init__", without)
    record = probed(tmp_path, "--backbone", vit, body="chest")
    assert record["classes"][0] in record["unlearnable"]
    for kind in ("knn", "linear"):
        _, found = predictions(tmp_path / f"out/vit/{kind}", record["classes"])
        assert set(found[:, 0]) == {0.5}
    assert "Cannot be learned" in capsys.readouterr().out


def test_an_interrupted_call_keeps_what_it_has(tmp_path, vit, monkeypatch, capsys):
    calls = []

    def tiring(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return pooled(*args)

    monkeypatch.setattr("xrayssl.frozen.extraction.pooled", tiring)
    common = [*BODY["shoulder"], *SEEN, "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    assert main(["probe", "--backbone", vit, *common]) == 130
    assert "the features of 32 of 60 films are kept" in capsys.readouterr().err
    assert main(["probe", "--backbone", vit, *common]) == 0
    assert "features of 28 films computed, of 32 known" in capsys.readouterr().err
