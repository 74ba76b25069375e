"""`xrayssl reconstruct`: pictures of what a masked autoencoder expects behind the hidden patches of a film."""

from __future__ import annotations

import logging
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xrayssl.data_request import Options
from xrayssl.errors import UserError
from xrayssl.files import counted
from xrayssl.train import speak
from xrayssl.trained import Trained, rebuilt

if TYPE_CHECKING:
    import numpy as np

    from xrayssl.callbacks.reconstructions import Reconstructing

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


def _trained(own: Namespace) -> tuple[Trained | None, list[str]]:
    """What the words name, or the sentences that say why it is not to be had."""
    try:
        checkpoint = _checkpoint(own)
        trained = rebuilt(checkpoint, _hides_nothing)
        if own.ratio is not None:
            _hide(trained.method, own.ratio)
        return trained, []
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
    trained = rebuilt(checkpoint, _hides_nothing)
    return trained.method, trained.data


def _hides_nothing(kind: type) -> str | None:
    if hasattr(kind, "reconstruct"):
        return None
    return f"{kind.__name__} hides nothing and fills nothing in; take a masked autoencoder's run."


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
    from xrayssl.data.viewing import viewing

    look = trained.viewing if trained else viewing({"first_frame": True}, (1, 1))
    views, problems = [], []
    for path in paths:
        try:
            views.append(look.view(look.film(path)))
        except UserError as error:
            problems += error.messages
    return views, problems


def _names(images: Sequence[Path], out: Path) -> list[Path]:
    """A picture for each film."""
    return [out / f"{name}-reconstruction.png" for name in counted([image.stem for image in images])]


def _draw(path: Path, film: str, method: Any, view_HW: np.ndarray, seed: int) -> None:
    import cv2
    import torch

    from xrayssl.callbacks.reconstructions import reconstruction_picture

    image_BCHW = torch.from_numpy(view_HW).expand(1, method.backbone.in_chans, -1, -1)
    title = [film if len(film) <= LONGEST else f"{film[: LONGEST // 2]}...{film[-(LONGEST // 2) :]}"]
    if not cv2.imwrite(str(path), reconstruction_picture(method, image_BCHW, seed, side=SIDE, title=title)):
        raise UserError(f"{path}: the picture cannot be written there.")
