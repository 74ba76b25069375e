import json

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from xrayssl import results
from xrayssl.errors import UserError
from xrayssl.metrics import Gathered, evaluate


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
    assert header == {key: figures[key] for key in ("version", "task", "classes")}


def test_a_summary_has_a_line_per_figure_with_its_interval(tmp_path):
    figures = results.write(tmp_path, table(), films(range(6)), "multiclass", ["a", "b"], "test")
    lines = results.summary(figures).splitlines()
    assert lines[0] == "test: 6 films of 3 patients, 95% intervals over patients"
    assert len(lines) == 1 + len(figures["metrics"])


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
