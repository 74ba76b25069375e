import numpy as np
import pandas as pd
import pytest

from xrayssl.data.manifest import BOX_COLUMNS, Manifest, in_fractions, join, select
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


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_without_labels_every_film_stays(task):
    chosen = select(films(task=task), [])
    assert (len(chosen), chosen.classes, chosen.task) == (60, [], None)


def test_a_subset_of_exclusive_classes_keeps_only_their_films():
    manifest = films(task="multiclass", classes=("a", "b", "c"))
    chosen = select(manifest, ["c", "a"])
    assert len(chosen) == int(manifest.labels()[:, [0, 2]].sum())
    assert (chosen.labels().sum(axis=1) == 1).all()


def boxed(**options):
    """Five films with the classes a and b; a box of either on the first two."""
    manifest = films(5, per_patient=1, **options)
    paths = manifest.table["path"]
    boxes = [(paths[0], "a", 0.1, 0.2, 0.3, 0.4), (paths[1], "b", 0.5, 0.5, 0.5, 0.5)]
    return Manifest(
        manifest.table, manifest.classes, manifest.task, pd.DataFrame(boxes, columns=list(BOX_COLUMNS)), "study"
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"path": "/no.png"}, r"^/no\.png: the box of 'a' cannot be used: its film is not in the manifest"),
        ({"label": "c"}, r"^/folder/0\.png: the box of 'c' cannot be used: the class is none of a, b"),
        ({"left": -0.1}, "it lies outside the film"),
        ({"left": 0.8}, "it lies outside the film"),
        ({"top": 1.0, "height": 0.0}, "it lies outside the film"),
        ({"width": np.nan}, "it lies outside the film"),
    ],
)
def test_a_box_that_does_not_fit_is_refused_with_its_film(change, sentence):
    manifest = boxed()
    manifest.boxes.loc[0, list(change)] = list(change.values())
    with pytest.raises(UserError, match=sentence):
        Manifest(manifest.table, manifest.classes, "multilabel", manifest.boxes)


def test_a_column_that_the_boxes_lack_is_named():
    manifest = boxed()
    with pytest.raises(UserError, match="The boxes lack the column 'top'"):
        Manifest(manifest.table, manifest.classes, "multilabel", manifest.boxes.drop(columns="top"))


def test_boxes_and_the_unit_of_scoring_go_where_their_films_go():
    both = join([boxed(), films(5, corpus="other")])
    assert both.boxes.equals(boxed().boxes)
    assert (assign(boxed()).score, select(boxed(), ["b"]).score, join([boxed(), boxed(corpus="o")]).score) == (
        "study", "study", "study"
    )  # fmt: skip
    assert assign(boxed()).boxes.equals(boxed().boxes)
    assert select(boxed(), ["b"]).boxes["label"].tolist() == ["b"]
    kept = boxed().keep(np.arange(5) != 0)
    assert (len(kept), kept.boxes["path"].tolist(), kept.score) == (4, ["/folder/1.png"], "study")
    assert films().keep(np.zeros(60, bool)).boxes is None


def test_corpora_that_are_scored_differently_are_scored_by_film_and_that_is_said(caplog):
    assert join([boxed(), films(5, corpus="other")]).score == "film"
    assert "scored by film" in caplog.text


def test_boxes_go_with_the_labels_that_cannot_be_learned_together():
    both = join([boxed(), films(task="multiclass", corpus="other")])
    assert both.boxes is None
    assert not {"a", "b"} & set(both.table.columns)


def test_what_a_corpus_has_beside_the_others_stays_and_is_empty_elsewhere():
    stored = films(5)
    stored = Manifest(stored.table.assign(store="/store", offset=np.arange(5) + 2**60), ["a", "b"], "multilabel")
    for both in (join([stored, films(5, corpus="raw")]), join([stored, films(5, corpus="raw", task="multiclass")])):
        assert both.table["store"].tolist() == ["/store"] * 5 + [""] * 5
        assert both.table["offset"].tolist() == [*(np.arange(5) + 2**60), *[0] * 5]


def test_boxes_in_pixels_become_fractions_that_end_at_the_films_edge():
    pixels = pd.DataFrame([("/a", "x", -10, 50, 30, 100)], columns=list(BOX_COLUMNS))
    found = in_fractions(pixels, 200, pd.Series([100]))
    assert found.iloc[0].tolist() == ["/a", "x", 0.0, 0.5, 0.1, 0.5]


def test_a_film_without_a_patient_in_two_splits_is_found():
    manifest = films(2)
    table = manifest.table.assign(patient=[None, None], split=["train", "test"])
    with pytest.raises(UserError, match="stands in more than one split"):
        Manifest(table, manifest.classes, "multilabel")
