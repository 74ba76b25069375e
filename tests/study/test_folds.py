"""The folder that `xrayssl folds` wrote, as a page: the pool, and what each fold said by itself."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xrayssl import results
from xrayssl.errors import UserError
from xrayssl.metrics import Gathered
from xrayssl.series.pooling import after_test, pool
from xrayssl.statistics.operating import Operating
from xrayssl.study.report import write_report

CLASSES = ["mass", "edema"]
TUNED = [Operating("youden", "val", 20, {"mass": 0.5, "edema": edema}, 1.2) for edema in (0.5, None)]


def cross_validation(folder, corpus="nih", each=24, **options):
    """What `xrayssl folds` leaves of two folds, two films a patient, without the trainings."""
    rng, count = np.random.default_rng(0), 2 * each
    label = (rng.random((count, 2)) < 0.4).astype(np.float32)
    probability = (0.3 * label + 0.6 * rng.random((count, 2))).astype(np.float32)
    folder.mkdir(exist_ok=True)
    paths = [str(folder / f"{number}.png") for number in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (32, 32), np.uint8)).save(path)
    patient = [f"p{number // 2}" for number in range(count)]
    table = pd.DataFrame({"path": paths, "corpus": corpus, "patient": patient, "study": patient, "view": ""})
    table["split"] = "test"
    for number, tuned in enumerate(TUNED):
        run, rows = folder / f"fold-{number + 1}", np.arange(each * number, each * (number + 1))
        (run / "test").mkdir(parents=True)
        gathered = Gathered(rows, probability[rows], label[rows])
        results.write(run / "test", table, gathered, "multilabel", CLASSES, "test", tuned=tuned, **options)
        data = {"corpora": {corpus: "/films"}, "films": count, "patients": count // 2}
        record = {"version": 1, "config": "finetune_chest", "method": "Finetune", "seconds": 100, "data": data}
        (run / "run.json").write_text(json.dumps({**record, "parents": ["cafe" * 8]}))
        (run / "test" / "run.json").write_text(json.dumps({"version": 1, "seconds": 20}))
    asked = {"version": 1, "verb": "folds", "asked": ["--config", "finetune_chest"], "started": "2026-01-31T10:00:00"}
    (folder / "series.json").write_text(json.dumps(asked))
    pool(folder, [after_test(folder / f"fold-{number}") for number in (1, 2)], table)
    return folder


def written(folder):
    return write_report([folder], folder / "report.html").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return cross_validation(tmp_path_factory.mktemp("folds"))


@pytest.fixture(scope="module")
def page(folder):
    return written(folder)


def test_the_page_says_what_the_pool_reached_and_how_surely(page, folder):
    macro = json.loads((folder / "metrics.json").read_text())["metrics"]["auroc_macro"]
    value, low, high = (f"{macro[name]:.3f}" for name in ("value", "low", "high"))
    said = f"The cross-validation of finetune_chest in 2 folds reached a macro AUROC of {value}"
    assert f"{said} (95\u00a0% interval {low} to {high}) on 48 test films of 24 patients." in page
    assert "4 min 0 s" in page and "weights cafecafecafe" in page and "phantom" not in page.split("</style>")[1]


def test_each_fold_stands_with_its_figures_their_mean_and_deviation(page, folder):
    known = json.loads((folder / "metrics.json").read_text())["folds"]
    rows = [re.sub(r"<[^>]*>", " ", row) for row in page.split("The folds by themselves")[1].split("</tr>")[1:5]]
    for row, fold in zip(rows, known["figures"], strict=False):
        entry = fold["metrics"]["auroc_macro"]
        assert fold["run"] in row and "24 films" in row and "12 patients" in row
        assert f"{entry['value']:.3f}" in row and f"{entry['low']:.3f} to {entry['high']:.3f}" in row
    assert "Mean" in rows[2] and f"{known['mean']['auroc_macro']:.3f}" in rows[2]
    assert "Standard deviation" in rows[3] and f"{known['sd']['auroc_macro']:.3f}" in rows[3]


def test_the_pools_note_its_films_and_what_a_fold_lacks_are_said(page):
    assert "It is no standard error: the folds share training films" in page
    assert "No threshold for edema in fold 2: the validation films there lack an outcome." in page
    assert "a run in a folder of its own here: fold-1, fold-2." in page
    assert page.count('class="film"') >= 4 and 'src="data:image/jpeg' in page


def test_a_cross_validation_of_phantoms_is_named_as_one(tmp_path):
    assert "All data are phantoms." in written(cross_validation(tmp_path / "cv", corpus="phantom"))


def test_a_pool_of_checkpoints_that_were_selected_on_test_is_too_good_wherever_it_is_told(tmp_path, page):
    marked = written(cross_validation(tmp_path / "cv", selected_on="test"))
    summary, rest = marked.split("</header>")
    assert "too good: the checkpoint was selected on these films." in summary
    assert "too good: the checkpoint was selected on these films" in rest.split("</table>")[0]
    assert "every figure here is too good" in rest and "too good" not in page


def test_folders_without_a_pool_are_refused_with_a_sentence(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "metrics.json").unlink()
    with pytest.raises(UserError, match="not all folds are tested"):
        written(copy)
    (copy / "series.json").write_text('{"version": 1, "verb": "efficiency"}')
    with pytest.raises(UserError, match="holds the runs of `xrayssl efficiency`"):
        written(copy)
