"""Makes a store of a corpus: one pass over its films in parallel processes, to be interrupted at any moment."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from xrayssl.data.manifest import Manifest
from xrayssl.data.parallel import in_order
from xrayssl.data.prepare.publication import finish, publish
from xrayssl.data.prepare.reduction import Recipe, reduced
from xrayssl.data.prepare.shards import JOURNAL, Shards
from xrayssl.data.store import FACTS, INDEX, VERSION, facts, is_store
from xrayssl.errors import UserError
from xrayssl.files import write_json

PLAN, LOCK = "plan.json", "lock"


@dataclass(frozen=True)
class Tolerance:
    """What becomes of films that cannot be read.

    Args:
        on_error: "raise" stops at the first; "quarantine" sets them aside.
        share: Most films that may be set aside, as a share of all, 0-1, rounded up to whole films.
    """

    on_error: Literal["raise", "quarantine"] = "raise"
    share: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise UserError(f"--data.max_quarantine must be a share of 0-1, not {self.share}.")

    def judge(self, problem: str, aside: int, films: int) -> None:
        """Lets an unreadable film pass, or not.

        Args:
            problem: The sentence about it.
            aside: Films set aside, this one among them.
            films: Of the corpus.

        Raises:
            UserError: If it may not be set aside.
        """
        if self.on_error == "raise":
            raise UserError(f"{problem} To set such films aside and go on, add --data.on_error quarantine.")
        most = math.ceil(self.share * films)
        if aside > most:
            raise UserError(
                f"{problem} {aside} of {films} films cannot be read; --data.max_quarantine {self.share} allows {most}."
            )


def plan(corpus: str, source: Mapping[str, Any], recipe: Recipe, manifest: Manifest) -> dict[str, Any]:
    """All that decides what a store will hold, as plain JSON values.

    Args:
        corpus: Its name.
        source: Its root and options.
        recipe: Of the films.
        manifest: As the corpus gave it.
    """
    options = {name: value for name, value in source.items() if name != "root"}
    known = {"version": VERSION, "corpus": corpus, "root": source.get("root"), "options": options, **asdict(recipe)}
    return dict(json.loads(json.dumps({**known, "manifest": fingerprint(manifest)}, default=str)))


def fingerprint(manifest: Manifest) -> str:
    """SHA-256 over everything in a manifest."""
    tables = [manifest.table] + ([manifest.boxes] if manifest.boxes is not None else [])
    names = [manifest.classes, manifest.task, manifest.score, [list(table.columns) for table in tables]]
    content = hashlib.sha256(json.dumps(names).encode())
    for table in tables:
        content.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    return content.hexdigest()


def prepare(folder: Path, wanted: dict[str, Any], manifest: Manifest, workers: int, tolerance: Tolerance) -> bool:
    """Makes a store, or what is still missing of it.

    Args:
        folder: That the finished store appears as; until then it is called `<folder>.partial`.
        wanted: The plan.
        manifest: As the corpus gave it.
        workers: Processes that read films.
        tolerance: Of films that cannot be read.

    Returns:
        Whether there was anything to do.

    Raises:
        UserError: If the folder holds something else, or a film cannot be read.
    """
    if is_store(folder):
        _same(folder, facts(folder), wanted)
        _up_to_date(folder)
        return False
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: there is something here that is no store; choose another --out.")
    draft = folder.with_name(f"{folder.name}.partial")
    try:
        draft.mkdir(parents=True, exist_ok=True)
        with _alone(draft):
            _claim(draft, wanted)
            if not is_store(draft):  # it is one if the last process was killed at the very end
                _fill(draft, wanted, manifest, workers, tolerance)
                finish(draft, wanted, manifest)
            publish(draft, folder)
    except OSError as error:
        raise UserError(f"{draft}: the store cannot be written ({error.strerror or error}).") from None
    return True


@contextmanager
def _alone(draft: Path) -> Iterator[None]:
    """Keeps a second process away; the lock goes with its process, however that ends."""
    try:
        import fcntl
    except ImportError:  # there is no such lock on Windows
        yield
        return
    with (draft / LOCK).open("w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{draft}: another process is at work on this store; let it finish.") from None
        yield


def _claim(draft: Path, wanted: dict[str, Any]) -> None:
    begun = next((draft / name for name in (FACTS, PLAN) if (draft / name).is_file()), None)
    if begun is not None:
        _same(draft, _plan_of(begun), wanted)
    elif (draft / JOURNAL).exists():
        raise UserError(f"{draft}: its {PLAN} is missing; delete this folder and start anew.")
    else:
        write_json(draft / PLAN, wanted)


def _plan_of(begun: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(begun.read_text(encoding="utf-8")))
    except (ValueError, TypeError):  # a power cut can leave an empty file
        raise UserError(f"{begun.parent}: its {begun.name} is damaged; delete this folder and start anew.") from None


def _up_to_date(folder: Path) -> None:
    """Refuses raw files of another length than they had: replaced ones, and mended ones that were set aside."""
    index = pd.read_parquet(folder / INDEX, columns=["path", "film_bytes"])
    sizes = zip(index["path"], index["film_bytes"], strict=True)
    other = [path for path, size in sizes if os.path.isfile(path) and os.path.getsize(path) != size]
    if other:
        raise UserError(
            f"{folder}: raw files have changed since this store was made, such as {other[0]} ({len(other)} in all); "
            "delete it, or choose another --out."
        )


def _same(folder: Path, begun: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuses to go on with other arguments."""
    other = [name for name, value in wanted.items() if begun.get(name) != value]
    if other == ["manifest"]:
        raise UserError(
            f"{folder}: the films, labels or splits of {wanted['root']} have changed since this store was begun; "
            "delete it, or choose another --out."
        )
    if other:
        differences = "; ".join(f"{name} {begun.get(name)}, not {wanted[name]}" for name in other if name != "manifest")
        raise UserError(
            f"{folder}: this store was begun with {differences}. Repeat its arguments, choose another --out, or "
            "delete it."
        )


def _fill(draft: Path, wanted: dict[str, Any], manifest: Manifest, workers: int, tolerance: Tolerance) -> None:
    paths, recipe = manifest.table["path"].tolist(), _recipe(wanted)
    with closing(Shards(draft, recipe.dtype)) as shards:
        rest, description = paths[shards.films :], f"Preparing {wanted['corpus']}"
        try:
            with closing(in_order(partial(reduced, recipe), rest, workers, description, done=shards.films)) as films:
                for film in films:
                    if film.problem:
                        tolerance.judge(film.problem, shards.aside + 1, len(paths))
                    shards.add(film)
        except KeyboardInterrupt:  # whatever it interrupted may be half done: only what is committed counts
            raise KeyboardInterrupt(
                f"interrupted; about {shards.films:,} of {len(paths):,} films are done. The same command goes on."
            ) from None
        except UserError:
            shards.commit()
            raise
        shards.commit()


def _recipe(wanted: dict[str, Any]) -> Recipe:
    values = {name: wanted[name] for name in Recipe.__dataclass_fields__}
    return Recipe(**{**values, "limits": tuple(values["limits"])})
