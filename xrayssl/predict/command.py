"""`xrayssl predict`: probabilities of a run's test films, or of any films, with pictures of where the network looks."""

from __future__ import annotations

import csv
import logging
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xrayssl import recipes, train
from xrayssl.data_request import Options
from xrayssl.errors import UserError, noting, refuse
from xrayssl.files import appearing
from xrayssl.request import split_equals

if TYPE_CHECKING:
    from xrayssl.classifier import Classifier
    from xrayssl.predict.films import Prediction

log = logging.getLogger(__name__)
FLAGS = ("--overlay", "-h", "--help", "--help-all", "--print_config")
OURS = ("--overlay", "--class", "--on_error")
USAGE = "--run RUN [PATH...] [options]"
TEXT = """Without PATH: writes predictions.parquet of the run's test films into RUN/predict, and takes the options of
`xrayssl predict --help-all`. With films, it writes a table of their probabilities:

  --run RUN                       folder of a finished run of a classifier: its best checkpoint
  PATH...                         films (PNG, JPEG, TIFF, DICOM) and folders, with all below; read as the run did
  --out FILE.csv                  (default: RUN/predict/predictions.csv)
  --overlay                       a picture per film and class: the film, where the network looks, both in one
  --class NAME                    class to draw; repeat for several (default: the predicted one, or findings that
                                  reach their threshold)
  --on_error raise                stops at a film that cannot be read; quarantine lists it beside the table
  --ckpt_path FILE                another checkpoint; `last` is the run's last
  --data.batch_size 32            films at a time
  --data.num_workers 8            processes that read films (default: one per core)

The table has a row per film: probability/<class>, and where the run was tested also calibrated/<class>
(by the temperature fitted on validation films) and above/<class> (1 from the threshold chosen there on); not where
studies were scored, as with MURA: threshold and temperature are for the mean of a study's films then.
"""
OF_STUDIES = (
    "This run scores studies: thresholds and temperature are for the mean probability of a study's films, so that the "
    "table, which is of single films, has no above/ and calibrated/. `xrayssl test` decides by study; to do so here, "
    "compare a study's mean with `operating` in the metrics.json of the run's test."
)


UNTESTED = (
    "No test of this run's own films, seen as its config says, has fitted thresholds and a temperature: the table has "
    "no above/ and calibrated/. `xrayssl test --run RUN` fits them; one with other films or views does not count."
)


def predict_command(argv: Sequence[str]) -> int:
    """The verb `xrayssl predict`.

    Args:
        argv: The words after it.

    Raises:
        UserError: Every mistake at once; a film that cannot be read.
    """
    words = split_equals(argv)
    if not ({"-h", "--help"} & set(words) or set(OURS) & set(words) or any(_standing_alone(words))):
        return train.predict(argv)
    own = _options().parse_intermixed_args(words)
    train.speak()
    problems: list[str] = []
    classifier, films = None, []
    with noting(problems):
        films = _films(own.paths)
    with noting(problems):
        classifier = _classifier(own)
        _check_classes(classifier, own)
    refuse(problems + _wrong(own))
    assert classifier is not None
    for warning in _missing(classifier):
        log.warning("%s", warning)
    table = _table(classifier, own)
    _report(table, *_predict(classifier, films, table, own))
    return 0


def _missing(classifier: Classifier) -> Iterator[str]:
    """What the table lacks, and what has to be known of it."""
    from xrayssl.handoff import SELECTED

    if classifier.of_studies:
        yield OF_STUDIES
    elif classifier.operating is None:
        yield UNTESTED
    if classifier.method.select_on == "test":
        yield f"Mind: {SELECTED}."


def _options() -> Options:
    options = Options("predict", USAGE, TEXT)
    options.add_argument("--run", type=Path)
    options.add_argument("paths", nargs="*", type=Path)
    options.add_argument("--out", type=Path)
    options.add_argument("--overlay", action="store_true")
    options.add_argument("--class", dest="classes", action="append", default=[])
    options.add_argument("--on_error", choices=("raise", "quarantine"), default="raise")
    options.add_argument("--ckpt_path", default="best")
    options.add_argument("--data.batch_size", dest="batch_size", type=int, default=32)
    options.add_argument("--data.num_workers", dest="workers", type=int)
    return options


def _standing_alone(words: Sequence[str]) -> Iterator[str]:
    """Words that are no option and no option's value."""
    stream = iter(words)
    for word in stream:
        if not word.startswith("-"):
            yield word
        elif word.split("=")[0] not in FLAGS:
            next(stream, None)


def _wrong(own: Namespace) -> list[str]:
    wrong = {
        "predict needs a trained run: --run RUN.": own.run is None,
        "--overlay, --class and --on_error go with films: name films or folders.": not own.paths,
        "--class goes with --overlay, which draws that class.": bool(own.classes) and not own.overlay,
        f"--data.batch_size must be 1 or more, not {own.batch_size}.": own.batch_size < 1,
        f"--data.num_workers must be 0 or more, not {own.workers}.": own.workers is not None and own.workers < 0,
        f"--out {own.out}: name a file that ends in .csv.": own.out is not None and own.out.suffix.lower() != ".csv",
        f"--out {own.out} is there already, and nothing is overwritten; name another file.": bool(
            own.out and own.out.suffix.lower() == ".csv" and own.out.exists()
        ),
    }
    return [sentence for sentence, holds in wrong.items() if holds]


def _films(paths: Sequence[Path]) -> list[Path]:
    """Every film that the words name, once, in their order."""
    from xrayssl.data.corpora.folder import films_below

    found: dict[Path, None] = {}
    problems: list[str] = []
    for path in (path.expanduser() for path in paths):
        with noting(problems):
            if not path.exists():
                raise UserError(f"{path}: there is no such film or folder.")
            found |= dict.fromkeys(films_below(path) if path.is_dir() else [path])
    refuse(problems)
    return list(found)


def _classifier(own: Namespace) -> Classifier | None:
    from xrayssl.classifier import load

    return None if own.run is None else load(own.run, own.ckpt_path)


def _check_classes(classifier: Classifier | None, own: Namespace) -> None:
    if classifier is None:
        return
    known = classifier.classes
    refuse([
        f"--class {name}: the run knows no such class, but {', '.join(known)}.{recipes.nearest(name, known)}"
        for name in own.classes if name not in known
    ])  # fmt: skip
    decides = classifier.operating and not classifier.of_studies
    if own.overlay and not own.classes and classifier.method.task == "multilabel" and not decides:
        which = "thresholds for single films" if classifier.of_studies else "thresholds"
        raise UserError(f"--overlay needs --class NAME: the run has no {which} that say which findings to draw.")


def _table(classifier: Classifier, own: Namespace) -> Path:
    """Where the table goes, in a folder that is there."""
    from xrayssl.rundir import fresh

    path: Path = own.out or fresh(classifier.run / "predict") / "predictions.csv"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent}: no folder can be made there ({error.strerror}); see --out.") from None
    return path


def _predict(
    classifier: Classifier, films: Sequence[Path], table: Path, own: Namespace
) -> tuple[list[Prediction], list[str]]:
    """What the network says of each film, as the table and the pictures say it; and what could not be read."""
    from xrayssl.data.parallel import cores, in_order
    from xrayssl.predict.films import Reader, Sheets, looked_at

    workers = min(8, cores(), len(films) // 4) if own.workers is None else own.workers
    sheets = Sheets(classifier, own.classes, table.with_suffix("")) if own.overlay else None
    reader = Reader(classifier, sheets)
    unreadable: list[str] = []
    predictions: list[Prediction] = []
    look = partial(looked_at, classifier.viewing, sheets.scale if sheets else 0)
    with appearing(table) as partial_table, partial_table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, reader.columns)
        writer.writeheader()
        with closing(in_order(look, list(films), workers, "films")) as looks:
            for prediction in reader.predictions(_readable(looks, unreadable, own.on_error), own.batch_size):
                writer.writerow(prediction.row)
                predictions.append(prediction)
        if not predictions:
            raise UserError(f"None of the {len(films)} films can be read:", *unreadable)
    return predictions, unreadable


def _readable(looks: Iterator[Any], unreadable: list[str], on_error: str) -> Iterator[Any]:
    for look in looks:
        if not look.problem:
            yield look
        elif on_error == "raise":
            raise UserError(f"{look.problem} To set such films aside and go on, add --on_error quarantine.")
        else:
            log.warning("Set aside: %s", look.problem)
            unreadable.append(look.problem)


def _report(table: Path, predictions: Sequence[Prediction], unreadable: Sequence[str]) -> None:
    """Lists what was set aside, and says where everything is; of a single film also what it says."""
    if unreadable:
        aside = table.with_name(f"{table.stem}-unreadable.txt")
        aside.write_text("".join(f"{problem}\n" for problem in unreadable), encoding="utf-8")
        log.warning("%d films could not be read; %s lists them.", len(unreadable), aside)
    if len(predictions) == 1:
        sys.stdout.write(predictions[0].told)
    for picture in (path for prediction in predictions for path in prediction.pictures):
        sys.stdout.write(f"{picture}\n")
    sys.stdout.write(f"{table}\n")
