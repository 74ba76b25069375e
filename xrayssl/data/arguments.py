"""What a data module refuses among its arguments."""

from __future__ import annotations

from xrayssl.data.augment import sides
from xrayssl.data.radiograph import Window


def wrong(
    img_size: int | tuple[int, int],
    batch_size: int,
    workers: int | None,
    window: Window,
    limits: tuple[float, float],
    cap: float,
) -> list[str]:
    """A sentence about each of these arguments of `XrayDataModule` that makes no sense.

    Args:
        img_size: In pixels.
        batch_size: In films.
        workers: Processes; None takes one per core.
        window: Which grey values are shown.
        limits: Percentiles, of the window "percentile" alone.
        cap: Share of films that may be unreadable.
    """
    wanted, spanned = sides(img_size), 0 <= limits[0] < limits[1] <= 100
    unused = window != "percentile" and tuple(limits) != (0.0, 100.0)
    problems = {
        f"img_size must be one or two sides of 1 or more pixels, not {img_size}": len(wanted) != 2 or min(wanted) < 1,
        f"batch_size must be 1 or more, not {batch_size}": batch_size < 1,
        f"num_workers must be 0 or more, not {workers}": workers is not None and workers < 0,
        f"limits must be percentiles, 0 <= low < high <= 100, not {limits}": not spanned,
        f"limits go with --data.window percentile; the window {window!r} takes none": spanned and unused,
        f"max_quarantine must be a share of 0-1, not {cap}": not 0 <= cap <= 1,
    }
    return [f"--data.{sentence}." for sentence, holds in problems.items() if holds]
