"""`xrayssl report`: one HTML page about one or several runs, which opens anywhere and fetches nothing."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xrayssl import __version__
from xrayssl.errors import UserError
from xrayssl.study.markup import Markup, element, join
from xrayssl.study.page import page
from xrayssl.study.representation import learned
from xrayssl.study.runs import Run, read_run
from xrayssl.study.sections import corpora, epochs, section
from xrayssl.study.words import amount, decimal, duration, interval, level

PHANTOMS = (
    " The films are drawn by the computer, not taken from patients. These figures show that the software "
    "works; they say nothing about any diagnosis."
)
TOO_GOOD = "too good: the checkpoint was selected on these films"
ONE_SEED = (
    "The intervals say how far the figures might move with other patients, for the networks as trained. They "
    "do not show that one recipe is better than another: for that, train each with several seeds."
)


def report_command(argv: list[str]) -> int:
    """The verb `xrayssl report RUN... [--out page.html]`; writes the path of the page to standard output."""
    parser = argparse.ArgumentParser("xrayssl report", description="Write one HTML page about one or several runs.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run, or what `xrayssl folds` wrote")
    parser.add_argument("--out", type=Path, help="the page to write (default: report.html in the last run)")
    parser.add_argument("--title", default="Training report", help="its heading")
    wanted = parser.parse_args(argv)
    written = write_report(wanted.runs, wanted.out or wanted.runs[-1] / "report.html", wanted.title)
    sys.stdout.write(f"{written}\n")
    return 0


def write_report(runs: Sequence[Path], out: Path, title: str = "Training report") -> Path:
    """Write one self-contained page from run directories.

    Args:
        runs: Run directories, in the order of the page.
        out: The page to write; its folder is made if need be.
        title: The heading.

    Returns:
        The path written.

    Raises:
        UserError: If a directory is not a run, one of its files is malformed, or the page cannot be written.
    """
    if not runs:
        raise UserError("There is no run to report on; name at least one run directory.")
    found = [read_run(Path(folder)) for folder in runs]
    sections = [section(run, place, parent(run, found)) for place, run in enumerate(found, 1)]
    body = [header(found, title), table(found), *sections, footer()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page(title, *body), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror}); choose another place with --out.") from None
    return out


def parent(run: Run, runs: Sequence[Run]) -> Markup | str | None:
    """What the run started from: another run of this page if its weights are the same, else the checksum."""
    if not run.parents:
        return None
    for place, other in enumerate(runs, 1):
        if other is not run and other.weights in run.parents:
            return join([element("a", f"run {place}, {other.name}", href=f"#run-{place}"), _marked(run)])
    return f"weights {run.parents[-1][:12]}{_marked(run)}"


def _marked(run: Run) -> str:
    """Which of a run's ancestors were selected on test films."""
    names = ["its start" if one == run.parents[-1] else f"an earlier stage, {one[:12]}" for one in run.marked]
    return f"; selected on test films: {', '.join(names)}" if names else ""


def header(runs: Sequence[Run], title: str) -> Markup:
    """Title, summary in plain words, and a warning about phantoms."""
    sentences = [sentence(run) for run in runs]
    phantoms = [run.name for run in runs if run.phantoms]
    which = "All data are phantoms." if len(phantoms) == len(runs) else f"{', '.join(phantoms)}: the data are phantoms."
    several = sum(run.figures is not None for run in runs) > 1
    return element(
        "header",
        element("p", "xrayssl", class_="eyebrow"),
        element("h1", title),
        element("p", " ".join(sentences), class_="summary"),
        element("p", ONE_SEED, class_="note") if several else None,
        element("p", element("strong", which), PHANTOMS, class_="phantoms") if phantoms else None,
    )


def sentence(run: Run) -> str:
    """One run in plain words."""
    figures = run.figures or {}
    macro = figures.get("metrics", {}).get("auroc_macro")
    if macro and macro["value"] is not None:
        who = "The fine-tuned network" if run.record.get("method") == "Finetune" else "The network"
        who = "The cross-validation of" if figures.get("folds") else who
        span = interval(macro)
        certainty = f" ({level(figures)} {span})" if span else ""
        where = amount(figures.get("films"), f"{figures.get('split', 'test')} film", figures.get("patients"))
        area = f"{decimal(macro['value'])}{certainty}"
        return f"{who} {run.name} reached a macro AUROC of {area} on {where or 'the test films'}{_mark(figures)}."
    seen = amount(run.data.get("films"), "film", run.data.get("patients"))
    length = amount(epochs(run), "epoch")
    words = f"{run.name} trained {run.record.get('backbone') or 'a network'}"
    words += f" by {run.record['method']}" if run.record.get("method") else ""
    words += f" on {seen}" if seen else ""
    words += f" for {length}" if length else ""
    return "; ".join([words, *(part for part in (_fall(run), learned(run)) if part)]) + "."


def _mark(figures: Mapping[str, Any]) -> str:
    """What is to be said beside a figure of a checkpoint that was selected on these films."""
    return f", {TOO_GOOD}" if figures.get("selected_on") == figures.get("split", "test") == "test" else ""


def _fall(run: Run) -> str | None:
    losses = {"val/loss": "validation", "train/loss": "training", "train/loss_epoch": "training"}
    for name in [name for name in losses if name in run.curves]:
        known = run.curves[name].dropna()
        if len(known) > 1:
            first, last = float(known.iloc[0]), float(known.iloc[-1])
            return f"its {losses[name]} loss went from {first:.3g} to {last:.3g}"
    return None


def table(runs: Sequence[Run]) -> Markup:
    """All runs at a glance."""
    titles = ["Run", "Method", "Started from", "Data", "Time", "Macro AUROC"]
    tested = any(run.figures for run in runs)
    titles = titles if tested else titles[:-1]
    rows = [
        element(
            "tr",
            [element("td", cell, data_label=name) for name, cell in zip(titles, cells(run, place, runs), strict=False)],
        )
        for place, run in enumerate(runs, 1)
    ]
    head = element("tr", [element("th", name) for name in titles])
    return element("table", element("thead", head), element("tbody", rows), class_="runs")


def cells(run: Run, place: int, runs: Sequence[Run]) -> list[Markup]:
    """One row of the table."""
    started = str(run.record.get("started") or "").replace("T", " ")[:16]
    macro = (run.figures or {}).get("metrics", {}).get("auroc_macro") or {"value": None}
    seen = amount(run.data.get("films"), "film", run.data.get("patients"))
    span = f"{interval(macro) or ''}{_mark(run.figures or {})}".removeprefix(", ")
    return [
        _cell(element("a", f"{place}. {run.name}", href=f"#run-{place}"), started),
        _cell(run.record.get("method") or "–", run.record.get("backbone")),
        _cell(parent(run, runs) or "–"),
        _cell(corpora(run) or "–", seen),
        _cell(duration(run.record.get("seconds")) or "–", amount(epochs(run), "epoch")),
        _cell(decimal(macro["value"]), span),
    ]


def _cell(first: object, second: object = None) -> Markup:
    return element("div", first, element("small", second) if second else None)


def footer() -> Markup:
    """Where the page comes from."""
    words = f"Written by xrayssl {__version__}. The page is complete in itself and opens without a network."
    return element("footer", element("p", words, class_="note"))
