import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrayssl.data import split as splitting
from xrayssl.data.manifest import Manifest
from xrayssl.data.split import assign
from xrayssl.errors import UserError


def films(patients, classes=0, seed=0):
    """One film per entry; the entry is its patient."""
    names = [str(name) for name in patients]
    table = pd.DataFrame({"path": [f"/{i}.png" for i in range(len(names))], "corpus": "folder", "patient": names,
                          "study": names, "view": "", "split": ""})  # fmt: skip
    labels = np.eye(max(classes, 1))[np.random.default_rng(seed).integers(max(classes, 1), size=len(names))]
    for k in range(classes):
        table[f"c{k}"] = labels[:, k]
    return Manifest(table, [f"c{k}" for k in range(classes)], "multiclass" if classes else None)


def shares(manifest):
    return manifest.table["split"].value_counts(normalize=True).to_dict()


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 0.9])
def test_the_share_is_the_one_asked_for(share):
    assert shares(assign(films(range(400)), val=0, test=share))["test"] == pytest.approx(share, rel=0.06)


def test_a_share_of_0_leaves_the_split_empty():
    assert set(shares(assign(films(range(40)), val=0, test=0))) == {"train"}


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(UserError, match=rf"--data\.val must be a share from 0 to below 1, not {share}"):
        assign(films(range(40)), val=share)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 9), min_size=3, max_size=40), st.integers(0, 4), st.integers(0, 5))
def test_patients_stay_whole_whatever_the_films(patients, classes, seed):
    table = assign(films(patients, classes, seed), val=0.2, test=0.2, seed=seed).table
    assert table.groupby("patient")["split"].nunique().max() == 1
    assert set(table["split"]) <= {"train", "val", "test"}


def test_rare_classes_reach_every_split():
    table = assign(films(range(200), classes=4), val=0.2, test=0.2).table
    assert (table.groupby("split")[["c0", "c1", "c2", "c3"]].sum() > 0).all(axis=None)


def test_two_corpora_are_split_each_for_itself():
    first, second = films(range(40)).table, films(range(100, 140)).table.assign(corpus="other")
    second["path"] = "/other" + second["path"]
    both = Manifest(pd.concat([first, second], ignore_index=True))
    assert (assign(both).table.groupby("corpus")["split"].nunique() == 3).all()


def test_a_loose_film_of_a_test_patient_is_an_error_and_not_trained_on():
    manifest = films([1, 1, 2, 3])
    manifest.table["split"] = ["test", "", "", ""]
    with pytest.raises(UserError, match="patient '1' stands in more than one split"):
        assign(manifest)


@pytest.fixture
def many(monkeypatch):
    """Deals patients out as if there were too many to balance one by one."""
    monkeypatch.setattr(splitting, "MANY", 10)
    patients = np.random.default_rng(1).geometric(0.02, 900)  # a few have many films
    return films(patients, classes=5)


@pytest.mark.parametrize("share", [0.05, 0.15, 0.5, 0.9])
def test_many_patients_are_dealt_out_whole_in_the_share_asked_for(share, many):
    table = assign(many, val=0, test=share).table
    assert table.groupby("patient")["split"].nunique().max() == 1
    tested = table.loc[table["split"] == "test", "patient"].nunique()
    assert tested == pytest.approx(share * many.patients, abs=1)
    assert shares(assign(many, val=0, test=share))["test"] == pytest.approx(share, abs=0.05)


def test_the_order_of_the_films_does_not_change_who_of_many_is_tested(many):
    mixed = Manifest(many.table.sample(frac=1, random_state=3, ignore_index=True), many.classes, many.task)
    tested = [set(m.table.loc[m.table["split"] == "test", "patient"]) for m in map(assign, (many, mixed))]
    assert tested[0] == tested[1]
    other = assign(many, seed=1).table
    assert tested[0] != set(other.loc[other["split"] == "test", "patient"])


def test_a_rare_class_among_many_patients_reaches_every_split(monkeypatch):
    monkeypatch.setattr(splitting, "MANY", 10)
    manifest = films(range(4000), classes=2)
    rare = np.arange(4000) % 200 == 0
    manifest.table["c1"], manifest.table["c0"] = rare.astype(float), (~rare).astype(float)
    found = assign(manifest).table.groupby("split")["c1"].sum()
    assert found.to_dict() == pytest.approx({"test": 4, "val": 2.4, "train": 13.6}, abs=1.1)
