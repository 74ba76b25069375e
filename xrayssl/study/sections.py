"""What the report says of one run: facts, pictures, curves, figures with intervals, films."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from xrayssl.study import figures, films
from xrayssl.study.folds import folds
from xrayssl.study.markup import Markup, element, join
from xrayssl.study.outcome import HEADLINES, outcome
from xrayssl.study.representation import panelled, representation
from xrayssl.study.runs import Run
from xrayssl.study.words import amount, duration

MEASURES = {"loss": "Loss", "auroc": "AUROC", "auroc_macro": "Macro AUROC", "lr": "Learning rate"}
MEANING = {
    "visible": "How often each patch of a film stays visible while the network learns: black is never, white is as "
    "often as the most visible patch; the figures beside it say how often that is.",
    "reconstruction": "What the network makes of films that are partly hidden from it, or put into codes. In the last "
    "row white is no error, black the whole grey scale.",
}
STRIP = 6  # earlier pictures shown


def section(run: Run, place: int, parent: object) -> Markup:
    """Everything about one run; what it does not have is left out.

    Args:
        run: The run.
        place: Its number on the page, from 1.
        parent: What it started from, ready for the page, or None.
    """
    return element(
        "section",
        element("p", f"Run {place}", class_="eyebrow"),
        element("h2", run.name),
        element("dl", list(facts(run, parent)), class_="facts"),
        [pictures(subject, paths) for subject, paths in run.pictures.items()],
        curves(run),
        control(run),
        representation(run),
        [outcome(run.figures), folds(run.figures)] if run.figures else None,
        samples(run),
        class_="run",
        id=f"run-{place}",
    )


def control(run: Run) -> Markup | None:
    """What a control of rotation found."""
    words = run.border.get("words")
    return join([element("h3", "What the border tells"), element("p", words)]) if words else None


def facts(run: Run, parent: object) -> Iterator[Markup]:
    """What it was: method, data, machine, command."""
    record, data = run.record, run.data
    rows = {
        "Method": record.get("method"),
        "Backbone": _breakable(record.get("backbone")),
        "Started from": parent,
        "Data": corpora(run),
        "Films": amount(data.get("films"), "film", data.get("patients")),
        "Epochs": epochs(run),
        "Seed": record.get("seed"),
        "Found by search": _flat(record.get("found")),
        "Started": str(record.get("started") or "").replace("T", " ")[:16],
        "Took": duration(record.get("seconds")),
        "Machine": _flat(record.get("machine")),
        "Revision": str(record.get("git") or "")[:12],
        "Data checksum": str(data.get("checksum") or "")[:12],
    }
    yield from (
        element("div", element("dt", name), element("dd", value))
        for name, value in rows.items()
        if value not in (None, "")
    )
    commands = {"Command": record.get("command")}
    commands["Test command"] = run.tested.get("command") if run.tested is not run.record else None
    for name, words in commands.items():
        if words:
            parts = [shlex.quote(str(word)) for word in words] if isinstance(words, list) else [words]
            # A line may break between two arguments, never at the hyphens of an option.
            code = element("code", join([element("span", part) for part in parts], " "))
            yield element("div", element("dt", name), element("dd", code), class_="wide")


def corpora(run: Run) -> str:
    """Names of the corpora."""
    return ", ".join(str(name) for name in run.data.get("corpora") or ())


def epochs(run: Run) -> int | None:
    """How many epochs were completed, as far as metrics.csv knows."""
    known = run.curves["epoch"].dropna() if "epoch" in run.curves else ()
    return int(max(known)) + 1 if len(known) else None


def _breakable(name: Any) -> Markup | None:
    """Lets a long name break after its underscores."""
    return join(str(name).split("_"), "_<wbr>") if name else None


def _flat(value: Any) -> str:
    """A machine may be described by a sentence or by a table."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {part}" for key, part in value.items() if part not in (None, "", [], {}))
    return "" if value is None else str(value)


def pictures(subject: str, paths: list[Any]) -> Markup:
    """The last picture large, earlier ones as a strip."""
    *earlier, last = paths
    if len(earlier) > STRIP:
        earlier = [earlier[round(k * (len(earlier) - 1) / (STRIP - 1))] for k in range(STRIP)]
    strip = [_plate(path, films.THUMB_WIDTH, subject) for path in earlier]
    title = subject.replace("_", " ").replace("-", " ").strip().capitalize() or "Pictures"
    return join(
        [
            element("h3", title),
            element("p", MEANING[subject], class_="note") if subject in MEANING else None,
            _plate(last, films.PICTURE_WIDTH, subject),
            element("div", strip, class_="strip") if strip else None,
        ]
    )


def _plate(path: Any, width: int, subject: str) -> Markup:
    when = path.stem.removeprefix(subject).strip("-_ ").replace("epoch", "epoch ").replace("step", "step ")
    words = " ".join(str(int(word)) if word.isdigit() else word for word in when.replace("=", " ").split())
    image = films.picture(path, width, f"{subject} {words}".strip())
    return element("figure", element("div", image, class_="plate"), element("figcaption", words) if words else None)


def curves(run: Run) -> Markup | None:
    """The training curves."""
    panels = figures.curve_panels(run.curves)
    return join([element("h3", "Training"), panelled(panels, {**HEADLINES, **MEASURES})]) if panels else None


def samples(run: Run) -> Markup | None:
    """Some test films with what was said of them."""
    if run.predictions is None:
        return None
    chosen = films.choose(run.predictions)
    if not chosen:
        return None
    shown = {name: [films.card(run.predictions, row) for row in rows] for name, rows in chosen.items()}
    groups = [join([element("h4", name), element("div", cards, class_="films")]) for name, cards in shown.items()]
    return join([element("h3", "Test films"), SAMPLES_NOTE, *groups])


SAMPLES_NOTE = element(
    "p",
    "Each film with its true label and the probabilities the network gave; coloured bars are the truth. "
    "No patient is shown twice.",
    class_="note",
)
