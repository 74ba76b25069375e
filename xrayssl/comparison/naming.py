"""How metrics, amounts and figures are called, the same in every output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xrayssl.study.outcome import HEADLINES
from xrayssl.study.words import decimal, interval

LOWER = ("ece", "brier")
"""Kinds of metrics of which less is better."""
NAMES = {**HEADLINES, "ece_scaled": "Calibration error after scaling", "brier": "Brier score", "f1_macro": "Macro F1",
         "sensitivity_macro": "Macro sensitivity", "specificity_macro": "Macro specificity"}  # fmt: skip
KINDS = {"auroc": "AUROC", "auprc": "Average precision", "f1": "F1", "ppv": "PPV", "npv": "NPV"}
DAGGER = "†"
LOOKS = {
    "edge_energy": "Energy in the border", "center_offset": "Offset from the centre", "center_dy": "Offset downwards",
    "center_dx": "Offset to the right", "entropy": "Entropy of the map", "gini": "Gini of the map",
    "empty_rate": "Empty maps", "energy_in_region": "Energy in the region", "relative_energy": "Energy over area",
    "pointing_game": "Pointing game", "pixel_auprc": "Pixel AUPRC",
}  # fmt: skip
"""Kinds of figures about class maps, which are neither good nor bad; see `xrayssl explain`."""
LIMITS = {"kappa": (-1.0, 1.0), "brier": (0.0, 2.0), "edge_energy": (0.0, float("inf")), "center_d": (-1.0, 1.0),
          "relative_energy": (0.0, float("inf"))}  # fmt: skip
"""How far figures can go, by how their names begin; others are shares."""


def metric_name(metric: str) -> str:
    """`Macro AUROC`, `AUROC, Edema`."""
    kind, _, label = metric.partition("/")
    if known := next((name for name in LOOKS if kind.startswith(name)), ""):
        band = kind.removeprefix(known).removeprefix("_")
        of = [f"{100 * float(band):g} % of the side"] if band else []
        return ", ".join([LOOKS[known], *of, *([label] if label else [])])
    whole = NAMES.get(metric) or KINDS.get(kind) or NAMES.get(kind) or kind.replace("_", " ").capitalize()
    return f"{whole}, {label}" if label else whole


def limits(metric: str) -> tuple[float, float]:
    """The least and the greatest value that a metric can have."""
    return next((ends for name, ends in LIMITS.items() if metric.startswith(name)), (0.0, 1.0))


def verdict(metric: str, difference: float) -> str:
    """`better` or `worse`; `higher` or `lower` of a figure that is neither good nor bad."""
    if metric.startswith(tuple(LOOKS)):
        return "higher" if difference > 0 else "lower"
    return "better" if (difference < 0) == lower_is_better(metric) else "worse"


def lower_is_better(metric: str) -> bool:
    """Whether less of it is better."""
    return metric.startswith(LOWER)


def amount_words(amount: float, kind: str) -> str:
    """`10 % of the labels`, `all labels`, `5 films per class`."""
    if kind == "shots":
        return f"{amount:g} film{'' if amount == 1 else 's'} per class"
    return "all labels" if amount == 1 else f"{100 * amount:g} % of the labels"


def figure(value: float | None, selected_on: str = "val") -> str:
    """`0.847`, with a dagger where the checkpoint was selected on test films."""
    return decimal(value) + (DAGGER if selected_on == "test" and value is not None else "")


def signed(value: float | None, selected_on: str = "val") -> str:
    """`+0.042`."""
    return "–" if value is None else f"{value:+.3f}".replace("-", "−") + (DAGGER if selected_on == "test" else "")


def span(entry: Mapping[str, Any]) -> str:
    """`0.861 to 0.953`, `−0.004 to 0.012`, or nothing."""
    return (interval(entry) or "").replace("-", "−")


def chance(p: float | None) -> str:
    """A p-value: two digits, or that it is small."""
    if p is None:
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def effect(value: float | None) -> str:
    """An effect size."""
    return "–" if value is None else f"{value:+.1f}".replace("-", "−")
