"""The report is one page that fetches nothing, says how sure it is and leaves out what a run lacks."""

import hashlib
import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xrayssl import results
from xrayssl.errors import UserError
from xrayssl.metrics import Gathered
from xrayssl.statistics.intervals import evaluate
from xrayssl.statistics.operating import Operating
from xrayssl.study.figures import LEFT, RIGHT, WIDTH, curve_panels, heights, short, ticks
from xrayssl.study.films import choose
from xrayssl.study.markup import Markup, element
from xrayssl.study.report import report_command, write_report
from xrayssl.study.runs import Predictions

CLASSES = ["normal", "effusion <5 mm & more"]


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def grey(path, size=(40, 48), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, size[::-1], dtype=np.uint8)).save(path)
    return str(path)


def make_run(folder, corpus="nih", **record):
    """A pretraining run: run.json, metrics.csv with sparse rows, two pictures."""
    data = {"corpora": {corpus: "/films"}, "checksum": "c0ffee" * 8, "films": 5232, "patients": 2480}
    machine = {"cpu": "2 cores"}
    content = {
        "version": 1,
        "verb": "fit",
        "config": "mae_chest",
        "method": "MAEPretrain",
        "backbone": "vit_tiny",
    }
    content |= {"data": data, "machine": machine, "seed": 0, "seconds": 3725.0, "command": ["xrayssl", "fit"]}
    write_json(folder / "run.json", content | {"started": "2026-01-31T10:00:00"} | record)
    rows = [{"epoch": e, "step": 10 * e + 9, "train/loss": 1 / (e + 1)} for e in range(4)]
    rows += [{"epoch": e, "step": 10 * e + 9, "val/loss": 1.2 / (e + 1), "val/auroc": 0.6 + e / 20} for e in range(4)]
    pd.DataFrame(rows).to_csv(folder / "metrics.csv", index=False)
    for epoch in (1, 3):
        grey(folder / f"figures/reconstruction-epoch{epoch:04d}.png", seed=epoch)
    return folder


def add_test(folder, films=24, task="multiclass", **options):
    """A test of the run: 24 films of 12 patients, two classes, with thresholds, a temperature and sexes."""
    random = np.random.default_rng(0)
    truth = np.arange(films) // 2 % 2
    chance = np.clip(truth * 0.4 + 0.3 + 0.25 * random.normal(size=films), 0.01, 0.99)
    patient = [f"patient {k // 2}" for k in range(films)]
    columns = {"patient": patient, "study": patient, "split": "test", "corpus": "x", "view": "PA"}
    table = pd.DataFrame(columns | {"path": [grey(folder / f"films/{k}.png", seed=k) for k in range(films)]})
    table["sex"] = ["M" if k < 8 else "F" for k in range(films)]
    probability = np.stack([1 - chance, chance], 1).astype(np.float32)
    gathered = Gathered(np.arange(films), probability, np.eye(2, dtype=np.float32)[truth])
    tuned = Operating("youden", "val", 31, dict.fromkeys(CLASSES, 0.5), 1.5)
    (folder / "test").mkdir(parents=True, exist_ok=True)
    results.write(folder / "test", table, gathered, task, CLASSES, "test", **{"tuned": tuned, **options})
    return folder


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    return add_test(make_run(tmp_path_factory.mktemp("run"), config="finetune_chest", method="Finetune"))


@pytest.fixture(scope="module")
def page(tested):
    return write_report([tested], tested / "report.html").read_text()


def test_the_page_fetches_nothing(page):
    assert not re.search(r"https?:|<script|<link|@import|url\(", page)
    assert all(source.startswith("data:image/") for source in re.findall(r'src="([^"]*)', page))
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)', page))


def test_every_figure_stands_with_its_interval(page, tested):
    metrics = json.loads((tested / "test/metrics.json").read_text())["metrics"]
    for entry in metrics.values():
        assert f"{entry['value']:.3f}" in page and f"{entry['low']:.3f} to {entry['high']:.3f}" in page


def test_thresholds_say_where_they_come_from(page):
    assert "chosen" not in page.split("Every class at its threshold")[0].split("</style>")[1]
    assert "on 31 films of the validation split; the films shown here had no part in it" in page
    assert page.count('class="reliability"') == 2 and "The temperature, 1.50, was fitted on validation films" in page


def test_a_group_of_few_patients_is_counted_and_not_measured(page, tmp_path):
    run = add_test(make_run(tmp_path / "run"), films=60)
    groups = write_report([run], tmp_path / "page.html").read_text().split("Macro AUROC by group")[1]
    large, small = groups.split("Sex: M")
    assert "not measured" in small and "8 films of 4 patients" in small
    assert "Sex: F" in large and "52 films of 26 patients" in large and " to " in large
    assert "by group" not in page  # 12 patients are too few for any


def test_what_was_selected_on_the_test_films_is_called_too_good(tested, page, tmp_path):
    run = add_test(make_run(tmp_path / "run"), selected_on="test")
    assert "every figure here is too good" in write_report([run], tmp_path / "page.html").read_text()
    assert "too good" not in page


def test_the_summary_says_in_words_what_was_reached_and_how_surely(page):
    assert re.search(
        r"macro AUROC of 0\.\d{3} \(95.% interval 0\.\d{3} to [01]\.\d{3}\) on 24 test films of 12 patients",
        page,
    )


def test_a_class_name_is_escaped_wherever_it_stands(page):
    assert "effusion <5" not in page and "effusion &lt;5 mm &amp; more" in page


def test_films_are_shown_once_a_patient_with_the_truth(page):
    assert 4 <= page.count('class="film"') <= 12 and "Drawn at random" in page
    assert page.count("data:image/jpeg;base64,") == page.count('class="film"') + 2  # two reconstructions


def test_the_same_runs_give_the_same_page(page, tested, tmp_path):
    assert write_report([tested], tmp_path / "again.html").read_text() == page


def test_training_curves_are_drawn_for_every_measure(page):
    assert page.count('class="curves"') == 2 and "val/" not in page
    assert "Loss by epoch" not in page and "loss by epoch: train ends at 0.25, val ends at 0.3" in page


def test_what_a_run_does_not_have_is_left_out(tmp_path):
    write_json(tmp_path / "run.json", {"version": 1})
    page = write_report([tmp_path], tmp_path / "out/page.html").read_text()
    assert "<svg" not in page and "<img" not in page and "None" not in page and "nan" not in page


def test_phantoms_are_named_as_phantoms(page, tmp_path):
    assert "phantom" not in page.split("</style>")[1]
    run = make_run(tmp_path, corpus="phantom")
    assert "All data are phantoms." in write_report([run], tmp_path / "page.html").read_text()


def test_a_run_that_starts_from_another_links_to_it(tmp_path):
    first, second = make_run(tmp_path / "a"), tmp_path / "b"
    (first / "backbone.safetensors").write_bytes(b"weights")
    make_run(second, parents=[hashlib.sha256(b"weights").hexdigest()], config="finetune_chest")
    assert 'href="#run-1">run 1, mae_chest' in write_report([first, second], tmp_path / "page.html").read_text()


def test_a_film_that_is_gone_leaves_a_note(tmp_path):
    run = add_test(make_run(tmp_path))
    for path in run.glob("films/*.png"):
        path.unlink()
    assert "film not at hand" in write_report([run], tmp_path / "page.html").read_text()


def test_the_verb_writes_into_the_last_run_and_says_where(tested, capsys, tmp_path):
    run = make_run(tmp_path)
    assert report_command([str(tested), str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html") and (run / "report.html").is_file()


def test_a_validation_without_intervals_is_no_result(tmp_path):
    run = make_run(tmp_path)
    write_json(
        run / "metrics.json",
        evaluate([[0.9], [0.1]], [[1], [0]], list("ab"), "multilabel", ["x"], resamples=0),
    )
    assert 'class="forest' not in write_report([run], tmp_path / "page.html").read_text()


def test_few_films_are_marked_as_too_few_for_an_interval(page, tmp_path):
    assert 'class="forest few"' not in page and "too narrow" not in page
    page = write_report([add_test(make_run(tmp_path), films=12)], tmp_path / "page.html").read_text()
    assert page.count('class="forest few"') == 2 and "fewer than 10 films" in page


def test_a_multilabel_film_is_right_only_if_every_known_finding_is():
    table = pd.DataFrame({"patient": list("abcd"), "film": "x", "index": range(4)})
    for name, label, probability in (
        ("m", [1, 1, 0, np.nan], [0.9, 0.9, 0.2, 0.1]),
        ("n", [0, 1, 0, np.nan], [0.1, 0.2, 0.1, 0]),
    ):
        table[f"label/{name}"], table[f"probability/{name}"] = label, probability
    groups = choose(Predictions(table, "multilabel", ["m", "n"]), each=2)
    assert groups == {"Confident and right": [0, 2], "Confident and wrong": [1]}  # of film 3 nothing is known


def test_ticks_are_round_and_span_the_numbers():
    assert ticks(0.63, 0.94) == [0.6, 0.7, 0.8, 0.9, 1.0]
    assert ticks(3.0, 3.0)[0] < 3 < ticks(3.0, 3.0)[-1]


def probed(folder):
    """A run of three epochs that was probed before the first and after each."""
    run, rows = make_run(folder), [{"step": 0, "probe/films": 120, "probe/linear_auroc": 0.914}]
    for epoch, auroc in enumerate((0.915, 0.918, 0.8467)):
        rows += [{"epoch": epoch, "step": 8 * epoch + 7, "lr": 9.375e-6, "probe/linear_auroc": auroc}]
    pd.DataFrame(rows).to_csv(run / "metrics.csv", index=False)
    return run


def test_the_summary_says_what_the_probe_did_and_on_how_many_films(tmp_path):
    page = write_report([probed(tmp_path)], tmp_path / "page.html").read_text()
    assert "on 120 probe films went from 0.914 to 0.847 (linear probe), counted from before the training." in page
    assert "Linear probe, AUROC, 120 films" in page and ">films<" not in page


def test_what_was_measured_before_the_training_stands_at_0_with_a_tick(tmp_path):
    panel = curve_panels(pd.read_csv(probed(tmp_path) / "metrics.csv"), ["probe"])["linear_auroc"]
    assert f'points="{LEFT:.1f},' in panel and f'x="{LEFT}" y="201" text-anchor="middle">0<' in panel
    assert f'<circle cx="{LEFT}"' in panel and 'class="probe before"' in panel


@pytest.mark.parametrize(("measure", "low", "high"), [("auroc", 0.846, 0.848), ("knn_auroc", 0.995, 0.999)])
def test_a_small_change_of_an_auroc_is_drawn_small(measure, low, high):
    axis = heights(measure, low, high)
    assert axis[-1] - axis[0] >= 0.0999 and axis[0] < low and high < axis[-1] <= 1


def test_a_small_change_of_a_loss_is_drawn_small_and_a_large_one_as_before():
    assert heights("loss", 1.05, 1.051)[-1] - heights("loss", 1.05, 1.051)[0] >= 0.05
    assert heights("auroc", 0.63, 0.94) == ticks(0.63, 0.94)


@pytest.mark.parametrize(("value", "text"), [(0.8467, "0.847"), (9.375e-6, "9.4e-6"), (-1.23e12, "-1.2e12")])
def test_labels_of_lines_are_short_enough_for_the_margin(value, text):
    assert short(value) == text
    assert len(f"train {text}") * 8 <= RIGHT + 4 and WIDTH - LEFT - RIGHT > 200  # 8 px: bold DejaVu Sans


def test_the_map_of_visible_patches_says_what_black_and_white_mean(tmp_path):
    run = make_run(tmp_path)
    grey(run / "figures/visible-epoch0000.png")
    page = write_report([run], tmp_path / "page.html").read_text()
    assert "black is never, white is as often as the most visible patch" in page


def test_a_long_curve_is_thinned_and_keeps_its_ends():
    steps = np.arange(50_000)
    table = pd.DataFrame({"epoch": steps // 1000, "step": steps, "train/loss": 1.0 - steps / 50_000})
    panel = curve_panels(table)["loss"]
    assert len(panel) < 10_000 and "train ends at 0.00" in panel


def test_an_element_escapes_all_but_markup():
    made = element("p", "a<b", Markup("<br>"), None, ["&"], title='"', class_="x")
    assert made == '<p title="&quot;" class="x">a&lt;b<br>&amp;</p>'


def watched(folder, figures, probes=()):
    """A run whose health was measured: (epoch or None, std, rank), with AUROCs of a probe."""
    make_run(folder)
    rows = pd.read_csv(folder / "metrics.csv").to_dict("records")
    for place, (epoch, std, rank) in enumerate(figures):
        row = {"epoch": epoch, "step": 0 if epoch is None else 10 * epoch + 9, "health/std": std, "health/rank": rank,
               "health/alignment": std**2, "health/uniformity": -std}  # fmt: skip
        rows.append(row | ({"health/films": 256} if epoch is None else {}))
        rows[-1] |= {"probe/knn_auroc": probes[place]} if probes else {}
    pd.DataFrame(rows).to_csv(folder / "metrics.csv", index=False)
    return write_report([folder], folder / "report.html").read_text()


def test_a_collapse_is_named_on_the_page_with_figure_epoch_and_remedy(tmp_path):
    page = watched(tmp_path, [(None, 0.7, 30), (1, 0.02, 1.5), (3, 0.01, 1.1)])
    found = re.search(r'<p class="warning"><strong>(.*?)</strong>(.*?)</p>', page)
    assert found and "collapsed to a point since epoch 2: health/std is 0.01, 0.7 before the training" in found.group(1)
    assert "--model.variance" in found.group(2)


def test_a_sound_representation_is_said_to_be_so_without_a_warning(tmp_path):
    page = watched(tmp_path, [(None, 0.7, 30), (1, 0.5, 9), (3, 0.4, 8)])
    assert 'class="warning"' not in page
    assert "Films are told apart: effective rank 8, standard deviation 0.4, 0.7 before the training" in page


def test_the_curves_of_health_and_probe_stand_in_a_section_of_their_own(tmp_path):
    page = watched(tmp_path, [(None, 0.7, 30), (1, 0.5, 9), (3, 0.4, 8)], probes=[0.5, 0.6, 0.7])
    training, _, rest = page.partition("<h3>Representation</h3>")
    assert rest and all(f"{name} by epoch" not in training for name in ("std", "rank", "knn_auroc"))
    for name in ("std", "rank", "alignment", "uniformity"):
        assert f"{name} by epoch: health ends at" in rest
    assert "knn_auroc by epoch: probe ends at 0.7" in rest and "Effective rank" in rest


def test_a_run_that_was_not_watched_has_no_such_section(page):
    assert "<h3>Representation</h3>" not in page


def spoil(name, content):
    def change(folder):
        (folder / name).write_text(content)

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda folder: (folder / "run.json").unlink(), "not a run directory"),
        (spoil("run.json", "{"), "cannot be read as JSON"),
        (spoil("run.json", "[]"), "JSON object"),
        (spoil("run.json", '{"version": 9}'), "version 9"),
        (spoil("metrics.csv", '"a'), "not a table"),
        (spoil("test/metrics.json", '{"metrics": {"auroc_macro": 0.9}}'), "no table of metrics"),
        (spoil("test/predictions.parquet", "PAR1"), "predictions.parquet cannot be read"),
        (spoil("figures/reconstruction-epoch0003.png", "no"), "cannot be read as a picture"),
    ],
)
def test_a_malformed_run_is_refused_with_a_sentence(tmp_path, change, sentence):
    run = add_test(make_run(tmp_path), films=4)
    change(run)
    with pytest.raises(UserError, match=sentence):
        write_report([run], tmp_path / "page.html")
