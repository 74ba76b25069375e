"""`xrayssl explain`: where a classifier looks, or where recipes look, in pictures and in numbers beside nulls."""

from __future__ import annotations

import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xrayssl.data_request import Options, parse
from xrayssl.errors import UserError, refuse
from xrayssl.request import CORPORA, split_anew, split_equals
from xrayssl.train import speak

USAGE = "--run RUN | RUNS... [options]"
TEXT = """Where does it look? Maps of the classes of films, drawn over the films, and numbers about them beside what a
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
  --random_weights 8              networks with random weights, as a null; few tell only large differences
  --faithful 32                   films for insertion, deletion and ROAD; 0: none
  --cascade 32                    films for the loss of weights, stage by stage; 0: none
  --reference NAME                recipe that the others are compared with
  --ckpt_path last                another checkpoint
  --out DIR                       (default: RUN/explain, or the study's folder explain)

other films than the run's own:
  --data.corpora.folder PATH      a folder of films; --data.corpora.nih PATH for a known corpus; repeat to mix
  --data.split_seed 1             of them, and whatever else `xrayssl fit --data.help` lists

In DIR: explain.html, explain.json, the sheets, maps.npz and films.parquet; of several recipes recipes.html,
recipes.csv, slider.html, and explain.json. No film leaves the machine; the pages hold films.
"""


COUNTS = {"sheets": 12, "random_weights": 8, "faithful": 32, "cascade": 32}
"""How many, where nobody says."""
OWN_DRAW = ("corpora", "exclude", "fold", "fraction", "shots")
"""Of a run's options, those that concern its own films alone."""


def explain_command(argv: Sequence[str]) -> int:
    """The verb `xrayssl explain`.

    Args:
        argv: The words after it.

    Raises:
        UserError: Every mistake at once.
    """
    runs, words = _apart(split_equals(argv))
    own, _ = _options().parse_known_args(words)
    refuse(_wrong(own, runs, words))
    for name, count in COUNTS.items():
        setattr(own, name, count if getattr(own, name) is None else getattr(own, name))
    own.masks = own.masks.expanduser() if own.masks else None
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
    for name in COUNTS:
        options.add_argument(f"--{name}", type=int)
    options.add_argument("--reference")
    options.add_argument("--ckpt_path", default="best")
    options.add_argument("--out", type=Path)
    return options


def _wrong(own: Namespace, runs: Sequence[str], words: Sequence[str]) -> list[str]:
    deeper = [f"--{name}" for name in ("faithful", "cascade") if getattr(own, name) is not None]
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
        f"{' and '.join(deeper)} look into one network: give --run RUN.": bool(deeper and runs),
        "--class prediction explains other films of each run, which cannot be compared; name classes, or label.": (
            bool(runs) and "prediction" in own.classes
        ),
        "--config has no place beside runs, whose own configuration says how films are seen.": (
            any(word in ("--config", "-c") for word in words)
        ),
        f"--masks {own.masks}: there is no such folder.": (
            own.masks is not None and not own.masks.expanduser().is_dir()
        ),
        **{f"--{name} must be 0 or more, not {getattr(own, name)}.": (getattr(own, name) or 0) < 0 for name in COUNTS},
    }
    return [*(sentence for sentence, holds in wrong.items() if holds), *split_anew(words)]


def data_of(run: Path, words: Sequence[str]) -> Any:
    """The data module of a run, with what the command says otherwise of films.

    Args:
        run: Its folder.
        words: The command's, without the runs.

    Raises:
        UserError: If the films cannot be had.
    """
    import yaml

    config = run.expanduser() / "config.yaml"
    if not config.is_file():
        raise UserError(f"{run}: there is no run in that folder (no config.yaml).")
    content = {"data": yaml.safe_load(config.read_text(encoding="utf-8"))["data"]}
    if any(word.startswith(CORPORA.rstrip(".")) for word in words):  # these films instead of the run's own
        kept = content["data"].get("init_args") or {}
        content["data"]["init_args"] = {name: value for name, value in kept.items() if name not in OWN_DRAW}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.yaml")
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return parse(_options(), ["--config", str(path), *words]).module


def told(path: Path) -> None:
    """Says where something was written."""
    sys.stdout.write(f"{path}\n")
