"""`xrayssl compare`: recipes over seeds, with what is sure about them."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from xrayssl import rundir
from xrayssl.data_request import Options
from xrayssl.errors import UserError, refuse
from xrayssl.files import appearing, write_json
from xrayssl.request import split_equals

NAME = "comparison"
USAGE = "RUNS... [--reference NAME] [--metric auroc_macro ...] [--out DIR] [--wandb]"
TEXT = """Compares recipes over their seeds and over patients: means with intervals, paired differences to a reference
with p (Holm) and effect size, ROC and precision-recall curves, curves over fewer labels.

  RUNS                       study folders of `xrayssl chain`, folders of `xrayssl efficiency` and `folds`, runs; a run
                             is called by its configurations, or NAME=RUN names it (again for each seed)
  --reference NAME           recipe that all others are compared with (default: the study's, or the first)
  --metric auroc_macro ...   the first is the headline; default: it, the usual others, and every class
  --out DIR                  where to (default: the study's folder, or runs/comparison/<time>)
  --wandb                    logs tables and curves as one run of Weights & Biases, offline unless --wandb.mode says
                             auto or online; --wandb.project, .entity, .group, .privacy as `xrayssl fit` takes them

In DIR: comparison.html, .csv, .md, .tex and .json. With one seed nothing is said of recipes, and the tables say so.
"""
WANDB = ("mode", "project", "entity", "group", "privacy")


def compare_command(argv: Sequence[str]) -> int:
    """The verb `xrayssl compare`.

    Args:
        argv: The words after it.

    Raises:
        UserError: If runs cannot be read or compared.
    """
    own = _options().parse_args(split_equals(argv))
    wandb = _allowed(own)
    from xrayssl.comparison.comparison import compare
    from xrayssl.comparison.exports import as_text
    from xrayssl.comparison.selection import select

    selection = select(own.runs)
    content = compare(selection, own.reference, own.metric)
    folder = write(content, own.out or selection.folder)
    sys.stdout.write(
        f"{as_text(content)}\nThe page is {folder / NAME}.html; .csv, .md, .tex and .json lie beside it.\n"
    )
    if wandb:
        from xrayssl.dashboards.summary import log

        log(content, folder, wandb)
    return 0


def _options() -> Options:
    options = Options("compare", USAGE, TEXT)
    options.add_argument("runs", nargs="+")
    options.add_argument("--reference")
    options.add_argument("--metric", nargs="+", default=[])
    options.add_argument("--out", type=Path)
    options.add_argument("--wandb", action="store_true")
    for name in WANDB:
        options.add_argument(f"--wandb.{name}")
    return options


def _allowed(own: Namespace) -> Any:
    """What Weights & Biases may do, or None.

    Raises:
        UserError: If one of its options makes no sense.
    """
    from xrayssl.loggers import Wandb

    given = {name: value for name in WANDB if (value := getattr(own, f"wandb.{name}")) is not None}
    modes = ("auto", "offline", "online", "disabled")
    wrong = {
        f"--wandb.mode is one of {', '.join(modes)}, not {given.get('mode')}.": given.get("mode", "auto") not in modes,
        f"--wandb.privacy is true or false, not {given.get('privacy')}.": (
            given.get("privacy", "true") not in ("true", "false")
        ),
        f"--wandb.{next(iter(given), '')} says how to log, and nothing says that it shall be: add --wandb.": (
            bool(given) and not own.wandb
        ),
    }
    refuse([sentence for sentence, holds in wrong.items() if holds])
    return Wandb(**given | {"privacy": given.get("privacy") == "true"}) if own.wandb else None


def write(content: dict[str, Any], out: Path | None) -> Path:
    """Writes the five files.

    Args:
        content: Of comparison.json.
        out: Folder; None: a new one under `runs/comparison`.

    Returns:
        The folder.

    Raises:
        UserError: If it cannot be written.
    """
    from xrayssl.comparison.exports import as_csv, as_latex, as_markdown
    from xrayssl.comparison.page import as_html

    folder = (
        out.expanduser() if out else rundir.fresh(Path("runs") / NAME / datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
    )
    try:
        for ending, words in (("csv", as_csv), ("md", as_markdown), ("tex", as_latex), ("html", as_html)):
            with appearing(folder / f"{NAME}.{ending}") as partial:
                partial.write_text(words(content), encoding="utf-8")
        write_json(folder / f"{NAME}.json", content)
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); choose another place with --out.") from None
    return folder
