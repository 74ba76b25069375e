"""`xrayssl explain`: where a classifier looks, or where recipes look, in pictures and in numbers beside nulls."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xrayssl.data_request import DATA_OPTIONS, Options, parse
from xrayssl.errors import UserError, refuse
from xrayssl.request import split_equals
from xrayssl.train import speak

USAGE = "--run RUN | RUNS... [options]"
TEXT = f"""Where does it look? Maps of the classes of films, drawn over the films, and numbers about them beside what a
uniform map, a centred Gaussian, networks with random weights and other patients' maps give.

  --run RUN                       folder of a finished run of a classifier: its best checkpoint
  RUNS...                         before all options: studies and runs of several recipes and seeds, as `xrayssl
                                  compare` takes them; where recipes look is compared over seeds and patients

options:
  --class label                   what is explained of each film: its label (all findings that are there), prediction
                                  (those that reach their threshold), or names of classes
  --kind grad_cam                 or grad_cam_plus_plus, hires_cam, rollout (ViT), occlusion
  --layer NAME                    a layer in place of the backbone's grid, such as backbone.network.layer3
  --split test                    or val
  --masks DIR                     masks of regions, DIR/<film>.png or DIR/<region>/<film>.png, bright inside
  --sheets 12                     films that are drawn
  --random_weights 3              networks with random weights, as a null
  --faithful 32                   films for insertion, deletion and ROAD; 0: none
  --cascade 32                    films for the loss of weights, stage by stage; 0: none
  --reference NAME                recipe that the others are compared with
  --ckpt_path last                another checkpoint
  --out DIR                       (default: RUN/explain, or the study's folder explain)

other films than the run's own:
{DATA_OPTIONS}

In DIR: explain.html, explain.json, the sheets, maps.npz and films.parquet; of several recipes recipes.html,
recipes.csv, slider.html, and explain.json. No film leaves the machine; the pages hold films.
"""


def explain_command(argv: Sequence[str]) -> int:
    """The verb `xrayssl explain`.

    Args:
        argv: The words after it.

    Raises:
        UserError: Every mistake at once.
    """
    runs, words = _apart(split_equals(argv))
    own, _ = _options().parse_known_args(words)
    refuse(_wrong(own, runs))
    speak()
    if runs:
        from xrayssl.explained.several import explain_recipes

        return explain_recipes(runs, own, words)
    from xrayssl.explained.single import explain_run

    return explain_run(own, words)


def _apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """What stands before all options, and the rest."""
    first = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    return list(words[:first]), list(words[first:])


def _options() -> Options:
    from xrayssl.explain.kinds import KINDS

    options = Options("explain", USAGE, TEXT)
    options.add_argument("--run", type=Path)
    options.add_argument("--class", dest="classes", nargs="+", default=["label"])
    options.add_argument("--kind", choices=KINDS, default="grad_cam")
    options.add_argument("--layer")
    options.add_argument("--split", choices=("test", "val"), default="test")
    options.add_argument("--masks", type=Path)
    for name, count in (("sheets", 12), ("random_weights", 3), ("faithful", 32), ("cascade", 32)):
        options.add_argument(f"--{name}", type=int, default=count)
    options.add_argument("--reference")
    options.add_argument("--ckpt_path", default="best")
    options.add_argument("--out", type=Path)
    return options


def _wrong(own: Namespace, runs: Sequence[str]) -> list[str]:
    counts = ("sheets", "random_weights", "faithful", "cascade")
    wrong = {
        "explain needs a trained run: --run RUN, or the runs of several recipes before all options.": (
            own.run is None and not runs
        ),
        "--run explains one network, and the runs before it several recipes; give one of both.": (
            own.run is not None and bool(runs)
        ),
        "--reference goes with several recipes.": own.reference is not None and not runs,
        "--ckpt_path goes with --run; of several recipes the best checkpoints are explained.": (
            own.ckpt_path != "best" and bool(runs)
        ),
        **{f"--{name} must be 0 or more, not {getattr(own, name)}.": getattr(own, name) < 0 for name in counts},
    }
    return [sentence for sentence, holds in wrong.items() if holds]


def data_of(run: Path, words: Sequence[str]) -> Any:
    """The data module of a run, with what the command says otherwise of films.

    Args:
        run: Its folder.
        words: The command's, without the runs.

    Raises:
        UserError: If the films cannot be had.
    """
    config = run.expanduser() / "config.yaml"
    if not config.is_file():
        raise UserError(f"{run}: there is no run in that folder (no config.yaml).")
    given = any(word in ("--config", "-c") for word in words)
    return parse(_options(), [*([] if given else ["--config", str(config)]), *words]).module


def told(path: Path) -> None:
    """Says where something was written."""
    sys.stdout.write(f"{path}\n")
