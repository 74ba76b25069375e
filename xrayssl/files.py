"""Files and folders that appear whole or not at all. Standard library only."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Gives a name beside a file to write to; it takes the file's own name once the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def appearing_folder(folder: Path, last: str) -> Iterator[Path]:
    """Gives an empty folder beside a folder to fill; it takes the folder's own name once the block ends well.

    When another process was faster, its copy, which is as good, stays.

    Args:
        folder: That shall appear.
        last: Name of a file that a whole one has.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield draft
        draft.chmod(0o755)  # mkdtemp makes it private
        try:
            draft.rename(folder)
        except OSError:
            if not (folder / last).is_file():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def cache(*parts: str) -> Path:
    """A folder of the user's cache for what can be made again."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "xrayssl", *parts)


def counted(names: Sequence[str]) -> list[str]:
    """The names, of which the second, third, ... of the same get a number behind them."""
    taken: dict[str, None] = {}  # in order, and quick to look up
    for name in names:
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        taken[next(one for one in itertools.chain([name], numbered) if one not in taken)] = None
    return list(taken)


def json_or_nothing(path: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one where there is no such file, or none that is whole."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON object; what JSON does not know, such as a path, as its text."""
    with appearing(path) as partial:
        partial.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
