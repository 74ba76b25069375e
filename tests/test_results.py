import json

import numpy as np
import pandas as pd
import pyarrow.parquet

from xrayssl import results
from xrayssl.metrics import Gathered


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
