"""Exact metrics agree with scikit-learn; intervals cover what they promise, because they draw patients."""

import math

import numpy as np
import pytest
import sklearn.metrics as reference

from xrayssl.errors import UserError
from xrayssl.statistics.calibration import scaled
from xrayssl.statistics.intervals import evaluate
from xrayssl.statistics.resampling import draws, expanded


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


def decided(probability, label, least):
    """Metrics of decisions on the films whose label is known, by scikit-learn."""
    known = ~np.isnan(label)
    said, true = probability[known] >= least, label[known]
    flip = {"y_true": 1 - true, "y_pred": 1 - said}
    return {
        "sensitivity": reference.recall_score(true, said),
        "specificity": reference.recall_score(**flip),
        "ppv": reference.precision_score(true, said),
        "npv": reference.precision_score(**flip),
        "f1": reference.f1_score(true, said),
        "accuracy": reference.accuracy_score(true, said),
        "balanced_accuracy": reference.balanced_accuracy_score(true, said),
        "kappa": reference.cohen_kappa_score(true, said),
    }


@pytest.mark.parametrize("seed", range(3))
def test_decisions_at_thresholds_are_those_of_scikit_learn(seed):
    probability, label, patient = films(seed=seed)
    least = dict(zip(names(4), (0.25, 0.5, 0.4, 0.7), strict=True))  # 0.25 and 0.5 are probabilities that occur
    metrics = evaluate(probability, label, patient, "multilabel", names(4), resamples=0, threshold=least)["metrics"]
    each = [decided(probability[:, k], label[:, k], least[name]) for k, name in enumerate(names(4))]
    for k, expected in enumerate(each):
        found = {metric: metrics[f"{metric}/finding {k}"]["value"] for metric in expected}
        assert found == pytest.approx(expected)
    for metric in ("f1", "sensitivity", "specificity"):
        mean = np.mean([expected[metric] for expected in each])
        assert metrics[f"{metric}_macro"]["value"] == pytest.approx(mean)


def test_a_class_among_others_is_decided_against_the_rest():
    probability, label, patient = films(task="multiclass")
    metrics = evaluate(probability, label, patient, "multiclass", names(4), resamples=0,
                       threshold={"finding 1": 0.3})["metrics"]  # fmt: skip
    expected = decided(probability[:, 1], label[:, 1], 0.3)
    for metric in ("sensitivity", "specificity", "ppv", "npv", "f1"):
        assert metrics[f"{metric}/finding 1"]["value"] == pytest.approx(expected[metric])
    assert "kappa/finding 1" not in metrics and "f1/finding 0" not in metrics


def test_a_class_without_a_threshold_is_named_by_the_means_that_miss_it():
    probability, label, patient = films()
    least = {"finding 0": 0.5, "finding 1": None, "finding 2": 0.5}
    found = evaluate(probability, label, patient, "multilabel", names(4), resamples=20, threshold=least)
    metrics, missed = found["metrics"], ["finding 1", "finding 3"]
    assert found["undefined"] == []
    assert found["macro_without"] == dict.fromkeys(["f1_macro", "sensitivity_macro", "specificity_macro"], missed)
    assert metrics["f1_macro"]["value"] == pytest.approx(np.mean([metrics[f"f1/finding {k}"]["value"] for k in (0, 2)]))


def test_brier_scores_are_those_of_scikit_learn():
    probability, label, patient = films()
    metrics = evaluate(probability, label, patient, "multilabel", names(4), resamples=0)["metrics"]
    known = [~np.isnan(column) for column in label.T]
    each = [reference.brier_score_loss(label[m, k], probability[m, k]) for k, m in enumerate(known)]
    assert [metrics[f"brier/finding {k}"]["value"] for k in range(4)] == pytest.approx(each)
    assert metrics["brier"]["value"] == pytest.approx(np.mean(each))
    probability, label, patient = films(task="multiclass")
    probability = (probability + 1) / (probability + 1).sum(1, keepdims=True)
    found = evaluate(probability, label, patient, "multiclass", names(4), resamples=0)["metrics"]["brier"]["value"]
    assert found == pytest.approx(np.mean([((p - y) ** 2).sum() for p, y in zip(probability, label, strict=True)]))


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_scaled_calibration_errors_are_those_of_the_scaled_probabilities(task):
    probability, label, patient = films(task=task)
    probability = 0.05 + 0.9 * probability
    probability = probability / probability.sum(1, keepdims=True) if task == "multiclass" else probability
    ours = evaluate(probability, label, patient, task, names(4), resamples=0, temperature=2.0)["metrics"]
    again = evaluate(scaled(probability, 2.0, task), label, patient, task, names(4), resamples=0)["metrics"]
    calibrated = [name for name in again if name.startswith("ece")]
    assert len(calibrated) == (5 if task == "multilabel" else 1)
    for name in calibrated:
        assert ours[name.replace("ece", "ece_scaled")]["value"] == pytest.approx(again[name]["value"])


def test_the_calibration_error_of_classes_is_that_of_the_most_probable_one():
    probability, label, patient = films(task="multiclass")
    probability = probability / np.maximum(probability.sum(1, keepdims=True), 1e-9)
    found = evaluate(probability, label, patient, "multiclass", names(4), resamples=0)["metrics"]["ece"]["value"]
    sure, right = probability.max(1), label[np.arange(len(label)), probability.argmax(1)]
    groups = [(k / 15 <= sure) & ((sure < (k + 1) / 15) | (k == 14)) for k in range(15)]
    gaps = [abs(sure[group].sum() - right[group].sum()) for group in groups]
    assert found == pytest.approx(sum(gaps) / len(sure))


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
    assert found["metrics"]["auroc/rare"] == {"value": 1.0, "low": pytest.approx(0.025**0.5), "high": 1.0}
    assert 0.06 < found["interval"]["left_out"]["auroc/rare"] / 400 < 0.18  # (1 - 2/20) ** 20 = 0.12


@pytest.mark.parametrize(("patients", "low"), [(10, 0.025 ** (1 / 5)), (200, 0.025 ** (1 / 100))])
def test_a_perfect_score_is_the_less_certain_the_fewer_patients_there_are(patients, low):
    label = np.repeat(np.arange(patients) % 2, 3)[:, None]
    found = evaluate(label * 0.5 + 0.2, label, np.repeat(range(patients), 3), "multilabel", ["a"],
                     resamples=50, threshold={"a": 0.5})  # fmt: skip
    metrics = found["metrics"]
    for name in ("auroc_macro", "auroc/a", "sensitivity/a", "f1/a"):
        assert metrics[name] == {"value": 1.0, "low": pytest.approx(low), "high": 1.0}
        assert name in found["interval"]["exact"]
    assert metrics["accuracy/a"]["low"] == pytest.approx(0.025 ** (1 / patients))
    assert metrics["kappa/a"] == metrics["auprc/a"] == {"value": 1.0, "low": None, "high": None}


def test_a_score_without_a_hit_has_an_interval_too():
    label = np.tile([1.0, 0.0], 20)[:, None]
    found = evaluate(np.full((40, 1), 0.4), label, range(40), "multilabel", ["a"], resamples=50, threshold={"a": 0.9})
    assert found["metrics"]["sensitivity/a"] == {"value": 0.0, "low": 0.0, "high": pytest.approx(1 - 0.025 ** (1 / 20))}


def test_a_calibration_error_lies_inside_its_interval():
    random = np.random.default_rng(0)
    chance = random.random((3000, 1))
    label = random.random((3000, 1)) < chance  # perfectly calibrated: resampling adds nothing but noise
    for seed in range(3):
        entry = evaluate(chance, label, range(3000), "multilabel", ["a"], resamples=200, seed=seed)["metrics"]["ece"]
        assert entry["low"] < entry["value"] < entry["high"]


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


@pytest.mark.parametrize("threads", [1, 3])
def test_the_interval_does_not_depend_on_how_many_threads_make_it(threads, monkeypatch):
    probability, label, patient = films()
    whole = evaluate(probability, label, patient, "multilabel", names(4), resamples=200)
    monkeypatch.setattr("os.cpu_count", lambda: threads)
    assert evaluate(probability, label, patient, "multilabel", names(4), resamples=200) == whole


def explicit(patient, weight_M):
    """The films of a resample, each as often as its patient was drawn."""
    films_of = [np.flatnonzero(patient == p) for p in range(len(weight_M))]
    return np.concatenate([films_of[p] for p, times in enumerate(weight_M.astype(int)) for _ in range(times)])


def test_the_interval_holds_the_percentiles_of_explicit_resamples():
    probability, label, patient = films(1, seed=2)
    label = np.nan_to_num(label)
    found = evaluate(probability, label, patient, "multilabel", ["a"], resamples=100, level=0.8)
    drawn = [explicit(patient, weight_M) for block_MR in draws(30, 100, seed=0) for weight_M in block_MR.T]
    areas = [reference.roc_auc_score(label[rows, 0], probability[rows, 0]) for rows in drawn]
    tail = expanded(0.1, 15)  # 30 patients with both outcomes: 15 pairs of which none shares a patient
    assert 0.08 < tail < 0.1
    entry = found["metrics"]["auroc_macro"]
    assert (entry["low"], entry["high"]) == pytest.approx(tuple(np.quantile(areas, [tail, 1 - tail])))


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_every_metric_of_a_resample_is_that_of_its_films_measured_anew(task, monkeypatch):
    """The interval is taken to be that of one resample, both ends, and compared with a copy of the films."""
    probability, label, patient = films(task=task, seed=5)
    fitted = {"threshold": {"finding 0": 0.4, "finding 2": 0.6, "finding 3": 0.2}, "temperature": 1.7}
    seen = {}
    monkeypatch.setattr(
        "xrayssl.statistics.intervals.interval",
        lambda name, value, cloud, *_: seen.update({name: cloud}) or {"value": value, "low": None, "high": None},
    )
    evaluate(probability, label, patient, task, names(4), resamples=3, **fitted)
    weights = next(draws(30, 3, seed=0))
    clouds = dict(seen)
    for number, weight_M in enumerate(weights.T):
        rows = explicit(patient, weight_M)
        again = evaluate(probability[rows], label[rows], patient[rows], task, names(4), resamples=0, **fitted)
        values = {name: entry["value"] for name, entry in again["metrics"].items()}
        assert {name: cloud[number] for name, cloud in clouds.items()} == pytest.approx(values, nan_ok=True)


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


def simulated_coverage(by_patient, ill=0.5, trials=500, patients=60, each=6):
    """How often a nominal 95 % interval holds the true AUROC when films of a patient resemble each other."""
    random, held = np.random.default_rng(7), 0
    shift, spread = 1.0, math.hypot(1.0, 0.5)
    truth = 0.5 * (1 + math.erf(shift / (spread * math.sqrt(2)) / math.sqrt(2)))
    sick = np.arange(patients) < ill * patients
    for trial in range(trials):
        label = np.repeat(sick, each)
        score = shift * label + np.repeat(random.normal(size=patients), each)
        score += 0.5 * random.normal(size=len(label))
        unit = np.arange(len(label)) // each if by_patient else np.arange(len(label))
        chance = 1 / (1 + np.exp(-score))[:, None]
        found = evaluate(chance, label[:, None], unit, "multilabel", ["a"], resamples=250, seed=trial)
        held += found["metrics"]["auroc_macro"]["low"] <= truth <= found["metrics"]["auroc_macro"]["high"]
    return held / trials


@pytest.mark.parametrize(("ill", "patients"), [(0.5, 60), (0.1, 100)])
def test_patient_intervals_cover_the_truth_as_often_as_they_say(ill, patients):
    assert 0.93 <= simulated_coverage(True, ill, patients=patients) <= 0.97


def test_film_intervals_would_be_too_narrow():
    assert simulated_coverage(False, trials=200) < 0.75
