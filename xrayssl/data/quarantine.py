"""Films that cannot be read: the run stops at the first, or lists them beside its results and goes on without."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xrayssl.errors import UserError

log = logging.getLogger(__name__)
LIST = "quarantine.txt"


@dataclass(frozen=True)
class Quarantine:
    """What to do about films that cannot be read.

    Args:
        on_error: "raise" stops at the first, "quarantine" lists it and goes on.
        most: Films that may be set aside, as a share of all, 0-1, rounded up to whole films.
    """

    on_error: Literal["raise", "quarantine"]
    most: float

    def receive(self, problem: str, folder: Path, films: int) -> None:
        """Takes note of a film.

        Args:
            problem: A sentence that names it.
            folder: Of the run, for the list.
            films: Of all corpora together.

        Raises:
            UserError: If none may be set aside, or not as many.
        """
        if self.on_error == "raise":
            raise UserError(f"{problem} To set such films aside and go on, add --data.on_error quarantine.")
        path = folder / LIST
        listed, most = _append_new(path, problem), math.ceil(self.most * films)
        if listed > most:
            raise UserError(
                f"{listed} of {films} films cannot be read; --data.max_quarantine {self.most} allows {most}. They are "
                f"listed in {path}."
            )


def _append_new(path: Path, line: str) -> int:
    """Adds a line that is not there yet, from whatever process, and counts the lines."""
    lines = path.read_text().splitlines() if path.exists() else []
    if line not in lines:
        log.warning("Set aside: %s", line)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(line + "\n")
        lines.append(line)
    return len(lines)
