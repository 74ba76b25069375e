"""Files that appear whole or not at all. Standard library only."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
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


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON object; what JSON does not know, such as a path, as its text."""
    with appearing(path) as partial:
        partial.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
