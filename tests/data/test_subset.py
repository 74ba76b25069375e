from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrayssl.data import XrayDataModule
from xrayssl.data.manifest import Manifest
from xrayssl.data.subset import Subset, draw, wrong
from xrayssl.errors import UserError

FRACTIONS = (0.01, 0.05, 0.1, 0.5, 1.0)


def films(patients=200, classes=5, task="multilabel", seed=0, most=4):
    """Patients with one to four films in train, and a few in val and test; the classes become ever rarer."""
    rng = np.random.default_rng(seed)
    names = np.repeat([f"p{i}" for i in range(patients)], rng.integers(1, most + 1, patients))
    split = {f"p{i}": ("val" if i % 10 == 8 else "test" if i % 10 == 9 else "train") for i in range(patients)}
    table = pd.DataFrame({"path": [f"/{i}.png" for i in range(len(names))], "corpus": "folder", "patient": names,
                          "study": names, "view": "", "split": [split[name] for name in names]})  # fmt: skip
    columns = [f"c{k}" for k in range(classes)]
    if task == "multiclass":
        labels = np.eye(classes)[rng.choice(classes, len(names), p=_shares(classes))]
    else:
        labels = (rng.random((len(names), classes)) < 0.4 / 2.0 ** np.arange(classes)).astype(float)
    return Manifest(pd.concat([table, pd.DataFrame(labels, columns=columns)], axis=1), columns, task)


def _shares(classes):
    share = 1 / 2.0 ** np.arange(classes)
    return share / share.sum()


def of(manifest, split="train"):
    return manifest.table[manifest.table["split"] == split]


def drawn(manifest, **asked):
    return {*of(draw(manifest, Subset(**asked)))["path"]}


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
@pytest.mark.parametrize("asked", [[{"fraction": one} for one in FRACTIONS], [{"shots": n} for n in (1, 5, 10, 50)]])
def test_smaller_subsets_lie_inside_larger_ones(asked, task):
    found = [drawn(films(task=task), **one) for one in asked]
    assert all(few <= many for few, many in pairwise(found))
    assert len({len(one) for one in found}) == len(found)


@settings(deadline=None, max_examples=30)
@given(st.integers(3, 40), st.integers(0, 4), st.sampled_from(FRACTIONS), st.integers(0, 3))
def test_a_fraction_keeps_patients_whole(patients, classes, fraction, seed):
    manifest = films(patients, classes, "multilabel" if classes else None, seed)
    kept, every = drawn(manifest, fraction=fraction, seed=seed), of(manifest)
    inside = every["path"].isin(kept).groupby(every["patient"])
    assert inside.nunique().max() == 1
    assert inside.first().sum() == max(1, round(fraction * every["patient"].nunique()))


@pytest.mark.parametrize("asked", [{"fraction": 0.1}, {"shots": 3}])
def test_validation_and_test_stay_as_they_are(asked):
    manifest = films()
    found = draw(manifest, Subset(**asked))
    for split in ("val", "test"):
        pd.testing.assert_frame_equal(
            of(found, split).reset_index(drop=True), of(manifest, split).reset_index(drop=True)
        )


@pytest.mark.parametrize("asked", [{"fraction": 0.1}, {"shots": 3}, {"shots": 60}])
def test_neither_the_order_of_the_rows_nor_the_split_changes_the_draw_but_the_seed_does(asked):
    manifest = films()
    shuffled = Manifest(
        manifest.table.sample(frac=1, random_state=3).reset_index(drop=True), manifest.classes, "multilabel"
    )
    assert drawn(manifest, **asked) == drawn(shuffled, **asked)
    assert drawn(manifest, **asked) != drawn(manifest, **asked, seed=1)


def test_a_small_fraction_has_every_class_and_healthy_films_if_it_has_as_many_patients():
    manifest = films(600, 6, most=1)
    found = of(draw(manifest, Subset(0.02)))
    labels = found[manifest.classes].to_numpy()
    assert len(found) == 10
    assert (labels.sum(axis=0) > 0).all()
    assert (labels.sum(axis=1) == 0).any()


def test_a_fraction_has_the_classes_in_their_proportions():
    manifest = films(2000, 4, "multiclass", most=1)
    share = of(draw(manifest, Subset(0.1)))[manifest.classes].mean()
    assert share.to_numpy() == pytest.approx(of(manifest)[manifest.classes].mean().to_numpy(), abs=0.01)


def test_a_share_of_the_labelled_patients_is_drawn_where_most_have_no_label():
    manifest = films(4000, 3, most=1)
    table = manifest.table.copy()
    table.loc[table.index % 5 > 0, manifest.classes] = np.nan
    found = of(draw(Manifest(table, manifest.classes, "multilabel"), Subset(0.5)))[manifest.classes]
    assert found.notna().all(axis=1).sum() == pytest.approx(400, abs=4)  # 800 of 3,200 training patients have labels


def test_shots_are_films_of_each_class_from_different_patients():
    manifest = films(400, 4, "multiclass")
    found = of(draw(manifest, Subset(shots=5)))
    assert found[manifest.classes].sum().tolist() == [5.0] * 4
    assert all(found["patient"][found[name] == 1].is_unique for name in manifest.classes)


def test_a_patient_gives_a_second_film_only_when_every_patient_has_given_one():
    manifest = films(10, 1, "multilabel", seed=1)
    manifest.table["c0"] = 1.0
    patients = of(manifest)["patient"].nunique()
    found = of(draw(manifest, Subset(shots=patients + 1)))
    assert sorted(found["patient"].value_counts()) == [1] * (patients - 1) + [2]


def test_a_film_with_two_findings_counts_for_both_and_findings_get_films_without_any():
    manifest = films()
    found = of(draw(manifest, Subset(shots=4)))[manifest.classes].to_numpy()
    assert found.sum(axis=0).min() >= 4
    assert (found.sum(axis=1) == 0).sum() == 4
    assert len(found) < 4 * (len(manifest.classes) + 1)


def test_films_whose_labels_are_unknown_are_no_shots_and_no_negatives():
    manifest = films()
    unknown = manifest.table.index[manifest.table["split"] == "train"][:50]
    manifest.table.loc[unknown, manifest.classes] = np.nan
    assert not drawn(manifest, shots=20) & {*manifest.table["path"][unknown]}


def test_a_class_with_fewer_films_than_shots_gives_all_and_is_named(caplog):
    manifest = films(60)
    few = int(of(manifest)["c4"].sum())
    with caplog.at_level("WARNING", "xrayssl"):
        assert of(draw(manifest, Subset(shots=few + 1)))["c4"].sum() == few
    assert f"fewer training films: c4 ({few})" in caplog.text


def test_a_fraction_of_films_without_labels_is_one_of_all_and_shots_are_refused():
    manifest = Manifest(films(classes=0, task=None).table)
    assert of(draw(manifest, Subset(0.5)))["patient"].nunique() == of(manifest)["patient"].nunique() / 2
    with pytest.raises(UserError, match="counts films per class, and these corpora have no labels"):
        draw(manifest, Subset(shots=1))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"fraction": 0.0}, "a share above 0 and up to 1, not 0"),
        ({"fraction": 5.0}, r"not 5\. 5 % is 0\.05\."),
        ({"shots": 0}, "1 film per class or more, not 0"),
        ({"fraction": 0.5, "shots": 5}, "both say how much"),
        ({"subset_seed": -1}, "0 or more, not -1"),
        ({"fold": "0/5"}, "counts the folds from 1"),
        ({"fold": "3"}, "is i/k, such as 1/5"),
        ({"fold": "1/1"}, "of 2 or more"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(asked, says):
    with pytest.raises(UserError, match=says):
        XrayDataModule(**asked)


def test_everything_is_what_it_was():
    assert wrong(Subset()) == []
    manifest = films()
    assert draw(manifest, Subset()) is manifest


def test_the_data_module_draws_after_the_labels_are_chosen_and_keeps_what_it_was_asked_for():
    corpora = {"phantom": {"films": 60, "size": 48}}
    data = XrayDataModule(corpora, labels=["Effusion"], shots=2, img_size=32, batch_size=4, num_workers=0)
    whole = XrayDataModule(corpora, labels=["Effusion"], img_size=32, batch_size=4, num_workers=0)
    training = data.manifest.table.iloc[data.manifest.rows("train")]
    assert sorted(training["Effusion"]) == [0.0, 0.0, 1.0, 1.0]
    assert len(data.manifest.rows("val")) == len(whole.manifest.rows("val"))
    assert (data.fold, data.fraction, data.shots, data.subset_seed) == (None, 1.0, 2, 0)
