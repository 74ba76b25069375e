"""One training of a chain, known by what determines its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DIGITS = 12
"""Of a stage's key in the name of its folder."""


@dataclass(frozen=True)
class Stage:
    """One training; stages of the same key are the same.

    Args:
        key: SHA-256, hexadecimal, of all that determines the result.
        config: Title of its configuration.
        words: Of `xrayssl fit`, without --out, --run, --ckpt_path and --model.init_from.
        parent: Whose backbone it starts from.
        start: Where there is no parent: what --model.init_from says (`timm`, or a file); None: random weights.
        seed: Of the training, and of the draw of films.
        tested: Whether it learns from labels, so that its run is tested, too.
        films: That it learns from.
        epochs: Passes over them.
        network: timm's name of the backbone.
        method: Class of the method.
        img_size: Height and width in pixels.
    """

    key: str
    config: str = field(compare=False)
    words: list[str] = field(compare=False)
    parent: Stage | None = field(compare=False)
    start: str | None = field(compare=False)
    seed: int = field(compare=False)
    tested: bool = field(compare=False)
    films: int = field(compare=False, default=0)
    epochs: float = field(compare=False, default=0.0)
    network: str = field(compare=False, default="")
    method: str = field(compare=False, default="")
    img_size: Any = field(compare=False, default=None)

    @property
    def name(self) -> str:
        """Of its folder in the store."""
        return f"{self.config}-{self.key[:DIGITS]}"

    def fit(self, store: Path) -> list[str]:
        """Words of `xrayssl fit` that train it, without --out.

        Args:
            store: Folder of all stages.
        """
        start = str(store / self.parent.name) if self.parent else self.start
        return [*self.words, *(["--model.init_from", start] if start else [])]


def lineage(stage: Stage) -> list[Stage]:
    """A stage and what it comes from, the first stage first."""
    return [*(lineage(stage.parent) if stage.parent else []), stage]


def ordered(stages: Sequence[Stage]) -> list[Stage]:
    """Each stage once, after the one that it starts from."""
    return list(dict.fromkeys(one for stage in stages for one in lineage(stage)))
