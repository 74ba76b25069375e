import numpy as np
import pandas as pd
import pytest

from xrayssl.data import XrayDataModule, folds
from xrayssl.data.folds import Fold, dealt
from xrayssl.data.manifest import Manifest
from xrayssl.data.split import assign
from xrayssl.errors import UserError


def films(patients=120, classes=4, split=""):
    """Patients with one to four films, of a class each."""
    rng = np.random.default_rng(0)
    names = np.repeat([f"p{i}" for i in range(patients)], rng.integers(1, 5, patients))
    table = pd.DataFrame({"path": [f"/{i}.png" for i in range(len(names))], "corpus": "folder", "patient": names,
                          "study": names, "view": "", "split": split})  # fmt: skip
    kind = rng.integers(0, classes, patients)[pd.factorize(names)[0]]
    labels = pd.DataFrame(np.eye(classes)[kind], columns=[f"c{k}" for k in range(classes)])
    return Manifest(pd.concat([table, labels], axis=1), list(labels), "multiclass")


def films_of_fold(manifest, number, count=5, seed=0):
    table = assign(manifest, val=0.2, seed=seed, fold=Fold(number, count)).table
    return {*table["path"][table["split"] == "test"]}


@pytest.fixture(params=["balanced", "at one stroke"])
def manifest(request, monkeypatch):
    monkeypatch.setattr(folds, "MANY", 5000 if request.param == "balanced" else 10)
    return films()


def test_every_film_is_tested_once(manifest):
    parts = [films_of_fold(manifest, number) for number in range(1, 6)]
    assert sum(map(len, parts)) == len(manifest)
    assert set.union(*parts) == {*manifest.table["path"]}


def test_no_patient_is_in_two_splits_of_a_fold_and_validation_is_cut_from_the_rest(manifest):
    table = assign(manifest, val=0.2, fold=Fold(2, 5)).table
    assert table.groupby("patient")["split"].nunique().max() == 1
    shares = table.groupby("split")["patient"].nunique() / table["patient"].nunique()
    assert shares.to_dict() == pytest.approx({"test": 0.2, "val": 0.16, "train": 0.64}, abs=0.03)


def test_folds_have_the_classes_in_their_proportions(manifest):
    every = manifest.table.groupby("patient")[manifest.classes].first().sum()
    for number in range(1, 6):
        part = manifest.table[manifest.table["path"].isin(films_of_fold(manifest, number))]
        found = part.groupby("patient")[manifest.classes].first().sum()
        assert (found - every / 5).abs().max() <= 2


def test_the_order_of_the_rows_does_not_change_a_fold_but_the_seed_does(manifest):
    shuffled = Manifest(
        manifest.table.sample(frac=1, random_state=3).reset_index(drop=True), manifest.classes, "multiclass"
    )
    assert films_of_fold(manifest, 3) == films_of_fold(shuffled, 3)
    assert films_of_fold(manifest, 3) != films_of_fold(manifest, 3, seed=1)


def test_an_official_test_split_is_refused():
    manifest = films()
    manifest.table.loc[manifest.table["patient"] == "p3", "split"] = "test"
    with pytest.raises(UserError, match="'folder' has a test split of its own, and cross-validation would learn"):
        assign(manifest, fold=Fold(1, 5))


def test_an_official_validation_split_is_dealt_with_the_rest():
    manifest = films(split="train")
    manifest.table.loc[manifest.table["patient"] == "p3", "split"] = "val"
    assert set.union(*(films_of_fold(manifest, number) for number in range(1, 6))) == {*manifest.table["path"]}


def test_more_folds_than_patients_are_refused():
    with pytest.raises(UserError, match="has 4 patients, too few for 5 folds"):
        dealt(films(4), Fold(1, 5), 0)


def test_unlabelled_patients_are_never_tested_and_unlabelled_films_go_with_their_patient():
    manifest = films()
    unknown = manifest.table["patient"].isin(["p1", "p2"]).to_numpy(copy=True)
    unknown[np.flatnonzero(manifest.table["patient"] == manifest.table["patient"].value_counts().index[0])[0]] = True
    manifest.table.loc[unknown, manifest.classes] = np.nan
    every = set.union(*(films_of_fold(manifest, number) for number in range(1, 6)))
    alone = manifest.table["patient"].isin(["p1", "p2"])
    assert every == {*manifest.table["path"][~alone]}


def test_a_class_with_fewer_patients_than_folds_is_named(caplog):
    manifest = films()
    manifest.table["c3"] = 0.0
    manifest.table["c0"] = 1.0 - manifest.table[["c1", "c2"]].sum(axis=1)
    rare = manifest.table["patient"] == "p5"
    manifest.table.loc[rare, manifest.classes] = [0.0, 0.0, 0.0, 1.0]
    with caplog.at_level("WARNING", "xrayssl"):
        dealt(manifest, Fold(1, 5), 0)
    assert "fewer patients than the 5 folds have c3 (1)" in caplog.text


def test_phantoms_can_be_dealt_once_they_leave_their_split():
    corpora = {"phantom": {"films": 24, "size": 48, "seed": 2}}
    with pytest.raises(UserError, match="'phantom' has a test split"):
        XrayDataModule(corpora, fold="1/3", num_workers=0)
    corpora["phantom"]["split"] = False
    data = XrayDataModule(corpora, fold="1/3", num_workers=0)
    assert data.fold == "1/3"
    assert data.manifest.table["split"].value_counts()["test"] == pytest.approx(8, abs=2)
