import numpy as np
import pandas as pd
import pytest

from xrayssl.data.manifest import Manifest, join, select
from xrayssl.data.split import assign
from xrayssl.errors import UserError


def films(count=60, split="", classes=("a", "b"), per_patient=3, corpus="folder", task="multilabel"):
    rng, patients = np.random.default_rng(0), [f"{corpus}{i // per_patient}" for i in range(count)]
    table = pd.DataFrame({"path": [f"/{corpus}/{i}.png" for i in range(count)], "corpus": corpus, "patient": patients,
                          "study": patients, "view": "", "split": split})  # fmt: skip
    for name in classes:
        table[name] = (rng.random(count) < 0.3).astype(float)
    if task == "multiclass":
        table[list(classes)] = np.eye(len(classes))[rng.integers(len(classes), size=count)]
    return Manifest(table, list(classes), task)


def test_a_split_keeps_patients_whole_and_is_a_function_of_its_seed():
    first, again, other = assign(films(), seed=1), assign(films(), seed=1), assign(films(), seed=2)
    assert first.table.groupby("patient")["split"].nunique().max() == 1
    assert first.table.equals(again.table)
    assert not first.table.equals(other.table)
    assert set(first.table["split"]) == {"train", "val", "test"}


def test_official_splits_stay_and_validation_is_cut_from_train():
    split = ["test"] * 15 + ["train"] * 45
    assigned = assign(films(split=split)).table
    assert (assigned["split"] == "test").tolist() == [name == "test" for name in split]
    assert (assigned["split"] == "val").sum() > 0


def test_a_patient_in_two_splits_is_an_error_that_names_the_films():
    with pytest.raises(UserError, match=r"patient 'folder0'.*/folder/0\.png \(train\).*/folder/1\.png \(test\)"):
        films(count=3, split=["train", "test", "train"])


def test_a_file_in_two_splits_is_an_error():
    manifest = films(count=2, per_patient=1)
    table = manifest.table.assign(path="/x.png", split=["train", "test"])
    with pytest.raises(UserError, match=r"path '/x\.png'"):
        Manifest(table, manifest.classes, "multilabel")


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [("a", 2.0, r"label 'a' is .*2\.0.*write 1, 0 or leave it empty"), ("split", "dev", "none of train, val, test")],
)
def test_a_value_outside_its_vocabulary_is_an_error_that_names_the_film(column, value, sentence):
    manifest = films()
    manifest.table.loc[3, column] = value
    with pytest.raises(UserError, match=rf"/folder/3\.png.*{sentence}"):
        Manifest(manifest.table, manifest.classes, manifest.task)


def test_every_missing_column_is_named():
    table = films().table.drop(columns=["patient", "b"])
    with pytest.raises(UserError) as caught:
        Manifest(table, ["a", "b"], "multilabel")
    assert [("patient" in text, "'b'" in text) for text in caught.value.messages] == [(True, False), (False, True)]


def test_two_classes_at_once_are_refused_where_one_must_hold():
    manifest = films(task="multiclass")
    manifest.table.loc[0, ["a", "b"]] = 1.0
    with pytest.raises(UserError, match=r"/folder/0\.png.*exactly one class"):
        Manifest(manifest.table, manifest.classes, "multiclass")


def test_a_finding_that_a_corpus_does_not_know_is_unknown_in_the_joined_table():
    both = join([films(classes=["a"]), films(classes=["b"], corpus="other")])
    assert both.classes == ["a", "b"]
    assert np.isnan(both.labels()[:60, 1]).all()


def test_a_class_that_a_corpus_does_not_know_is_absent_where_one_must_hold():
    both = join(
        [films(classes=["a", "b"], task="multiclass"), films(classes=["c", "d"], corpus="o", task="multiclass")]
    )
    assert (both.labels().sum(axis=1) == 1).all()


def test_mixed_tasks_lose_their_labels_and_say_so(caplog):
    both = join([films(), films(task="multiclass", corpus="other")])
    assert (both.task, both.classes) == (None, [])
    assert "left out" in caplog.text


def test_labels_are_selected_in_the_order_asked_for_and_unknown_ones_refused():
    assert select(films(), ["b"]).classes == ["b"]
    with pytest.raises(UserError) as caught:
        select(films(), ["x", "a", "y"])
    assert len(caught.value.messages) == 2


def test_the_checksum_follows_content_and_not_the_place():
    moved = films()
    moved.table["path"] = "/elsewhere" + moved.table["path"]
    relabelled = films()
    relabelled.table.loc[0, "a"] = 1 - relabelled.table.loc[0, "a"]
    assert films().checksum() == moved.checksum() != relabelled.checksum()


def test_a_subset_of_exclusive_classes_keeps_only_their_films():
    manifest = films(task="multiclass", classes=("a", "b", "c"))
    chosen = select(manifest, ["c", "a"])
    assert len(chosen) == int(manifest.labels()[:, [0, 2]].sum())
    assert (chosen.labels().sum(axis=1) == 1).all()
