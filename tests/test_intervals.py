"""Exact metrics agree with scikit-learn; intervals cover what they promise, because they draw patients."""

import math

import numpy as np
import pytest
import sklearn.metrics as reference

from xrayssl.errors import UserError
from xrayssl.intervals import auroc, draws, evaluate, rank, weighted_auprc, weighted_auroc


def films(classes=4, patients=30, each=3, seed=0, task="multilabel"):
    """Random films with many tied probabilities; the last quarter of the labels of class 0 is unknown."""
    random = np.random.default_rng(seed)
    count = patients * each
    probability = random.integers(0, 12, (count, classes)) / 12
    patient = np.repeat(range(patients), each)
    if task == "multiclass":
        return probability, np.eye(classes)[random.integers(classes, size=count)], patient
    label = (random.random((count, classes)) < 0.4).astype(float)
    label[-count // 4 :, 0] = np.nan
    return probability, label, patient


def names(classes):
    return [f"finding {k}" for k in range(classes)]


@pytest.mark.parametrize("seed", range(5))
def test_auroc_with_ties_and_unknown_labels_is_that_of_scikit_learn(seed):
    probability, label, _ = films(1, seed=seed)
    known = ~np.isnan(label[:, 0])
    expected = reference.roc_auc_score(label[known, 0], probability[known, 0])
    assert auroc(probability[:, 0], label[:, 0]) == pytest.approx(expected, abs=1e-12)


def test_auroc_without_both_outcomes_is_not_a_number():
    assert math.isnan(auroc([0.2, 0.3], [1.0, 1.0])) and math.isnan(auroc([0.2, 0.3], [0.0, np.nan]))
    assert math.isnan(auroc([], []))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(weighted_auroc, reference.roc_auc_score), (weighted_auprc, reference.average_precision_score)],
)
def test_a_weight_counts_a_patient_as_often_as_it_says(ours, theirs):
    probability, label, patient = films(1, seed=3)
    probability, label = probability[:, 0], np.nan_to_num(label[:, 0])
    weight = next(draws(30, 8, seed=1, rows=8))
    expected = [theirs(label, probability, sample_weight=row[patient]) for row in weight]
    assert ours(rank(probability, label, patient), weight) == pytest.approx(expected, abs=1e-12)


def test_multilabel_figures_are_those_of_scikit_learn():
    probability, label, patient = films()
    metrics = evaluate(probability, label, patient, "multilabel", names(4), resamples=0)["metrics"]
    known = [~np.isnan(column) for column in label.T]
    areas = [reference.roc_auc_score(label[m, k], probability[m, k]) for k, m in enumerate(known)]
    precision = [reference.average_precision_score(label[m, k], probability[m, k]) for k, m in enumerate(known)]
    assert [metrics[f"auroc/finding {k}"]["value"] for k in range(4)] == pytest.approx(areas)
    assert metrics["auroc_macro"]["value"] == pytest.approx(np.mean(areas))
    assert metrics["auprc_macro"]["value"] == pytest.approx(np.mean(precision))


def test_multiclass_figures_are_those_of_scikit_learn():
    probability, label, patient = films(task="multiclass")
    metrics = evaluate(probability, label, patient, "multiclass", names(4), resamples=0)["metrics"]
    said, true = probability.argmax(1), label.argmax(1)
    assert metrics["accuracy"]["value"] == pytest.approx(reference.accuracy_score(true, said))
    recall = reference.balanced_accuracy_score(true, said)
    assert metrics["balanced_accuracy"]["value"] == pytest.approx(recall)
    assert metrics["kappa"]["value"] == pytest.approx(reference.cohen_kappa_score(true, said))
    assert metrics["auroc_macro"]["value"] == pytest.approx(reference.roc_auc_score(label, probability))


def test_a_class_nobody_has_is_named_and_left_out_of_the_mean():
    probability, label, patient = films(task="multiclass")
    wider, empty = np.insert(probability, 2, 0, axis=1), np.insert(label, 2, 0, axis=1)
    found = evaluate(wider, empty, patient, "multiclass", names(5), resamples=20)
    assert found["undefined"] == ["finding 2"] and found["metrics"]["auroc/finding 2"]["value"] is None
    area = reference.roc_auc_score(label, probability)
    assert found["metrics"]["auroc_macro"]["value"] == pytest.approx(area)
    recall = reference.balanced_accuracy_score(empty.argmax(1), wider.argmax(1))
    assert found["metrics"]["balanced_accuracy"]["value"] == pytest.approx(recall)


def test_one_film_has_figures_only_where_they_exist_and_no_interval():
    found = evaluate([[0.9, 0.1]], [[1.0, 0.0]], ["p"], "multiclass", ["a", "b"], resamples=10)
    assert found["metrics"]["accuracy"] == {"value": 1.0, "low": None, "high": None}
    assert found["metrics"]["auroc_macro"] == {"value": None, "low": None, "high": None}
    assert found["undefined"] == ["a", "b"] and (found["films"], found["patients"]) == (1, 1)


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_no_film_at_all_gives_no_figures(task):
    found = evaluate(np.empty((0, 2)), np.empty((0, 2)), [], task, ["a", "b"], resamples=5)
    assert found["films"] == 0 and all(entry["value"] is None for entry in found["metrics"].values())


def test_films_without_any_label_are_left_out_and_counted():
    probability, label, patient = films()
    label[:5] = np.nan
    found = evaluate(probability, label, patient, "multilabel", names(4), resamples=0)
    assert (found["films"], found["unlabelled"], found["patients"]) == (85, 5, 29)


def test_a_class_unknown_in_one_corpus_does_not_hide_the_true_class():
    label = [[np.nan, 1.0, 0.0], [1.0, 0.0, 0.0], [np.nan, 0.0, 0.0]]
    found = evaluate(np.eye(3), label, range(3), "multiclass", names(3), resamples=0)
    assert (found["films"], found["unlabelled"]) == (2, 1) and found["metrics"]["accuracy"]["value"] == 0.0
    assert found["metrics"]["auroc/finding 0"]["value"] is None  # the first film may or may not have it


def test_counts_say_how_many_films_have_each_outcome():
    found = evaluate([[0.1], [0.2], [0.3]], [[1], [0], [0]], list("abc"), "multilabel", ["x"], resamples=0)
    assert found["counts"] == {"x": {"positive": 1, "negative": 2}}


def test_a_resample_without_a_positive_patient_is_left_out_and_counted():
    label = np.zeros((20, 1))
    label[:2] = 1
    probability = np.linspace(1, 0, 20)[:, None]
    found = evaluate(probability, label, range(20), "multilabel", ["rare"], resamples=400)
    assert found["metrics"]["auroc/rare"]["low"] == 1.0
    assert 0.06 < found["interval"]["left_out"]["auroc/rare"] / 400 < 0.18  # (1 - 2/20) ** 20 = 0.12


def test_a_single_positive_patient_gives_no_interval():
    label, probability = np.eye(20)[:, :1], np.random.default_rng(0).random((20, 1))
    entry = evaluate(probability, label, range(20), "multilabel", ["rare"])["metrics"]["auroc/rare"]
    assert entry["value"] is not None and entry["low"] is None


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    probability, label, patient = films()
    zero, again, one = (
        evaluate(probability, label, patient, "multilabel", names(4), resamples=50, seed=s)["metrics"]
        for s in (0, 0, 1)
    )
    assert zero == again and zero["auroc_macro"]["low"] != one["auroc_macro"]["low"]


def test_the_interval_does_not_depend_on_how_many_resamples_are_held_at_once(monkeypatch):
    probability, label, patient = films()
    whole = evaluate(probability, label, patient, "multilabel", names(4), resamples=50)
    monkeypatch.setattr("xrayssl.intervals._CHUNK", 1)
    again = evaluate(probability, label, patient, "multilabel", names(4), resamples=50)
    for name, entry in whole["metrics"].items():
        assert again["metrics"][name] == pytest.approx(entry)


def test_the_interval_holds_the_percentiles_of_explicit_resamples():
    probability, label, patient = films(1, seed=2)
    label = np.nan_to_num(label)
    found = evaluate(probability, label, patient, "multilabel", ["a"], resamples=100, level=0.8)
    films_of = [np.flatnonzero(patient == p) for p in range(30)]
    areas = []
    for weight in next(draws(30, 100, seed=0, rows=100)).astype(int):
        drawn = np.concatenate([films_of[p] for p in range(30) for _ in range(weight[p])])
        areas.append(reference.roc_auc_score(label[drawn, 0], probability[drawn, 0]))
    entry = found["metrics"]["auroc_macro"]
    assert (entry["low"], entry["high"]) == pytest.approx(tuple(np.quantile(areas, [0.1, 0.9])))


def test_a_probability_that_is_not_a_number_says_the_network_diverged():
    with pytest.raises(UserError, match="diverged"):
        evaluate([[math.nan]], [[1.0]], ["p"], "multilabel", ["a"])


@pytest.mark.parametrize(
    ("label", "task", "sentence"),
    [([[1.0, 1.0]], "multiclass", "one true class"), ([[2.0, 0.0]], "multilabel", "1, 0 or NaN"),
     ([[1.0]], "multilabel", "do not fit"), ([[1.0, 0.0]], "regression", "task is")],
)  # fmt: skip
def test_labels_that_do_not_fit_are_refused(label, task, sentence):
    with pytest.raises(ValueError, match=sentence):
        evaluate([[0.5, 0.5]], label, ["p"], task, ["a", "b"])


def simulated_coverage(by_patient, trials=400, patients=60, each=6):
    """How often a nominal 95 % interval holds the true AUROC when films of a patient resemble each other."""
    random, held = np.random.default_rng(7), 0
    shift, spread = 1.0, math.hypot(1.0, 0.5)
    truth = 0.5 * (1 + math.erf(shift / (spread * math.sqrt(2)) / math.sqrt(2)))
    for trial in range(trials):
        ill = np.repeat(random.permutation(patients) % 2, each)
        score = shift * ill + np.repeat(random.normal(size=patients), each)
        score += 0.5 * random.normal(size=len(ill))
        unit = np.arange(len(ill)) // each if by_patient else np.arange(len(ill))
        chance = 1 / (1 + np.exp(-score))[:, None]
        found = evaluate(chance, ill[:, None], unit, "multilabel", ["a"], resamples=200, seed=trial)
        held += found["metrics"]["auroc_macro"]["low"] <= truth <= found["metrics"]["auroc_macro"]["high"]
    return held / trials


def test_patient_intervals_cover_the_truth_about_as_often_as_they_say():
    assert 0.90 <= simulated_coverage(by_patient=True) <= 0.99


def test_film_intervals_would_be_too_narrow():
    assert simulated_coverage(by_patient=False) < 0.75
