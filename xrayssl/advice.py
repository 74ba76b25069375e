"""What to type next: after a fit, after an interruption, after asking a stage for what it has not. Light to import."""

from __future__ import annotations

import inspect
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xrayssl import recipes, rundir

GOALS = {"chest": "finetune_chest", "shoulder": "finetune_shoulder"}
CNN = "_cnn"
DEMO = "demo_finetune_shoulder"
TOKENS = "mae_chest_tokens"


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


def finetune(
    run: Path,
    title: str | None,
    settings: Mapping[str, Any],
    corpora: Mapping[str, Any],
    body: str | None = None,
    cnn: bool = False,
) -> str:
    """What to type after pretraining: labels are learned next, on this backbone.

    Args:
        run: Folder of the pretraining.
        title: Name of its configuration; the demo's is followed by the demo's.
        settings: Options, such as data.img_size, that the next stage must share, with their values.
        corpora: Its corpora; where they are not phantoms, neither are the next stage's.
        body: What its films show. Chest films are plentiful, so that what is learned from them serves shoulders too.
        cnn: Its backbone is no ViT, for which the recipe has another configuration.

    Returns:
        A command, or two, the second on a line of its own.
    """
    if (title or "").startswith("demo_"):
        goals = {"shoulder": DEMO}
    else:
        suffix = CNN if cnn else ""
        goals = {part: name + suffix for part, name in GOALS.items() if body != "shoulder" or part == body}
    other = ["--data.corpora.NAME", "PATH"] if any(name != "phantom" for name in corpora) else []
    commands = {part: " ".join([*_fit(name, "model.init_from", run, settings), *other]) for part, name in goals.items()}
    first, *others = commands.items()
    return "\n".join([first[1], *(f"or, for films of the {part}: {words}" for part, words in others)])


def predict_codes(run: Path, settings: Mapping[str, Any], corpora: Mapping[str, Any]) -> str:
    """What to type after the fit of a discrete autoencoder, whose codes a masked autoencoder predicts.

    Args:
        run: Its folder.
        settings: Options that the next stage must share, with their values.
        corpora: Its corpora, which the next stage may well learn from.
    """
    named = [(name, source) for name, source in corpora.items() if isinstance(source, str)]
    films = [word for name, source in named for word in (f"--data.corpora.{name}", shown(Path(source)))]
    if not films and any(name != "phantom" for name in corpora):
        films = ["--data.corpora.NAME", "PATH"]
    return " ".join([*_fit(TOKENS, "model.tokenizer", run, settings), *films])


def reader(tokenizer: Any) -> str:
    """A ViT whose patches are the places of a tokenizer's backbone: the tokenizer's own, unless it is a CNN."""
    cell = tokenizer.img_size[0] // tokenizer.grid_size[0]
    return tokenizer.architecture if tokenizer.is_vit and cell != 16 else f"vit_small_patch{cell}_224"


def demands(network: Any) -> dict[str, Any]:
    """Options that the next stage needs because a timm network lacks something: stochastic depth, for one.

    A network that does not name it among its arguments may still take it; without it every one works.
    """
    takes = inspect.signature(type(network).__init__).parameters
    return {} if network is None or "drop_path_rate" in takes else {"model.drop_path": 0}


def _fit(name: str, origin: str, run: Path, settings: Mapping[str, Any]) -> list[str]:
    """A fit of a packaged configuration that starts from a run; what it says already is not repeated."""
    words = ["xrayssl", "fit", "--config", name, f"--{origin}", shown(run)]
    for option, value in settings.items():
        if value != _packaged(name, option):
            words += [f"--{option}", shlex.quote(str(value).replace(" ", ""))]
    return words


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
