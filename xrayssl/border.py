"""How much of rotation the border of films tells: what is seen of them, and what the accuracy means."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Figure = dict[str, float | None]
TURNS = ["0", "90", "180", "270"]
CHANCE = 1 / len(TURNS)
LITTLE = CHANCE + 0.1  # below it the border tells something, but little
LAG = 0.1  # of validation films behind training films, from which a network is not ready to be judged
FILE = "border.json"
REMEDIES = {
    "trim": "true",
    "ratio": "'[1,1]'",
    "circle": "true",
    "brightness": "0.2",
    "contrast": "0.2",
    "gamma": "0.2",
}
"""Keys of --data.augment that take away what the border tells, and values to begin with."""


def bordering(side: int, border: float, circle: bool) -> Tensor:
    """Where the border of a square film is: mask_HW, True inside it. Every quarter turn leaves it as it is.

    Args:
        side: Of the film in pixels.
        border: Width as a share of the side.
        circle: A ring inside the largest circle, in place of a frame.
    """
    away = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2).abs()
    distance_HW = torch.hypot(away[:, None], away) if circle else torch.maximum(away[:, None], away)
    mask_HW = distance_HW > side / 2 - border * side
    return mask_HW & (distance_HW <= side / 2) if circle else mask_HW


def finding(accuracy: Figure, counts: str, place: str, missing: list[str], trained: float | None = None) -> str:
    """What the accuracy from the border alone means, and what to do.

    Args:
        accuracy: "value", "low" and "high", 0-1; the interval may be None.
        counts: Whom it was measured on, and how the interval was made.
        place: What the border is.
        missing: Names of the remedies that are not in use.
        trained: The accuracy on the training films, where it is known.
    """
    value, low, high = accuracy["value"], accuracy["low"], accuracy["high"]
    assert value is not None
    span = "no interval" if low is None else f"95 % interval {100 * low:.1f}-{100 * high:.1f} %"  # type: ignore[operator]
    found = (
        f"From the border alone ({place}) {100 * value:.1f} % of the quarter turns are named, by chance it would be "
        f"{100 * CHANCE:.0f} % ({span}; {counts})"
    )
    if low is None or low <= CHANCE:
        if trained is not None and trained > value + LAG:
            return (
                f"{found}, but {100 * trained:.0f} % of the training films': no verdict. After a short training raise "
                "--trainer.max_epochs; after a long one those films were learned by heart, and more are needed."
            )
        return f"{found}: these figures show no shortcut there."
    much = "a little of rotation" if value < LITTLE else "rotation"
    if missing:
        keys = " ".join(f"--data.augment.{name} {REMEDIES[name]}" for name in missing)
        return f"{found}: {much} can be learned there without looking inside. Measure again with {keys}"
    return (
        f"{found}: {much} can be learned there without looking inside, with every remedy in use. It need not be a "
        "marker, since anatomy reaches the border, too: look at the films, and judge the backbone by a probe."
    )


def off(augment: Any) -> list[str]:
    """Names of the remedies that are not in use."""
    square = tuple(getattr(augment, "ratio", ())) == (1, 1)
    return [name for name in REMEDIES if not (square if name == "ratio" else getattr(augment, name, None))]
