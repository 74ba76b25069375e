"""Leaks along a chain: films that a stage is judged by, and that a stage before it learned from.

Who is compared: the validation and test films of every labelled stage with the training films of all stages that it
comes from, back to the run that the chain starts from, if it is one, and to that which trained a stage's tokenizer. A
film is the same by its corpus and patient, by its name within a corpus, by its path, or by the checksum of its file
where stores have it. Folders and tables have no names of patients that hold elsewhere: those of two of them are
compared only if they lie in the same place.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

from xrayssl.chains import kind
from xrayssl.chains.kind import TIMM, Kind
from xrayssl.chains.spec import Recipe, Step, Study
from xrayssl.data import store
from xrayssl.errors import UserError

log = logging.getLogger(__name__)
LOCAL = ("folder", "table")
"""Corpora whose patients are named by whoever made the folder."""
SPLIT = ("split_seed", "val", "test", "fold")


class Leak(NamedTuple):
    """Films that leak from one stage to another.

    Args:
        sentence: That says so, with what mends it.
        patients: Whose films they are, as the earlier stage names them.
    """

    sentence: str
    patients: list[str]


def found(study: Study, kinds: Mapping[tuple[str, int], Kind]) -> list[Leak]:
    """Each pair of stages between which films leak.

    Args:
        study: Its recipes are the chains.
        kinds: Recipe and number of a step to what its rehearsal found.
    """
    pairs: dict[tuple[int, int], tuple[Kind, Kind]] = {}
    for recipe in study.recipes:
        chain = [*_before(recipe), *_whole(recipe, [kinds[recipe.name, number] for number in range(len(recipe.steps))])]
        for place, judged in enumerate(chain):
            for earlier in chain[:place] if judged.labelled else ():
                pairs[id(earlier), id(judged)] = earlier, judged
    return [leak for earlier, judged in pairs.values() if (leak := _between(earlier, judged))]


def _between(earlier: Kind, judged: Kind) -> Leak | None:
    learned = earlier.manifest.table.iloc[earlier.manifest.rows("train")]
    held = judged.manifest.table[judged.manifest.table["split"].isin(["val", "test"])]
    leaked = learned[same_films(learned, held, _elsewhere(earlier, judged))]
    if not len(leaked):
        return None
    patients = list(dict.fromkeys(leaked["patient"]))
    what = (f"{earlier.step.title} learns from {len(leaked)} films of {len(patients)} patients that "
            f"{judged.step.title} is validated or tested on, such as {leaked['path'].iloc[0]}")  # fmt: skip
    return Leak(f"{what}; {_remedy(earlier, judged, set(leaked['corpus']))}", patients)


def same_films(learned: pd.DataFrame, held: pd.DataFrame, elsewhere: set[str]) -> np.ndarray:
    """Which of the films that were learned from are among those that are held back, or of the same patients, bool (N,).

    Args:
        learned: Rows of a manifest.
        held: Rows of another.
        elsewhere: Corpora whose patients and names mean others in the second one.
    """
    leaked = learned["path"].isin(held["path"])
    near, comparable = held[~held["corpus"].isin(elsewhere)], ~learned["corpus"].isin(elsewhere)
    for names in (_patients, _films):
        leaked |= comparable & names(learned).isin(names(near))
    if "sha256" in learned and "sha256" in held:
        leaked |= learned["sha256"].isin(held["sha256"][held["sha256"].fillna("") != ""])
    return leaked.to_numpy(bool)


def _patients(table: pd.DataFrame) -> pd.Series:
    return table["corpus"].astype(str) + "\0" + table["patient"].astype(str)


def _films(table: pd.DataFrame) -> pd.Series:
    """Names with the folder they lie in, without suffix: what is left of a path when a corpus is moved."""
    tails = ["/".join(str(path).split("/")[-2:]).rpartition(".")[0] for path in table["path"]]
    return table["corpus"].astype(str) + "\0" + pd.Series(tails, table.index, dtype=str)


def _elsewhere(one: Kind, other: Kind) -> set[str]:
    """Corpora of both, whose patients are named by their folders, and whose folders are not the same."""
    both = {*one.corpora} & {*other.corpora} & {*LOCAL}
    return {name for name in both if _root(one.corpora[name]) != _root(other.corpora[name])}


def _root(source: Any) -> str:
    """Where a corpus lies; of a store, what it was made from."""
    root = source.get("root") if isinstance(source, Mapping) else source
    if store.is_store(root):
        return str(store.facts(Path(str(root)).expanduser())["root"])
    return str(Path(str(root)).expanduser().absolute())


def _remedy(earlier: Kind, judged: Kind, corpora: set[str]) -> str:
    one, other = (found.config["data"]["init_args"] for found in (earlier, judged))
    unlike = [name for name in SPLIT if one[name] != other[name]]
    if corpora <= {*judged.corpora} and unlike:
        words = ", ".join(f"--{earlier.step.title}.data.{name} {_said(other[name])}" for name in unlike)
        return f"its films are split otherwise, so split them alike: {words}."
    return f"leave them out: --leaks LIST writes them to a file, for --{earlier.step.title}.data.exclude '[LIST]'."


def _said(value: Any) -> str:
    return "null" if value is None else str(value)


def _whole(recipe: Recipe, kinds: Sequence[Kind]) -> Iterator[Kind]:
    """The stages of a chain, each after the run whose tokenizer it predicts the codes of, if it does."""
    for one in kinds:
        yield from _behind(one.config["model"]["init_args"].get("tokenizer"), recipe)
        yield one


def _before(recipe: Recipe) -> Iterator[Kind]:
    """The runs behind the file that a chain starts from."""
    return _behind(recipe.start if recipe.start != TIMM else None, recipe)


def _behind(start: str | None, recipe: Recipe) -> Iterator[Kind]:
    """The runs that a run or file comes from, its own first, as far as their folders are there."""
    while start:
        run = next((one for one in (Path(start), *Path(start).parents[:2]) if (one / "config.yaml").is_file()), None)
        if run is None:
            log.warning("%s: what these weights have learned from is not known here, and is not checked for films that "
                        "recipe %s is tested on.", start, recipe.name)  # fmt: skip
            return
        config = run / "config.yaml"
        try:
            yield kind.rehearsed(Step(str(config), str(run), {"model.init_from": "null"}, {}), None)
        except UserError as error:
            log.warning("%s: its films cannot be checked for those that recipe %s is tested on: %s", run, recipe.name,
                        error.messages[0])  # fmt: skip
        arguments = yaml.safe_load(config.read_text(encoding="utf-8")).get("model", {}).get("init_args", {})
        start = arguments.get("init_from") if arguments.get("init_from") != TIMM else None
