"""What to type next: after a fit, after an interruption, after asking a stage for what it has not. Light to import."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xrayssl import recipes, rundir

GOAL = "finetune_shoulder"


def how_to_resume(verb: str) -> str:
    """Says what an interrupted command left, and what to type to go on."""
    run = Path(os.environ.get(rundir.VARIABLE, ""))
    if verb != "fit":
        return "interrupted; nothing was changed, type the same again."
    last = run / "checkpoints" / "last.ckpt"
    if not last.is_file():
        return "interrupted before the first checkpoint; type the same again to start anew."
    words = f"xrayssl fit --config {shlex.quote(f'{run}/config.yaml')} --ckpt_path {shlex.quote(str(last))}"
    return f"interrupted; the work is kept. To go on: {words}"


def measure(run: Path) -> str:
    """What to type after the fit of a classifier."""
    return f"xrayssl test --run {shown(run)}"


def finetune(run: Path, title: str | None, settings: Mapping[str, Any], corpora: Mapping[str, Any]) -> str:
    """What to type after pretraining: the shoulder's labels are learned next, on this backbone.

    Args:
        run: Folder of the pretraining.
        title: Name of its configuration; the demo's is followed by the demo's.
        settings: Options, such as data.img_size, that the next stage must share, with their values.
        corpora: Its corpora; where they are not phantoms, neither are the next stage's.
    """
    name = next((name for name in (f"demo_{GOAL}",) if (title or "").startswith("demo_")), GOAL)
    words = ["xrayssl", "fit", "--config", name, "--model.init_from", shown(run)]
    for option, value in settings.items():
        if value != _packaged(name, option):
            words += [f"--{option}", shlex.quote(str(value).replace(" ", ""))]
    real = any(name != "phantom" for name in corpora)
    return " ".join([*words, *(["--data.corpora.NAME", "PATH"] if real else [])])


def shown(path: Path) -> str:
    """Writes a path as short as it can be typed from here."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here)) if path.is_relative_to(here) else str(path))


def _packaged(name: str, option: str) -> Any:
    """The value that a packaged configuration gives to an option of its model or data."""
    import yaml

    part, _, argument = option.partition(".")
    content = yaml.safe_load(recipes.find(name).read_text(encoding="utf-8"))
    return content[part]["init_args"].get(argument)
