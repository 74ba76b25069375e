"""`xrayssl reconstruct`: pictures of what a masked autoencoder expects behind the hidden patches of a film."""

from __future__ import annotations

import importlib
import itertools
import logging
import sys
import warnings
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xrayssl.data_request import Options
from xrayssl.errors import UserError
from xrayssl.train import speak

if TYPE_CHECKING:
    import numpy as np

    from xrayssl.callbacks.reconstructions import Reconstructing
    from xrayssl.data.radiograph import Radiograph

log = logging.getLogger(__name__)
SIDE = 224  # pixels, to which smaller films are enlarged
LONGEST = 44  # letters of a film's name on its picture

USAGE = "--run RUN IMAGE... [options]"
TEXT = """Hides patches of films and lets a masked autoencoder fill them in. Writes one PNG per film: the film, what the
network sees of it, what it makes of that, and the error (white is none). Standardised patches are shown with the
true mean and contrast. Of a discrete autoencoder (DVAE), which hides nothing, it shows films painted from their codes.

  --run RUN                       folder of a run of an autoencoder; its last checkpoint has the decoder
  --backbone FILE                 instead of --run: a checkpoint in a run's folder
  IMAGE...                        films: PNG, JPEG, TIFF, DICOM; read and windowed as the run did

options:
  --out DIR                       folder for the pictures (default: RUN/reconstruct)
  --ratio 0.9                     share of hidden patches (default: the run's)
  --seed 0                        another seed hides other patches
"""


def reconstruct_command(argv: Sequence[str]) -> int:
    """The verb `xrayssl reconstruct`.

    Args:
        argv: The words after it.

    Raises:
        UserError: Every mistake at once; weights without a decoder; a method that hides nothing; unreadable films.
    """
    options = Options("reconstruct", USAGE, TEXT)
    options.add_argument("--run", type=Path)
    options.add_argument("--backbone", type=Path)
    options.add_argument("--out", type=Path)
    options.add_argument("--ratio", type=float)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("images", nargs="*", type=Path)
    own = options.parse_intermixed_args(list(argv))
    problems = _problems(own)
    speak()
    trained, refusal = (None, []) if problems else _trained(own)
    views, unreadable = _read(own.images, trained)
    _refuse([*problems, *refusal, *unreadable])
    assert trained is not None
    out = own.out or trained.run / "reconstruct"
    out.mkdir(parents=True, exist_ok=True)
    if not hasattr(trained.method, "masking"):
        log.info("%s hides nothing: the pictures show films painted from their codes.", type(trained.method).__name__)
    for film, path, view_HW in zip(own.images, _names(own.images, out), views, strict=True):
        _draw(path, film.name, trained.method, view_HW, own.seed)
        sys.stdout.write(f"{path}\n")
    return 0


@dataclass(frozen=True)
class Trained:
    """A run's method with its weights, and how it read films."""

    run: Path
    method: Any
    data: dict[str, Any]


def _trained(own: Namespace) -> tuple[Trained | None, list[str]]:
    """What the words name, or the sentences that say why it is not to be had."""
    try:
        checkpoint = _checkpoint(own)
        method, data = load(checkpoint)
        if own.ratio is not None:
            _hide(method, own.ratio)
        return Trained(checkpoint.parents[1], method, data), []
    except UserError as error:
        return None, error.messages


def load(checkpoint: Path) -> tuple[Reconstructing, dict[str, Any]]:
    """Builds a masked autoencoder as its run did, with the weights of a checkpoint.

    Args:
        checkpoint: In the folder checkpoints of a run.

    Returns:
        The method, in evaluation, and the arguments of the run's data module.

    Raises:
        UserError: If the files are no such run's.
    """
    import yaml

    from xrayssl.checkpoint import load as read

    content, config = read(checkpoint), checkpoint.parents[1] / "config.yaml"
    if "backbone" not in content.get("xrayssl", {}):
        raise UserError(f"{checkpoint}: this is no checkpoint of a run of xrayssl, so it does not say how to build it.")
    if not config.is_file():
        raise UserError(f"{config}: there is no such file; a checkpoint is rebuilt from the config.yaml of its run.")
    asked = yaml.safe_load(config.read_text(encoding="utf-8"))
    module, _, name = asked["model"]["class_path"].rpartition(".")
    if not hasattr(getattr(importlib.import_module(module or "xrayssl.methods"), name), "reconstruct"):
        raise UserError(f"{config.parent}: {name} hides nothing and fills nothing in; take a masked autoencoder's run.")
    header = content["xrayssl"]["backbone"]
    method = _built(asked["model"], header, config)
    _fill(method, content["state_dict"], checkpoint)
    for buffer, values in ((method.backbone.mean, header["mean"]), (method.backbone.std, header["std"])):
        buffer.copy_(buffer.new_tensor(values))
    return method, asked["data"].get("init_args", {})


def _problems(own: Namespace) -> list[str]:
    wrong = {
        "reconstruct needs a trained run: --run RUN.": own.run is None and own.backbone is None,
        "--run and --backbone name the same thing; give one.": own.run is not None and own.backbone is not None,
        "reconstruct needs films: name one or more images.": not own.images,
        f"--ratio is a share between 0 and 1, not {own.ratio}.": own.ratio is not None and not 0 < own.ratio < 1,
    }
    return [sentence for sentence, holds in wrong.items() if holds]


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise UserError(*problems)


def _checkpoint(own: Namespace) -> Path:
    named = (own.run or own.backbone).expanduser()
    path: Path = named / "checkpoints" / "last.ckpt" if named.is_dir() else named
    if path.suffix == ".safetensors":
        raise UserError(
            f"{path}: this is the encoder alone, whose pictures would be noise; the decoder is in the run's "
            "checkpoints/last.ckpt: --run RUN."
        )
    if not path.is_file():
        raise UserError(f"{path}: there is no such checkpoint; --run wants the folder of a finished run.")
    return path.absolute()


def _built(model: dict[str, Any], header: dict[str, Any], config: Path) -> Any:
    """The method of a configuration, without weights of any origin."""
    from jsonargparse import ArgumentError, ArgumentParser

    from xrayssl.diagnose import shortened
    from xrayssl.methods import Method

    taken = {"img_size": header["img_size"], "init_from": None, "compile": False, "grad_checkpointing": False}
    arguments = {**(model.get("init_args") or {}), **taken}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Method, "model", required=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"[\s\S]*instantiate_classes", DeprecationWarning)
        try:
            parsed = parser.parse_object({"model": {"class_path": model["class_path"], "init_args": arguments}})
            return parser.instantiate_classes(parsed).model
        except ArgumentError as error:
            raise UserError(f"{config}: {shortened(error)}") from None


def _fill(method: Any, state: dict[str, Any], checkpoint: Path) -> None:
    try:
        method.load_state_dict(state)
    except RuntimeError:
        raise UserError(f"{checkpoint}: the weights do not fit the config.yaml beside them; was it edited?") from None
    method.eval()


def _hide(method: Any, ratio: float) -> None:
    """Sets another share of hidden patches, the same at every moment of a schedule."""
    from xrayssl.masking import hidden_count

    if not hasattr(method, "masking"):
        raise UserError(f"--ratio {ratio}: {type(method).__name__} hides nothing; leave it out.")
    try:
        hidden_count(method.grid[0] * method.grid[1], ratio)
    except ValueError as error:
        raise UserError(f"--ratio {ratio}: {error}") from None
    method.masking = replace(method.masking, ratio=ratio, ratio_end=None)


def _read(paths: Sequence[Path], trained: Trained | None) -> tuple[list[np.ndarray], list[str]]:
    """Films as the run saw them in its validation, and a sentence for each that cannot be read.

    Without a run the films are only read, so that all that is wrong with a command is told at once.
    """
    from xrayssl.data.radiograph import read

    data = trained.data if trained else {"first_frame": True}
    view = _view(trained) if trained else None
    views, problems = [], []
    for path in paths:
        try:
            raw = read(path, voi=data.get("window", "voi") == "voi", first_frame=bool(data.get("first_frame")))
            views += [view(raw)] if view else []
        except UserError as error:
            problems += error.messages
    return views, problems


def _view(trained: Trained) -> Callable[[Radiograph], np.ndarray]:
    """How the run made its validation films of what it read."""
    from xrayssl.data.augment import Augment
    from xrayssl.data.radiograph import window
    from xrayssl.data.transforms import evaluation, prepare

    kind, limits = trained.data.get("window", "voi"), tuple(trained.data.get("limits", (0.0, 100.0)))
    known = trained.data.get("augment") or {}
    augment = Augment(trim=bool(known.get("trim")), clahe=bool(known.get("clahe")))
    view = evaluation(trained.method.backbone.img_size, bool(known.get("circle")))
    return lambda raw: view(prepare(augment, window(raw, kind, limits)), seed=0)


def _names(images: Sequence[Path], out: Path) -> list[Path]:
    """A picture for each film; films of one name in different folders are counted."""
    taken: list[str] = []
    for image in images:
        counted = (f"{image.stem}-{number}" for number in itertools.count(2))
        taken.append(next(name for name in itertools.chain([image.stem], counted) if name not in taken))
    return [out / f"{name}-reconstruction.png" for name in taken]


def _draw(path: Path, film: str, method: Any, view_HW: np.ndarray, seed: int) -> None:
    import cv2
    import torch

    from xrayssl.callbacks.reconstructions import reconstruction_picture

    image_BCHW = torch.from_numpy(view_HW).expand(1, method.backbone.in_chans, -1, -1)
    title = [film if len(film) <= LONGEST else f"{film[: LONGEST // 2]}...{film[-(LONGEST // 2) :]}"]
    if not cv2.imwrite(str(path), reconstruction_picture(method, image_BCHW, seed, side=SIDE, title=title)):
        raise UserError(f"{path}: the picture cannot be written there.")
