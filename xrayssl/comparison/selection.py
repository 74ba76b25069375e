"""Which runs are compared: folders of studies, series and runs become one table of recipe, network, fraction, seed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from xrayssl.comparison.lineage import configuration, recipe, shares
from xrayssl.errors import UserError, noting, refuse
from xrayssl.study.runs import SERIES

STUDY = "study.json"
EFFICIENCY = "efficiency.json"
NAMED = re.compile(r"([^\W][^=/]*)=(.+)")
Amount = Literal["fraction", "shots"]


@dataclass(frozen=True)
class Entry:
    """One training of a recipe, and its test.

    Args:
        recipe: Its name.
        amount: Share of the labelled training patients, or films per class.
        seed: Of the training.
        run: Its folder.
        kind: What `amount` is.
        network: timm's name; empty as long as nothing is trained.
        parents: Checksums of the weights it started from, nearest last.
        folds: Whether it is a cross-validation.
        corpora: Names of those it learned from.
        why: It cannot be compared; empty if it can.
    """

    recipe: str
    amount: float
    seed: int
    run: Path
    kind: Amount = "fraction"
    network: str = ""
    parents: tuple[str, ...] = ()
    folds: bool = False
    corpora: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Selection:
    """What is compared.

    Args:
        entries: Tested ones.
        missing: Those that a study wants and does not have.
        references: That studies name.
        pretraining: Seeds that studies use for every pretraining.
        folder: Of the study, if one was named alone.
        title: Of the page.
        corpora: Names of those that the runs learned from.
    """

    entries: list[Entry] = field(default_factory=list)
    missing: list[Entry] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    pretraining: list[int] = field(default_factory=list)
    folder: Path | None = None
    title: str = "Recipes compared"
    corpora: list[str] = field(default_factory=list)


def select(words: Sequence[str]) -> Selection:
    """Reads what was named.

    Args:
        words: Folders, or NAME=FOLDER.

    Raises:
        UserError: Every mistake at once.
    """
    problems: list[str] = []
    found: list[Entry] = []
    studies: dict[Path, dict[str, Any]] = {}
    for word in words:
        with noting(problems):
            name, folder = _taken_apart(word)
            if (folder / STUDY).is_file():
                studies[folder] = _read(folder / STUDY)
            found.extend(_entries(folder, name))
    kinds = {entry.kind for entry in found}
    if len(kinds) > 1:
        problems.append(
            "Some of these runs learned from shares of patients, others from films per class; name one kind."
        )
    problems += _twice(unique := list(dict.fromkeys(map(_completed, found))))
    refuse(problems)
    several = [entry for entry in unique if not entry.why]
    if not several:
        raise UserError("None of these runs is finished and tested, so there is nothing to compare yet.")
    alone = _taken_apart(words[0])[1] if len(words) == 1 else None
    series = alone is not None and ((alone / STUDY).is_file() or (alone / EFFICIENCY).is_file())
    return Selection(
        several,
        [entry for entry in unique if entry.why] + list(_gaps(unique)),
        list(dict.fromkeys(str(one["reference"]) for one in studies.values() if one.get("reference"))),
        [int(one["pretraining_seed"]) for one in studies.values() if one.get("pretraining_seed") is not None],
        alone if series else None,
        ", ".join(str(one["title"]) for one in studies.values() if one.get("title")) or "Recipes compared",
        sorted({name for entry in several for name in entry.corpora}),
    )


def _taken_apart(word: str) -> tuple[str | None, Path]:
    """Name, if one is given, and folder; a folder may have `=` in its own name."""
    named = None if Path(word).exists() else NAMED.fullmatch(word)
    return (named[1], Path(named[2]).expanduser()) if named else (None, Path(word).expanduser())


def _entries(folder: Path, name: str | None) -> Iterator[Entry]:
    """Everything in one folder.

    Raises:
        UserError: If it is no folder of this program, or its recipes have names already.
    """
    several = (folder / STUDY).is_file() or (folder / EFFICIENCY).is_file()
    if name and several:
        raise UserError(f"{name}={folder}: its recipes have their own names; leave out {name}=.")
    if (folder / STUDY).is_file():
        yield from _of_study(folder)
    elif (folder / EFFICIENCY).is_file():
        yield from _of_efficiency(folder)
    elif (folder / SERIES).is_file():
        yield _of_folds(folder, name)
    elif (folder / "run.json").is_file():
        yield _of_run(folder, name)
    else:
        raise UserError(f"{folder} is no folder of a study, of `xrayssl efficiency` or `folds`, or of a run.")


def _of_study(folder: Path) -> Iterator[Entry]:
    """Runs of a study, trained or not."""
    for one in _read(folder / STUDY).get("runs", []):
        try:
            seed, fraction, run = int(one["seed"]), float(one["fraction"]), folder / one["run"]
            yield Entry(str(one["recipe"]), fraction, seed, run)
        except (KeyError, TypeError, ValueError):
            raise UserError(
                f"{folder / STUDY} does not list recipe, seed, fraction and run; was it edited by hand?"
            ) from None


def _of_efficiency(folder: Path) -> Iterator[Entry]:
    """Runs of label-efficiency curves."""
    content = _read(folder / EFFICIENCY)
    for one in content.get("runs", []):
        yield Entry(str(one["start"]), float(one["amount"]), int(one["seed"]), folder / one["run"], content["amount"])


def _of_folds(folder: Path, name: str | None) -> Entry:
    """A cross-validation, which is one seed."""
    verb = _read(folder / SERIES).get("verb")
    if verb != "folds":
        raise UserError(f"{folder}: `xrayssl {verb}` has not finished a single training there.")
    first = folder / "fold-1"
    if not (folder / "metrics.json").is_file() or not (first / "run.json").is_file():
        raise UserError(f"{folder}: not all folds are tested, so there is no pool of them; `xrayssl folds` goes on.")
    return replace(_of_run(first, name), run=folder, folds=True, why="")


def _of_run(folder: Path, name: str | None) -> Entry:
    """A single run."""
    record, settings = _read(folder / "run.json"), configuration(folder)
    kind, amount = shares(settings)
    if not tested(folder):
        raise UserError(f"{folder} is not tested; type xrayssl test --run {folder}.")
    return Entry(name or recipe(folder), amount, int(record.get("seed") or 0), folder, kind)


def _completed(entry: Entry) -> Entry:
    """The entry with what its run.json says, or why it cannot be compared."""
    run = entry.run / "fold-1" if entry.folds else entry.run
    if not (run / "run.json").is_file():
        return replace(entry, run=entry.run.resolve(), why="not trained")
    record = _read(run / "run.json")
    parents = tuple(str(one.get("sha256") if isinstance(one, dict) else one) for one in record.get("parents") or ())
    why = "" if entry.folds or tested(run) else "not finished" if record.get("outcome") != "finished" else "not tested"
    network, corpora = str(record.get("backbone") or ""), tuple((record.get("data") or {}).get("corpora") or ())
    return replace(entry, run=entry.run.resolve(), network=network, parents=parents, corpora=corpora, why=why)


def tested(run: Path) -> bool:
    """Whether a run has figures and predictions of its test."""
    return all((run / "test" / name).is_file() for name in ("metrics.json", "predictions.parquet"))


def _twice(entries: Sequence[Entry]) -> list[str]:
    """A sentence about runs that cannot be told apart."""
    first: dict[tuple[Any, ...], Entry] = {}
    problems = []
    for entry in entries:
        known = first.setdefault((entry.recipe, entry.network, entry.amount, entry.seed), entry)
        if known is not entry and entry.network:
            problems.append(f"{known.run} and {entry.run} are both {entry.recipe} on {entry.network} with seed "
                            f"{entry.seed}; if they are two recipes, name each: NAME=RUN.")  # fmt: skip
    return problems


def _gaps(entries: Sequence[Entry]) -> Iterator[Entry]:
    """Seeds that some recipe has at some amount of labels, and another has not and nobody is told to want."""
    seeds = sorted({entry.seed for entry in entries})
    have = {(entry.recipe, entry.network, entry.amount, entry.seed) for entry in entries}
    unknown = {(entry.recipe, entry.amount, entry.seed) for entry in entries if not entry.network}
    for recipe_, network, amount in dict.fromkeys(key[:3] for key in have if key[1]):
        for seed in seeds:
            if (recipe_, network, amount, seed) not in have and (recipe_, amount, seed) not in unknown:
                kind = entries[0].kind
                yield Entry(recipe_, amount, seed, Path(), kind, network, why="not among these runs")


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}).") from None
    if not isinstance(content, dict) or content.get("version", 1) != 1:
        raise UserError(f"{path} is not of version 1, the only one that is understood; update xrayssl.")
    return content
