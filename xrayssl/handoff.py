"""What passes from one stage to the next: the backbone's weights as data, and where they come from.

`backbone.safetensors` holds timm's key names; its header holds one JSON object under the key `xrayssl`. Nothing in
such a file is code. Loading demands every key of the backbone, and says what it did.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from xrayssl import checkpoint
from xrayssl.backbone import Backbone
from xrayssl.errors import UserError
from xrayssl.files import appearing

VERSION = 1
FILE = "backbone.safetensors"
PREFIX = "backbone.network."


@dataclass(frozen=True)
class Weights:
    """A backbone as it lies in a file.

    Args:
        tensors: timm key names to values.
        metadata: The header: architecture, in_chans, img_size, mean, std, method, parents, git, data, created.
        path: Of the file.
        others: Number of tensors in the file that belong to no backbone (heads, decoders).
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]
    path: Path
    others: int = 0

    def lineage(self) -> list[dict[str, Any]]:
        """The parents of a stage that starts from this file, oldest first."""
        own = {"method": self.metadata.get("method"), "sha256": sha256(self.path)}
        return [*self.metadata.get("parents", []), own]


@dataclass(frozen=True)
class Report:
    """What a load did.

    Args:
        path: Of the file.
        loaded: Keys taken as they are.
        left_out: Tensors of the file that the backbone does not have.
    """

    path: Path
    loaded: list[str] = field(default_factory=list)
    left_out: int = 0

    def __str__(self) -> str:
        return (
            f"Loaded {len(self.loaded)} of {len(self.loaded)} backbone tensors from {self.path}; "
            f"0 missing, {self.left_out} of the file's other tensors left out."
        )


def describe_backbone(backbone: Backbone) -> dict[str, Any]:
    """The part of the header that the network itself determines."""
    return {
        "version": VERSION,
        "architecture": backbone.architecture,
        "in_chans": backbone.in_chans,
        "img_size": list(backbone.img_size),
        "mean": backbone.mean.tolist(),
        "std": backbone.std.tolist(),
    }


def save(backbone: Backbone, path: str | Path, **metadata: Any) -> Path:
    """Writes a backbone for the next stage; the file appears whole or not at all.

    Args:
        backbone: To write.
        path: Of the file.
        **metadata: What the header says besides `describe_backbone`: method, parents, git, data, created.
    """
    path = Path(path)
    tensors = {name: value.detach().cpu().contiguous() for name, value in backbone.network.state_dict().items()}
    header = {"xrayssl": json.dumps({**describe_backbone(backbone), **metadata})}
    with appearing(path) as partial:
        save_file(tensors, partial, metadata=header)
    return path


def read(path: str | Path) -> Weights:
    """Reads a backbone from backbone.safetensors, a run directory, or a checkpoint of this package.

    Raises:
        UserError: If there is no such file, it is truncated, or it holds no backbone.
    """
    path = _locate(Path(path))
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_checkpoint(path)


def load(backbone: Backbone, path: str | Path) -> tuple[Report, Weights]:
    """Fills a backbone from a file; every one of its tensors must be there in the right shape.

    Mean and standard deviation of the grey values travel with the weights.

    Returns:
        What was done, and the file's content.

    Raises:
        UserError: If the file holds another architecture, or keys or shapes do not match.
    """
    weights = read(path)
    _check_match(backbone, weights)
    backbone.network.load_state_dict(weights.tensors)
    for name, buffer in (("mean", backbone.mean), ("std", backbone.std)):
        if name in weights.metadata:
            buffer.copy_(torch.tensor(weights.metadata[name]))
    return Report(weights.path, list(weights.tensors), weights.others), weights


def describe(path: str | Path) -> dict[str, Any]:
    """What is in a backbone or checkpoint: its header, and the number of tensors and parameters.

    Raises:
        UserError: As `read`.
    """
    weights = read(path)
    return {
        "path": str(weights.path),
        "sha256": sha256(weights.path),
        **weights.metadata,
        "tensors": len(weights.tensors),
        "parameters": sum(value.numel() for value in weights.tensors.values()),
        "other_tensors": weights.others,
        "keys": {name: list(value.shape) for name, value in weights.tensors.items()},
    }


def sha256(path: Path) -> str:
    """Checksum of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(backbone: Backbone) -> str:
    """Checksum of a backbone's weights, hexadecimal: for weights that came from no file."""
    digest = hashlib.sha256()
    for name, value in sorted(backbone.network.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _locate(path: Path) -> Path:
    if path.is_dir():
        path = path / FILE
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; init_from wants a {FILE}, a run directory or a checkpoint.")
    return path


def _read_safetensors(path: Path) -> Weights:
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("xrayssl", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise UserError(f"{path}: no readable backbone, it may be truncated ({error}).") from None
    return Weights(tensors, header, path)


def _read_checkpoint(path: Path) -> Weights:
    content = checkpoint.load(path)
    state = content.get("state_dict", {})
    tensors = {name[len(PREFIX) :]: value for name, value in state.items() if name.startswith(PREFIX)}
    if not tensors:
        raise UserError(f"{path}: this checkpoint holds no backbone of xrayssl, and other layouts cannot be read yet.")
    return Weights(tensors, content.get("xrayssl", {}).get("backbone", {}), path, len(state) - len(tensors))


def _check_match(backbone: Backbone, weights: Weights) -> None:
    architecture = weights.metadata.get("architecture", backbone.architecture)
    if architecture != backbone.architecture:
        raise UserError(
            f"{weights.path} holds a {architecture}, but the model is a {backbone.architecture}; "
            f"set --model.backbone {architecture} or start from another file."
        )
    size = weights.metadata.get("img_size", list(backbone.img_size))
    expected, problems = backbone.network.state_dict(), []
    missing = [name for name in expected if name not in weights.tensors]
    if missing:
        problems.append(f"lacks {len(missing)} of {len(expected)} tensors, such as {missing[0]!r}")
    foreign = [name for name in weights.tensors if name not in expected]
    if foreign:
        problems.append(f"has {len(foreign)} tensors that the network does not know, such as {foreign[0]!r}")
    shapes = [k for k, v in expected.items() if k in weights.tensors and weights.tensors[k].shape != v.shape]
    if shapes:
        first = f"{tuple(weights.tensors[shapes[0]].shape)} instead of {tuple(expected[shapes[0]].shape)}"
        problems.append(f"has {len(shapes)} tensors of another shape, such as {shapes[0]!r}: {first}")
    if shapes and size != list(backbone.img_size):
        problems.append(f"was trained at {size[0]} x {size[1]} px, so set --data.img_size to that")
    if problems:
        raise UserError(f"{weights.path} does not fit {backbone.architecture}: it {', and it '.join(problems)}.")
