"""What a study leaves behind: study.json, which says where each result lies, and a record beside each stage's folder.

A study may grow command by command: more seeds, fewer labels, one more recipe. What earlier commands trained stays in
study.json as long as it was trained alike.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xrayssl import rundir
from xrayssl.chains import identity
from xrayssl.chains.graph import Graph, Result, record
from xrayssl.chains.stage import Stage, lineage
from xrayssl.errors import UserError
from xrayssl.files import json_or_nothing, write_json

log = logging.getLogger(__name__)
STUDY = "study.json"
DRAWN = ("fraction", "subset_seed")
"""Of the options of the data: what differs between the results of one recipe, beside the seed."""
Run = dict[str, Any]


@contextmanager
def writing() -> Iterator[None]:
    """Within it, a folder that takes no files is the user's mistake."""
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: it cannot be written ({error.strerror})"
        raise UserError(f"{where}; name another folder with --stages or --out.") from None


@writing()
def place(title: str, out: Path | None) -> Path:
    """Folder of the study.

    Args:
        title: Of the study.
        out: The folder that was named.

    Raises:
        UserError: If something else is in it.
    """
    if out is None or (out.expanduser() / STUDY).is_file():
        folder = (out or Path("runs", "studies", title)).expanduser().absolute()
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    return rundir.claim(out.expanduser().absolute())


def beside(made: Graph, stages: Sequence[Stage], store: Path) -> None:
    """Keeps what determines each stage beside its folder; what is there already stays as it is.

    Args:
        made: With the facts of all but adopted stages, which have their records.
        stages: To be recorded.
        store: Folder of all stages.
    """
    for stage in stages:
        path = store / f"{stage.name}.json"
        if stage.key in made.facts and not path.is_file():
            write_json(path, record(made, stage))


def write(made: Graph, store: Path, folder: Path, asked: list[str]) -> None:
    """Writes study.json, with the results of earlier commands that belong to the same study.

    Args:
        made: What is asked for now.
        store: Folder of all stages.
        folder: Of the study.
        asked: The words of the command.
    """
    study = made.study
    now = [_run(made, result, store, folder) for result in made.results]
    earlier = json_or_nothing(folder / STUDY).get("runs") or []
    kept, dropped = joined(now, earlier)
    if kept:
        log.info("%s keeps %d results of earlier commands.", folder / STUDY, len(kept))
    if dropped:
        log.warning("%d results of earlier commands leave %s, since they were trained otherwise; their stages stay in "
                    "the store.", len(dropped), folder / STUDY)  # fmt: skip
    content = {"version": 1, "title": study.title, "reference": study.reference,
               "pretraining_seed": study.pretraining_seed, "asked": asked, "stages": str(store),
               "runs": [*now, *kept], **rundir.surroundings()}  # fmt: skip
    write_json(folder / STUDY, content)


def joined(now: Sequence[Run], earlier: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """Which results of earlier commands stay in a study, and which were trained otherwise.

    One of a recipe that is asked for now stays if all but seed and share of labels is as it is now; one of another
    recipe, unless that is otherwise for some recipe that both commands have.

    Args:
        now: Results of this command.
        earlier: Those that study.json had.

    Returns:
        Kept, and dropped.
    """
    here = {(run["recipe"], run["seed"], run["fraction"]) for run in now}
    settings = {run["recipe"]: run["settings"] for run in now}
    before = [run for run in earlier if (run["recipe"], run["seed"], run["fraction"]) not in here]
    changed = any(run.get("settings") != settings[run["recipe"]] for run in earlier if run["recipe"] in settings)
    kept = [run for run in before if (
        run.get("settings") == settings[run["recipe"]] if run["recipe"] in settings else not changed)]  # fmt: skip
    return kept, [run for run in before if run not in kept]


def _run(made: Graph, result: Result, store: Path, folder: Path) -> Run:
    stages, run = lineage(result.stage), store / result.stage.name
    foreign = [stage.name for stage in stages if stage.key in made.adopted]
    return {
        "recipe": result.recipe,
        "seed": result.seed,
        "fraction": result.fraction,
        "run": os.path.relpath(run, folder) if run.is_relative_to(folder) else str(run),
        "stages": [stage.name for stage in stages],
        "settings": _settings([made.facts.get(stage.key) for stage in stages]),
        **({"other_code": foreign} if foreign else {}),
    }


def _settings(facts: Sequence[Mapping[str, Any] | None]) -> str | None:
    """Checksum of what the results of a recipe share; None where another version of the code has trained a stage."""
    known = [_undrawn(one, first=number == 0) for number, one in enumerate(facts) if one is not None]
    return identity.key({"stages": known}) if len(known) == len(facts) else None


def _undrawn(facts: Mapping[str, Any], first: bool) -> dict[str, Any]:
    """What determines a stage, without its seed, its share of labels and the parent's key."""
    config = {name: value for name, value in facts["config"].items() if name != "seed_everything"}
    data = {name: value for name, value in config["data"]["init_args"].items() if name not in DRAWN}
    config["data"] = {**config["data"], "init_args": data}
    return {**facts, "config": config, "start": facts["start"] if first else None}
