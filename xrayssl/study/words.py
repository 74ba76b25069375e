"""Numbers in words, the same way wherever they stand on the page."""

from collections.abc import Mapping
from typing import Any


def duration(seconds: Any) -> str | None:
    """Seconds in words."""
    if not isinstance(seconds, int | float):
        return None
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def amount(count: Any, noun: str, patients: Any = None) -> str | None:
    """`5,232 films of 2,480 patients`."""
    if not isinstance(count, int):
        return None
    words = f"{count:,} {noun}{'' if count == 1 else 's'}"
    return f"{words} of {amount(patients, 'patient')}" if isinstance(patients, int) else words


def decimal(value: float | None) -> str:
    """Three decimals; a dash for what does not exist."""
    return "–" if value is None else f"{value:.3f}"


def interval(entry: Mapping[str, float | None]) -> str | None:
    """`0.861 to 0.953`, or None."""
    if entry.get("low") is None or entry.get("high") is None:
        return None
    return f"{decimal(entry['low'])} to {decimal(entry['high'])}"


def level(figures: Mapping[str, Any]) -> str:
    """`95 % interval`, its space unbreakable."""
    return f"{100 * float(figures['interval'].get('level') or 0.95):g}\u00a0% interval"
