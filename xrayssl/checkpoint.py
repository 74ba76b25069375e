"""Checkpoints that are whole or absent: a kill, a full disk or another file system never leaves half a file."""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from numpy._core.multiarray import _reconstruct, scalar
from torch import Tensor

from xrayssl.errors import UserError

# What published checkpoints hold besides tensors and plain containers: the command line, and numbers of numpy, whose
# module had another name before numpy 2. Calling any of these makes data only.
HARMLESS: list[Any] = [
    argparse.Namespace,
    np.ndarray,
    np.dtype,
    *sorted({type(np.dtype(code)) for code in "?bhilBHILefd"}, key=lambda kind: kind.__name__),
    *((made, f"{module}.multiarray.{made.__name__}") for made in (scalar, _reconstruct)
      for module in ("numpy.core", "numpy._core")),
]  # fmt: skip


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes to the disk, and renames.

    Lightning stages a save in the temporary directory and moves it, which is a copy where that is another file
    system: a kill during it replaced a good checkpoint by half a one in 11 of 15 trials.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Writes a checkpoint; the name appears once the file is complete."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
        try:
            with os.fdopen(descriptor, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads a checkpoint without executing anything in it.

        Raises:
            UserError: If the file is missing, truncated or no checkpoint of Lightning.
        """
        content = load(Path(path), map_location or "cpu")
        if "state_dict" not in content:
            raise UserError(
                f"{path}: this is no Lightning checkpoint; to start from its weights use --model.init_from."
            )
        return content


def load(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Reads the content of any checkpoint as data.

    Raises:
        UserError: If the file is missing, truncated, holds code or is no checkpoint.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such checkpoint.")
    try:
        with torch.serialization.safe_globals(HARMLESS), path.open("rb") as file:  # a name would choose the format
            content = torch.load(file, map_location=map_location, weights_only=True)
    except Exception as error:  # foreign bytes can fail anywhere in the unpickler, with any exception
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code is None:
            raise UserError(f"{path}: no readable checkpoint; it is truncated or of another program.") from None
        raise UserError(
            f"{path}: it has code in it ({code[1]}), which is never executed; save its state_dict alone."
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: this is no checkpoint, but a {type(content).__name__}.")
    return content


def misfits(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> list[str]:
    """One sentence on the first tensor that is missing, foreign or of another shape."""
    shapes = [{name: tuple(value.shape) for name, value in state.items()} for state in (ours, theirs)]
    names = [name for name in {**ours, **theirs} if shapes[0].get(name) != shapes[1].get(name)]
    if not names:
        return []
    here, there = (found.get(names[0], "absent") for found in shapes)
    return [
        f"The checkpoint does not fit this config: {names[0]} is {there} there and {here} here "
        f"({len(names)} tensors differ). Resume with the config.yaml of the run it comes from."
    ]


def class_path(kind: type) -> str:
    """How a checkpoint names a class."""
    return f"{kind.__module__}.{kind.__qualname__}"
