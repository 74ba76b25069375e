"""The plan: which stages there are, what becomes of each, and how long it takes. Nothing is written."""

from __future__ import annotations

import fcntl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Literal, get_args

from xrayssl.chains.graph import Graph, needed_by
from xrayssl.chains.stage import Stage
from xrayssl.chains.throughput import Key, key
from xrayssl.series.training import ASIDE, done, fitted, spell

State = Literal["exists", "is trained", "goes on", "will run", "waits"]
STATES: tuple[State, ...] = get_args(State)
SHOWN = 2
"""Recipes that are named; of more, the stages below tell."""
OVERHEAD = 15.0
"""Seconds of a training that do not depend on its films: imports and the start of two processes."""


@dataclass(frozen=True)
class Line:
    """What the plan says of a stage.

    Args:
        stage: Each once.
        depth: Stages before it.
        state: "exists": trained, and tested if it has labels; "is trained": by another process, now; "goes on": from
            its last checkpoint; "will run": nothing stands before it; "waits": for its parent.
        seconds: That it takes, about; None: nobody knows.
        recipes: That need it.
    """

    stage: Stage
    depth: int
    state: State
    seconds: float | None
    recipes: list[str]


def lines(graph: Graph, store: Path, rates: Mapping[Key, float]) -> list[Line]:
    """The stages as a tree, each below the one that it starts from.

    Args:
        graph: Of a study.
        store: Folder of all stages.
        rates: Films x epochs per second of each kind.
    """
    stages, needing = graph.stages, needed_by(graph)
    children: dict[str | None, list[Stage]] = {}
    for stage in stages:
        children.setdefault(stage.parent.key if stage.parent else None, []).append(stage)

    def below(parent: str | None, depth: int) -> list[Line]:
        found = []
        for stage in children.get(parent, []):
            state = state_of(stage, store)
            seconds = 0.0 if state == "exists" else _seconds(stage, rates)
            found.append(Line(stage, depth, state, seconds, needing[stage.key]))
            found += below(stage.key, depth + 1)
        return found

    return below(None, 0)


def state_of(stage: Stage, store: Path) -> State:
    """What becomes of a stage."""
    run = store / stage.name
    if done(run, stage.tested):
        return "exists"
    if _is_locked(store / f"{stage.name}.lock"):
        return "is trained"
    if fitted(run) or _has_checkpoint(stage, store):
        return "goes on"
    parent = stage.parent
    return "waits" if parent is not None and state_of(parent, store) != "exists" else "will run"


def _has_checkpoint(stage: Stage, store: Path) -> bool:
    attempts = (store / ASIDE).glob(f"{escape(stage.name)}.*")
    return any((run / "checkpoints" / "last.ckpt").is_file() for run in (store / stage.name, *attempts))


def _is_locked(path: Path) -> bool:
    try:
        with path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def left(stages: Sequence[Stage], rates: Mapping[Key, float]) -> float | None:
    """Seconds that stages take one after another, about; None where the speed of one of them is not known."""
    every = [_seconds(stage, rates) for stage in stages]
    return None if None in every else sum(seconds or 0 for seconds in every)


def _seconds(stage: Stage, rates: Mapping[Key, float]) -> float | None:
    rate = rates.get(key(stage))
    return OVERHEAD + stage.films * stage.epochs / rate if rate else None


def text(graph: Graph, found: Sequence[Line]) -> str:
    """The plan for reading."""
    study = graph.study
    axes: dict[str, Sequence[object]] = {
        "recipe": study.recipes,
        "seed": study.seeds,
        "label fraction": study.fractions,
    }
    counts = [f"{len(values)} {name}{'s' * (len(values) > 1)}" for name, values in axes.items()]
    head = f"{study.title}: {' x '.join(counts)} = {len(graph.results)} results; the reference is {study.reference}.\n"
    return "\n".join([head, *_table(graph, found), "", *_sums(graph, found)]) + "\n"


def _table(graph: Graph, found: Sequence[Line]) -> list[str]:
    fractions = len(graph.study.fractions) > 1
    rows = [["stage", "seed", *(["labels"] if fractions else []), "films x epochs", "state", "time", "for"]]
    for line in found:
        stage = line.stage
        rows.append([
            "  " * line.depth + stage.name + (f" <- {stage.start}" if stage.start else ""),
            str(stage.seed),
            *([_share(graph, stage)] if fractions else []),
            f"{stage.films:,} x {stage.epochs:g}",
            line.state,
            _time(line),
            ", ".join(line.recipes) if len(line.recipes) <= SHOWN else f"{len(line.recipes)} recipes",
        ])  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _share(graph: Graph, stage: Stage) -> str:
    shares = [result.fraction for result in graph.results if result.stage == stage]
    return f"{shares[0]:g}" if shares else "-"


def _time(line: Line) -> str:
    if line.state == "exists":
        return "-"
    return "unknown" if line.seconds is None else spell(line.seconds)


def _sums(graph: Graph, found: Sequence[Line]) -> list[str]:
    study, todo = graph.study, [line for line in found if line.state != "exists"]
    unknown = dict.fromkeys(f"{line.stage.method} on {line.stage.network}" for line in todo if line.seconds is None)
    counts = {state: sum(line.state == state for line in found) for state in STATES}
    saved = graph.naive - len(found)
    said = {
        f"{len(found)} stages, each trained once; recipe by recipe there would be {graph.naive}, {saved} more.": True,
        f"{', '.join(f'{count} {state}' for state, count in counts.items() if count)}.": True,
        f"Left: {len(todo)} stages, {_together(todo)}.": bool(todo),
        f"How fast this machine trains {', '.join(unknown)} is not known yet; --measure trains a few steps of each.": (
            bool(unknown)
        ),
        f"All seeds share the pretraining of seed {study.pretraining_seed}: what differs between them is the last stage"
        " alone.": study.pretraining_seed is not None and len(study.seeds) > 1,
        f"--any_code: {len(graph.adopted)} stages were trained by another version of the code, and are taken as they "
        "are.": bool(graph.adopted),
    }
    return [sentence for sentence, holds in said.items() if holds]


def _together(todo: Sequence[Line]) -> str:
    known = [line.seconds for line in todo if line.seconds is not None]
    if not known:
        return "for an unknown time"
    rest = len(todo) - len(known)
    return f"about {spell(sum(known))} one after another{f', and {rest} for an unknown time' if rest else ''}"
