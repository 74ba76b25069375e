import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from xrayssl import handoff
from xrayssl.backbone import Backbone
from xrayssl.cli import main
from xrayssl.data import XrayDataModule
from xrayssl.errors import UserError
from xrayssl.features import pooled
from xrayssl.frozen.embed import embed_command
from xrayssl.frozen.embeddings import colourings

PHANTOMS = {"films": 24, "size": 32, "seed": 2}
SEEN = [
    "--data.corpora.phantom",
    json.dumps(PHANTOMS),
    "--data.img_size",
    "32",
    "--data.num_workers",
    "0",
    "--no-cache",
]


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    monkeypatch.setattr("xrayssl.hardware.precision", lambda accelerator: "32-true")


@pytest.fixture
def vit(tmp_path):
    return str(handoff.save(Backbone("test_vit", 32), tmp_path / "vit/backbone.safetensors", method="MAEPretrain"))


def embedded(vit, out, *words):
    assert main(["embed", "--backbone", vit, *SEEN, "--out", str(out), *words]) == 0
    return pd.read_parquet(out)


@torch.no_grad()
def test_the_table_gives_back_the_features_and_what_each_film_is(tmp_path, vit):
    table = embedded(vit, tmp_path / "films.parquet")
    data, backbone = XrayDataModule({"phantom": PHANTOMS}, img_size=32, num_workers=0), Backbone("test_vit", 32).eval()
    handoff.load(backbone, vit)
    (batch,) = data.central(np.arange(24))
    np.testing.assert_allclose(np.stack(table["feature"]), pooled(backbone, batch["image"]), atol=1e-5)
    manifest = data.manifest
    for column in ("corpus", "patient", "study", "view", "split"):
        assert table[column].tolist() == manifest.table[column].tolist()
    np.testing.assert_array_equal(table[[f"label/{name}" for name in manifest.classes]], manifest.labels())
    assert table["film"].tolist() == manifest.table["path"].tolist()


def test_the_schema_says_what_the_features_are(tmp_path, vit):
    embedded(vit, tmp_path / "films.parquet")
    schema = pq.read_schema(tmp_path / "films.parquet")
    about = json.loads(schema.metadata[b"xrayssl"])
    assert about["backbone"]["sha256"] == handoff.sha256(handoff.Path(vit))
    assert (about["version"], about["pool"], about["img_size"]) == (1, "mean", 32)
    assert str(schema.field("feature").type) == "fixed_size_list<element: float>[64]"


def test_one_split_alone_is_written_with_a_picture_beside_it(tmp_path, vit, capsys):
    table = embedded(vit, tmp_path / "films.parquet", "--split", "test", "--by", "view")
    assert set(table["split"]) == {"test"}
    assert (tmp_path / "films-pca.png").read_bytes()[:4] == b"\x89PNG"
    assert f"{tmp_path}/films-pca.png" in capsys.readouterr().out


def test_films_are_coloured_by_what_differs():
    data = XrayDataModule({"phantom": PHANTOMS}, img_size=32, num_workers=0)
    rows, name = np.arange(24), data.classes[0]
    assert [each.title for each in colourings(data.manifest, rows, None)] == ["label", "split"]
    (found,) = colourings(data.manifest, rows, [name])
    assert ((found.group_N == name) == (data.manifest.labels()[:, 0] == 1)).all()
    label_NK, (found,) = data.manifest.labels(), colourings(data.manifest, rows, ["label"])
    assert ((found.group_N == "several") == (label_NK.sum(1) > 1)).all()
    assert ((found.group_N == "none") == (label_NK.sum(1) == 0)).all()


def test_every_mistake_is_told_at_once(tmp_path, vit, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["embed", "--backbone", vit, "--backbone", "nowhere", "--out", "films.csv", "--umap", *SEEN]) == 2
    said = capsys.readouterr().err
    for part in ("takes one --backbone", "call it so", "xrayssl[umap]", "nowhere: there is no such file"):
        assert part in said


def test_a_table_that_is_there_is_not_overwritten(tmp_path, vit):
    (tmp_path / "films.parquet").write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        embed_command(["--backbone", vit, *SEEN, "--out", str(tmp_path / "films.parquet")])
    assert (tmp_path / "films.parquet").read_text() == "mine"


def test_an_unknown_colouring_names_those_that_are(tmp_path, vit):
    with pytest.raises(UserError, match="--by colour: films are coloured by label, corpus, split, view"):
        embed_command(["--backbone", vit, *SEEN, "--out", str(tmp_path / "films.parquet"), "--by", "colour"])
