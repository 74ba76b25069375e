"""`xrayssl probe`: what frozen features know about labels, without a training run."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xrayssl import rundir
from xrayssl.files import write_json
from xrayssl.frozen.request import FROZEN_OPTIONS, FrozenRequest, frozen_options, understand
from xrayssl.memory import keep_freed_memory
from xrayssl.train import speak

if TYPE_CHECKING:
    from xrayssl.frozen.figures import Judged

log = logging.getLogger(__name__)
VERSION = 1
HEADLINES = {"auroc_macro": "AUROC macro", "auprc_macro": "AUPRC macro", "accuracy": "accuracy",
             "balanced_accuracy": "balanced acc."}  # fmt: skip
USAGE = "--backbone FILE [--backbone FILE...] --data.corpora.NAME PATH [options]"
TEXT = f"""Judges frozen features by nearest neighbours (weighted by cosine) and a linear probe (logistic regression).
Both learn from the training films; the number of neighbours and the penalty are those with the highest macro AUROC on
the validation films; the figures, with intervals over patients, are measured once, on the test films.

{FROZEN_OPTIONS}

how:
  --split test                    films that are measured; val measures those that the settings were chosen on, which
                                  flatters, and leaves the test films unseen
  --out DIR                       folder for the figures (default: runs/probe/<time>)
"""


def probe_command(argv: Sequence[str]) -> int:
    """The verb `xrayssl probe`.

    Args:
        argv: The words after it.

    Raises:
        UserError: Every mistake at once; films without labels; a film that cannot be read.
        KeyboardInterrupt: With a sentence saying what is kept.
    """
    keep_freed_memory()
    speak()
    options = frozen_options("probe", USAGE, TEXT)
    options.add_argument("--split", choices=("test", "val"), default="test")
    options.add_argument("--out", type=Path)
    request = understand(options, argv, lambda own: [])
    from xrayssl.frozen.figures import films_of

    films = films_of(request.data, request.own.split)  # refuses before anything is made
    started = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    out = request.own.out
    folder = rundir.claim(out.expanduser()) if out else rundir.fresh(Path("runs", "probe", started))
    try:
        judged = _judged(request, films, folder)
    except BaseException:
        if not any(folder.iterdir()):
            folder.rmdir()  # so that the name is free again
        raise
    sys.stdout.write(told(judged, films, request.own.split, folder))
    return 0


def _judged(request: FrozenRequest, films: Any, folder: Path) -> list[Judged]:
    """Judges one backbone after the other; what is finished is written."""
    from xrayssl.frozen.figures import judge

    request.report_to(folder)
    judged: list[Judged] = []
    for source in request.sources:
        if source.said:
            log.info("%s", source.said)
        started = time.monotonic()
        judged.append(judge(source, request.extraction, films, request.own.split, folder / source.name))
        log.info("%s: %s (%.1f s).", source.name, judged[-1].work, time.monotonic() - started)
        write_json(folder / "probe.json", _record(request, films, judged))
    return judged


def _record(request: FrozenRequest, films: Any, judged: Sequence[Judged]) -> dict[str, Any]:
    data = request.data
    return {
        "version": VERSION,
        "split": request.own.split,
        "pool": request.own.pool,
        "img_size": data.img_size,
        "precision": request.extraction.precision,
        "corpora": data.corpora,
        "checksum": data.manifest.checksum(),
        "task": data.task,
        "classes": data.classes,
        "films": {"train": len(films.train), "val": len(films.val), request.own.split: len(films.asked)},
        "unlearnable": films.unlearnable,
        "backbones": [each.record() for each in judged],
    }


def told(judged: Sequence[Judged], films: Any, split: str, folder: Path) -> str:
    """Writes the figures for a terminal.

    Args:
        judged: Backbones.
        films: That were learned from, chosen by, and measured.
        split: That was measured.
        folder: Where the files are.
    """
    figures = judged[0].figures["linear"]
    level, patients = figures["interval"]["level"], figures["patients"]
    measured = (
        f"measured once on {len(films.asked):,} test films" if split == "test"
        else f"measured on these same {len(films.asked):,} films, which flatters"
    )  # fmt: skip
    lines = [
        f"Learned from {len(films.train):,} training films; the setting is the best of a grid on {len(films.val):,} "
        f"validation films;\n{measured} of {patients:,} patients ({level:.0%} intervals over patients).\n",
        *_table(judged),
        *_remarks(judged, films),
        f"\n{folder}: probe.json, and of each probe predictions.parquet and metrics.json",
    ]
    return "\n".join(lines) + "\n"


def _table(judged: Sequence[Judged]) -> list[str]:
    from xrayssl.frozen.settings import KINDS

    shown = [name for name in HEADLINES if name in judged[0].figures["linear"]["metrics"]]
    rows = [["backbone", "network", "probe", "setting", "val AUROC", *(HEADLINES[name] for name in shown)]]
    for each in judged:
        for kind in KINDS:
            chosen, metrics = each.chosen[kind], each.figures[kind]["metrics"]
            first = [each.source.name, each.source.backbone.architecture] if kind == KINDS[0] else ["", ""]
            setting = f"k = {chosen.setting:.0f}" if kind == "knn" else f"penalty {chosen.setting:g}"
            figures = [_spelt(**metrics[name]) for name in shown]
            rows.append([*first, "kNN" if kind == "knn" else kind, setting, f"{chosen.auroc:.3f}", *figures])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _spelt(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" + ("" if low is None or high is None else f" ({low:.3f}-{high:.3f})")


def _remarks(judged: Sequence[Judged], films: Any) -> list[str]:
    """What a reader of the table should know."""
    edges = [f"{each.source.name} ({kind})" for each in judged for kind, chosen in each.chosen.items()
             if chosen.at_the_edge]  # fmt: skip
    undefined = judged[0].figures["linear"]["undefined"]
    unchosen = judged[0].chosen["linear"].undefined
    sentences = {
        f"No AUROC, one outcome is missing among the measured films: {', '.join(undefined)}.": undefined,
        f"Had no part in the choice of settings, for want of an outcome: {', '.join(unchosen)}.": unchosen,
        "Cannot be learned, one outcome is missing among the training films (every film gets the same probability, "
        f"AUROC 0.5): {', '.join(films.unlearnable)}.": films.unlearnable,
        f"The best setting is the first or last that was tried: {', '.join(edges)}.": edges,
    }
    return ["", *said] if (said := [sentence for sentence, holds in sentences.items() if holds]) else []
