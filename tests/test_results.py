import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from xrayssl import results
from xrayssl.errors import UserError
from xrayssl.metrics import Gathered, evaluate
from xrayssl.statistics.delong import delong
from xrayssl.statistics.operating import Operating


def table(count=6):
    names = [f"f{i}.png" for i in range(count)]
    patients = [f"p{i // 2}" for i in range(count)]
    return pd.DataFrame({"path": names, "patient": patients, "study": patients, "split": "test"})


def films(index, seed=0):
    rng = np.random.default_rng(seed)
    label = np.eye(2, dtype=np.float32)[np.arange(len(index)) % 2]
    return Gathered(np.array(index), rng.random((len(index), 2)).astype(np.float32), label)


def test_predictions_name_the_film_patient_and_split_of_every_row(tmp_path):
    results.write(tmp_path, table(), films([1, 3, 4]), "multiclass", ["a", "b"], "test")
    rows = pd.read_parquet(tmp_path / results.PREDICTIONS)
    assert rows["patient"].tolist() == ["p0", "p1", "p2"]
    assert [name.rpartition("/")[2] for name in rows["film"]] == ["f1.png", "f3.png", "f4.png"]
    assert rows[["label/a", "label/b"]].to_numpy().tolist() == [[1, 0], [0, 1], [1, 0]]


def test_both_files_say_their_version_task_and_classes(tmp_path):
    results.write(tmp_path, table(), films([0, 1, 2, 3]), "multiclass", ["a", "b"], "test")
    header = json.loads(pyarrow.parquet.read_schema(tmp_path / results.PREDICTIONS).metadata[b"xrayssl"])
    figures = json.loads((tmp_path / results.METRICS).read_text())
    assert header == {"version": 1, "task": "multiclass", "classes": ["a", "b"], "selected_on": "val"}
    assert {key: figures[key] for key in header} == {**header, "version": 2}


def test_a_summary_has_a_line_per_headline_figure_with_its_interval(tmp_path):
    figures = results.write(tmp_path, table(), films(range(6)), "multiclass", ["a", "b"], "test")
    lines = results.summary(figures).splitlines()
    assert lines[0] == "test: 6 films of 3 patients, 95% intervals over patients"
    headline = [name for name in figures["metrics"] if "/" not in name]
    assert [line.split()[0] for line in lines[1:-1]] == headline and "metrics.json" in lines[-1]
    accuracy = figures["metrics"]["accuracy"]
    assert f"{accuracy['value']:.3f}  ({accuracy['low']:.3f} to {accuracy['high']:.3f})" in "\n".join(lines)


def test_nothing_half_written_stays_behind(tmp_path):
    results.write(tmp_path, table(), films([0, 1]), "multiclass", ["a", "b"], "test")
    assert {path.name for path in tmp_path.iterdir()} == {results.PREDICTIONS, results.METRICS}


# Studies


def exams(patients=60, seed=3):
    """A table of patients with studies `s0`, `s1` (the same names in every patient) of 1-4 films; labels by study."""
    rng = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        for study in range(rng.integers(1, 3)):
            sick = int(rng.random() < 0.4)
            for _ in range(rng.integers(1, 5)):
                rows.append({"corpus": "c", "patient": f"p{patient}", "study": f"s{study}", "sick": sick})
    table = pd.DataFrame(rows).sample(frac=1, random_state=seed).reset_index(drop=True)
    score = rng.random(len(table)) * 0.7 + 0.3 * table["sick"]
    probability = np.stack([1 - score, score], 1).astype(np.float32)
    label = np.eye(2, dtype=np.float32)[table["sick"]]
    return table.assign(path=[f"f{i}.png" for i in table.index], split="test"), probability, label


def slowly(table, probability, label):
    """Patient, mean probability and greatest known label of each study, the obvious way."""
    found = {}
    for row, (p, y) in enumerate(zip(probability, label, strict=True)):
        found.setdefault((table["patient"][row], table["study"][row]), []).append((p.astype(float), y))
    patient = [name for name, _ in found]
    mean = np.array([sum(p for p, _ in of) / len(of) for of in found.values()])
    known = [[max([y[k] for _, y in of if y[k] == y[k]], default=np.nan) for k in (0, 1)] for of in found.values()]
    return patient, mean, np.array(known)


def test_studies_are_scored_as_a_slow_recomputation_scores_them(tmp_path):
    table, probability, label = exams()
    films = Gathered(np.arange(len(table)), probability, label)
    figures = results.write(tmp_path, table, films, "multiclass", ["well", "sick"], "test", "study")
    patient, mean, known = slowly(table, probability, label)
    assert figures["metrics"]["auroc/sick"]["value"] == pytest.approx(roc_auc_score(known[:, 1], mean[:, 1]))
    assert figures["metrics"]["kappa"]["value"] == pytest.approx(cohen_kappa_score(known[:, 1], mean[:, 1] > 0.5))
    again = evaluate(mean.astype(np.float32), known, patient, "multiclass", ["well", "sick"])
    assert figures["metrics"] == again["metrics"]
    assert (figures["unit"], figures["studies"], figures["films"]) == ("study", len(mean), len(table))


def test_the_figures_of_studies_are_not_those_of_films(tmp_path):
    table, probability, label = exams()
    films = Gathered(np.arange(len(table)), probability, label)
    by_film = results.write(tmp_path, table, films, "multiclass", ["well", "sick"], "test")
    by_study = results.write(tmp_path, table, films, "multiclass", ["well", "sick"], "test", "study")
    assert by_film["unit"] == "film" and "studies" not in by_film
    assert by_film["metrics"]["auroc_macro"] != by_study["metrics"]["auroc_macro"]
    assert len(pd.read_parquet(tmp_path / results.PREDICTIONS)) == len(table)


def test_what_is_known_of_a_study_is_what_is_known_of_any_of_its_films():
    table, probability, label = exams(12)
    label[np.random.default_rng(0).random(label.shape) < 0.5] = np.nan
    found = results.by_study(Gathered(np.arange(len(table)), probability, label), table, "multilabel")
    _, mean, known = slowly(table, probability, label)
    np.testing.assert_array_equal(found.label, known)
    np.testing.assert_allclose(found.probability, mean, rtol=1e-6)


def test_a_study_of_films_of_different_classes_is_refused_by_name():
    table, probability, _ = exams(1)
    study = table["study"].value_counts().index[0]
    torn = np.eye(2, dtype=np.float32)[np.arange(len(table)) % 2]
    with pytest.raises(UserError, match=f"the study '{study}' are of different classes"):
        results.by_study(Gathered(np.arange(len(table)), probability, torn), table.assign(study=study), "multiclass")


def test_a_summary_of_studies_says_how_many_there_are(tmp_path):
    table, probability, label = exams(10)
    films = Gathered(np.arange(len(table)), probability, label)
    figures = results.write(tmp_path, table, films, "multiclass", ["well", "sick"], "test", "study")
    studies = table.groupby(["patient", "study"]).ngroups
    assert results.summary(figures).startswith(f"test: {len(table)} films in {studies} studies of 10 patients")


# Version 2


def findings(count=120, seed=0):
    """A table with sex, age and view, and films of three findings of which the last is never known to be absent."""
    rng = np.random.default_rng(seed)
    rows = {"path": [f"f{i}.png" for i in range(count)], "corpus": "c", "study": [f"s{i // 2}" for i in range(count)]}
    rows |= {"patient": [f"p{i // 3}" for i in range(count)], "split": "test", "view": rng.choice(["PA", "AP"], count)}
    sex = np.where(np.arange(count) // 3 % 3 > 0, "F", "M")
    label = (rng.random((count, 3)) < 0.4).astype(np.float32)
    label[:, 2] = np.where(rng.random(count) < 0.5, np.nan, 1)
    probability = (0.2 * label + 0.8 * rng.random((count, 3))).astype(np.float32)
    probability[:, 2] = rng.random(count)
    return pd.DataFrame(rows).assign(sex=sex, age=rng.uniform(0, 90, count)), Gathered(
        np.arange(count), probability, label
    )


NAMES = ["a", "b", "c"]
TUNED = Operating("youden", "val", 50, {"a": 0.5, "b": 0.4, "c": None}, 1.5)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Metrics.json as it was read back, and what it was made from."""
    folder = tmp_path_factory.mktemp("run")
    rows, seen = findings()
    results.write(folder, rows, seen, "multilabel", NAMES, "test", tuned=TUNED)
    return json.loads((folder / results.METRICS).read_text()), rows, seen


def test_the_figures_say_what_was_fitted_and_what_selected(measured):
    figures, _, _ = measured
    assert (figures["version"], figures["selected_on"]) == (2, "val")
    assert figures["operating"] == asdict(TUNED)
    assert "independent" in figures["interval"]["secondary"]


def test_each_subgroup_has_the_figures_of_its_films_alone(measured):
    figures, rows, seen = measured
    groups = figures["subgroups"]
    assert list(groups) == ["sex", "age", "view"] and set(groups["sex"]) == {"F", "M"}
    women = np.flatnonzero(rows["sex"] == "F")
    alone = evaluate(seen.probability[women], seen.label[women], rows["patient"].to_numpy()[women], "multilabel",
                     NAMES, threshold=TUNED.threshold, temperature=TUNED.temperature)  # fmt: skip
    assert groups["sex"]["F"]["metrics"] == {n: e for n, e in alone["metrics"].items() if "/" not in n}
    assert groups["sex"]["F"]["films"] + groups["sex"]["M"]["films"] == figures["films"]
    assert groups["sex"]["F"]["undefined"] == ["c"]


def test_reliability_holds_every_known_film_before_and_after_scaling(measured):
    figures, _, seen = measured
    known = (~np.isnan(seen.label)).sum(axis=0)
    for stage in ("before", "after"):
        found = figures["calibration"][stage]
        assert [sum(each["films"] for each in found[name]) for name in NAMES] == known.tolist()
    assert figures["calibration"]["before"] != figures["calibration"]["after"]


def test_the_secondary_interval_of_each_class_is_delongs(measured):
    figures, _, seen = measured
    assert figures["delong"] == {name: delong(seen.probability[:, k], seen.label[:, k]) for k, name in enumerate(NAMES)}
    assert figures["delong"]["a"]["value"] == pytest.approx(figures["metrics"]["auroc/a"]["value"])


def test_a_class_that_cannot_be_measured_is_null_and_named_by_every_mean(measured):
    figures, _, _ = measured
    assert figures["undefined"] == ["c"] and figures["metrics"]["auroc/c"]["value"] is None
    means = {"auroc_macro", "auprc_macro", "f1_macro", "sensitivity_macro", "specificity_macro"}
    assert figures["macro_without"] == {mean: ["c"] for mean in means}
    assert "c" in results.summary(figures).splitlines()[-2]


def test_without_validation_what_it_would_fit_does_not_exist(tmp_path):
    rows, seen = findings(30)
    figures = results.write(tmp_path, rows, seen, "multilabel", NAMES, "test")
    assert figures["operating"] is None and figures["calibration"]["after"] is None
    assert not [name for name in figures["metrics"] if name.startswith(("f1", "kappa", "ece_scaled"))]


def test_selection_on_the_test_films_is_told(tmp_path):
    rows, seen = findings(30)
    figures = results.write(tmp_path, rows, seen, "multilabel", NAMES, "test", selected_on="test")
    assert figures["selected_on"] == "test" and "selected on the test films" in results.summary(figures)


def test_a_study_of_several_views_is_in_no_view(tmp_path):
    rows, seen = findings()
    view = ["PA", "LAT"] * 30 + ["PA"] * 60  # the first 30 studies have two views
    rows = rows.assign(view=view, patient=rows["study"])
    figures = results.write(tmp_path, rows, seen, "multilabel", NAMES, "test", "study", tuned=TUNED)
    assert {name: group["films"] for name, group in figures["subgroups"]["view"].items()} == {"PA": 30, "unknown": 30}


def test_films_without_a_label_are_in_no_figure_and_in_the_predictions(tmp_path):
    rows, seen = findings()
    seen.label[:20] = np.nan
    figures = results.write(tmp_path, rows, seen, "multilabel", NAMES, "test", tuned=TUNED)
    assert sum(group["films"] for group in figures["subgroups"]["view"].values()) == figures["films"] == 100
    assert len(pd.read_parquet(tmp_path / results.PREDICTIONS)) == 120


def test_one_film_has_a_metrics_file_without_a_single_interval(tmp_path):
    rows, seen = findings(1)
    figures = results.write(tmp_path, rows, seen, "multilabel", NAMES, "test", tuned=TUNED)
    assert all(entry["low"] is None for entry in figures["metrics"].values())
    assert json.loads((tmp_path / results.METRICS).read_text()) == figures
