"""Pictures of films on a plane, a panel for each way of colouring them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xrayssl.errors import UserError
from xrayssl.files import appearing

# Okabe & Ito's colours, which colour-blind readers tell apart, without the yellow, which paper swallows; in grey the
# markers do it
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "^", "s", "D", "v", "P", "X")
QUIET, OTHER = "#b3b8bc", "other"
GREYS = {OTHER: "#5f676d"}  # others are films of which something is known
UNSAID = ("none", "unknown", "absent", OTHER)
"""Groups that are drawn in grey, below the others."""
ROUNDS = 20  # in which groups are drawn in turn, so that none lies on top of all others
PANEL = 4.6  # inches


@dataclass(frozen=True)
class Colouring:
    """What films are coloured by.

    Args:
        title: Of the panel.
        group_N: The group of each film.
    """

    title: str
    group_N: np.ndarray


def draw(path: Path, point_N2: np.ndarray, axes: Sequence[str], colourings: Sequence[Colouring], title: str) -> Path:
    """Writes a PNG.

    Args:
        path: Of it.
        point_N2: Where each film lies.
        axes: What the axes say.
        colourings: A panel for each, side by side.
        title: Above them.

    Raises:
        UserError: If it cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PANEL * len(colourings), PANEL + 1.5), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(colourings), squeeze=False)[0]
    for panel, colouring in zip(panels, colourings, strict=True):
        _panel(panel, point_N2, axes, colouring)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    try:
        with appearing(path) as partial:
            figure.savefig(partial, format="png", facecolor="white")
    except OSError as error:
        raise UserError(f"{path}: the picture cannot be written there ({error.strerror}).") from None
    return path


def groups(group_N: np.ndarray) -> dict[str, np.ndarray]:
    """Which films belong to each group: the largest first, the smallest joined where there are more than colours, what
    is said of nobody last; bool (N,)."""
    names, counts = np.unique(group_N.astype(str), return_counts=True)
    ordered = [str(name) for name in names[np.argsort(-counts, kind="stable")]]
    spoken = [name for name in ordered if name not in UNSAID]
    shown, joined = spoken[: len(COLOURS)], spoken[len(COLOURS) :]
    found = {name: group_N == name for name in [*shown, *(name for name in ordered if name in UNSAID)]}
    if joined:
        found[OTHER] = np.isin(group_N, [*joined, OTHER])
    return found


def _panel(panel: Any, point_N2: np.ndarray, axes: Sequence[str], colouring: Colouring) -> None:
    members = groups(colouring.group_N)
    area = float(np.clip(12_000 / max(1, len(point_N2)), 2.5, 22))
    rng = np.random.default_rng(0)
    orders = {name: np.array_split(rng.permutation(np.flatnonzero(held)), ROUNDS) for name, held in members.items()}
    for part in range(ROUNDS):
        for number, name in enumerate(members):
            quiet, rows = name in UNSAID, orders[name][part]
            panel.scatter(
                *point_N2[rows].T, s=area, marker="." if quiet else MARKERS[number % len(MARKERS)], linewidths=0,
                color=GREYS.get(name, QUIET) if quiet else COLOURS[number % len(COLOURS)], alpha=0.75,
                zorder=1 if quiet else 2,
            )  # fmt: skip
    _legend(panel, members)
    panel.set_title(f"by {colouring.title}", fontsize=9)
    panel.set_xlabel(axes[0], fontsize=8)
    panel.set_ylabel(axes[1], fontsize=8)
    panel.tick_params(labelsize=7, length=2)
    panel.spines[["top", "right"]].set_visible(False)


def _legend(panel: Any, members: dict[str, np.ndarray]) -> None:
    from matplotlib.lines import Line2D

    keys = [
        Line2D([], [], linestyle="", markersize=5, markeredgewidth=0, label=f"{name} ({held.sum():,})",
               marker="." if name in UNSAID else MARKERS[number % len(MARKERS)],
               color=GREYS.get(name, QUIET) if name in UNSAID else COLOURS[number % len(COLOURS)])
        for number, (name, held) in enumerate(members.items())
    ]  # fmt: skip
    panel.legend(handles=keys, fontsize=7, ncols=2, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14),
                 handletextpad=0.2, columnspacing=1.0)  # fmt: skip
