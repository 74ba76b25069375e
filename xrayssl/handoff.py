"""What passes from one stage to the next: the backbone's weights as data, and where they come from.

`backbone.safetensors` holds timm's key names; its header holds one JSON object under the key `xrayssl`. Nothing in
such a file is code. Files of other programs are read through `xrayssl.foreign`. Loading demands every key of the
backbone, and says what it did.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from xrayssl import checkpoint, foreign, tensors_file
from xrayssl.backbone import Backbone
from xrayssl.errors import UserError
from xrayssl.files import appearing
from xrayssl.foreign.fitting import Fitting, differences

VERSION = 1
FILE = "backbone.safetensors"
PREFIX = "backbone.network."
SHOWN = 6  # kinds of tensors left out that a report names
SELECTED = "these weights were selected on test films (--model.select_on test): measured there, they are too good"
REMOTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+:/|hf[-_]hub:)")


@dataclass(frozen=True)
class Weights:
    """A backbone as it lies in a file.

    Args:
        tensors: timm key names to values.
        metadata: The header: architecture, in_chans, img_size, mean, std, method, parents, git, data, created, and
            selected_on where that is "test"; of a file of another program: layout, method, mean, std.
        path: Of the file.
        others: The file's tensors that belong to no backbone (heads, decoders, optimisers), by kind, and how many.
        layout: Of a file of another program whose names are known.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]
    path: Path
    others: dict[str, int] = field(default_factory=dict)
    layout: foreign.Layout | None = None

    def lineage(self) -> list[dict[str, Any]]:
        """The parents of a stage that starts from this file, oldest first."""
        own = {"method": self.metadata.get("method"), "sha256": sha256(self.path)}
        return [*self.metadata.get("parents", []), own | marked(self.metadata.get("selected_on"))]


def marked(selected_on: str | None) -> dict[str, str]:
    """What a header and a lineage say of weights that test films selected; nothing of others.

    Args:
        selected_on: Split that chose the checkpoint; None: none did.
    """
    return {"selected_on": "test"} if selected_on == "test" else {}


@dataclass(frozen=True)
class Report:
    """What a load did.

    Args:
        path: Of the file.
        layout: Whose file it is.
        loaded: Keys taken.
        others: Tensors of the file that the backbone does not have, by kind, and how many.
        notes: What was resampled, folded or taken for something else.
    """

    path: Path
    layout: str = "xrayssl"
    loaded: list[str] = field(default_factory=list)
    others: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def left_out(self) -> int:
        """Number of the file's tensors that were not taken."""
        return sum(self.others.values())

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind}: {count}" for kind, count in list(self.others.items())[:SHOWN])
        rest = "" if len(self.others) <= SHOWN else f", {len(self.others) - SHOWN} kinds more"
        lines = [
            f"Loaded {len(self.loaded)} of {len(self.loaded)} backbone tensors from {self.path} (layout: {self.layout})"
            f"; 0 missing, {self.left_out} of the file's other tensors left out{f' ({kinds}{rest})' if kinds else ''}."
        ]
        return "\n  ".join([*lines, *(f"{note}." for note in self.notes)])


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
        **metadata: What the header says besides `describe_backbone`: method, parents, git, data, created, selected_on.
    """
    path = Path(path)
    tensors = {name: value.detach().cpu().contiguous() for name, value in backbone.network.state_dict().items()}
    header = {"xrayssl": json.dumps({**describe_backbone(backbone), **metadata})}
    with appearing(path) as partial:
        save_file(tensors, partial, metadata=header)
    return path


def read(path: str | Path, network: Any = None) -> Weights:
    """Reads a backbone from backbone.safetensors, a run directory, a checkpoint, or a file of another program.

    Args:
        path: Of the file or run directory.
        network: The timm network to fill, for files whose names only it can tell.

    Raises:
        UserError: If there is no such file, it is truncated, has code in it, or holds no backbone.
    """
    path = _locate(path)
    if tensors_file.recognised(path):
        header, tensors = tensors_file.read(path)
        return Weights(tensors, header, path) if header else _foreign(path, tensors, network)
    content = checkpoint.load(path)
    if "backbone" not in content.get("xrayssl", {}):
        return _foreign(path, content, network)
    state = content["state_dict"]
    tensors = {name[len(PREFIX) :]: value for name, value in state.items() if name.startswith(PREFIX)}
    others = {"heads": len(state) - len(tensors)} if len(state) > len(tensors) else {}
    known = content["xrayssl"]
    return Weights(tensors, {**known["backbone"], **marked(known.get("select_on"))}, path, others)


def load(backbone: Backbone, path: str | Path) -> tuple[Report, Weights]:
    """Fills a backbone from a file; every one of its tensors must be there in the right shape.

    Positions are resampled when the input size differs. Of a file of another program also the patch embedding, and
    colour is folded into grey. Mean and standard deviation of the grey values travel with the weights.

    Returns:
        What was done, and the file's content.

    Raises:
        UserError: If the file holds another architecture, or keys or shapes do not match.
    """
    weights = read(path, backbone.network)
    statistics = {name: weights.metadata[name] for name in ("mean", "std") if name in weights.metadata}
    fitting = Fitting(backbone, dict(weights.tensors), **statistics)
    if weights.layout is None:
        _check_architecture(backbone, weights)
        fitting.positions(weights.metadata.get("img_size", backbone.img_size))
    else:
        fitting.foreign()
    _check_match(backbone, weights, fitting.tensors)
    expected = backbone.network.state_dict()
    backbone.network.load_state_dict({name: fitting.tensors[name] for name in expected})
    notes = [*fitting.notes, *_normalise_alike(backbone, weights)]
    notes += [SELECTED] if marked(weights.metadata.get("selected_on")) else []
    layout = weights.layout.name if weights.layout else "xrayssl"
    return Report(weights.path, layout, list(expected), weights.others, notes), weights


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
        **(weights.layout.facts() if weights.layout else {}),
        "tensors": len(weights.tensors),
        "parameters": sum(value.numel() for value in weights.tensors.values()),
        "other_tensors": sum(weights.others.values()),
        **({"left_out": weights.others} if weights.layout else {}),
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


def _locate(path: str | Path) -> Path:
    if REMOTE.match(str(path)):
        raise UserError(f"{path}: nothing is downloaded; fetch the file yourself and give its path.")
    path = Path(path)
    if path.is_dir() and not (path / FILE).is_file():
        raise UserError(f"{path}: no {FILE} in this folder; give the folder of a finished run, or a checkpoint.")
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; give a {FILE}, a run directory or a checkpoint.")
    return path


def _foreign(path: Path, content: Mapping[str, Any], network: Any) -> Weights:
    layout = foreign.recognise(path, content, network)
    if layout is None:
        raise UserError(
            f"{path}: the names of its tensors are those of no network that xrayssl knows"
            + (f", nor those of {_name(network)}." if network is not None else "; to load it, name its timm network.")
        )
    metadata: dict[str, Any] = {"layout": layout.name, "method": layout.name}
    if layout.statistics:
        metadata |= {"mean": list(layout.statistics.mean), "std": list(layout.statistics.std)}
    return Weights(layout.tensors, metadata, path, layout.groups, layout)


def _name(network: Any) -> str:
    return str(getattr(network, "pretrained_cfg", {}).get("architecture", type(network).__name__))


def _normalise_alike(backbone: Backbone, weights: Weights) -> list[str]:
    """Sets mean and standard deviation as for the weights; one channel gets the mean of three."""
    if "mean" not in weights.metadata:
        return ["the file does not tell how its input was normalised: mean and std of the model stay"]
    for name, buffer in (("mean", backbone.mean), ("std", backbone.std)):
        given = torch.tensor(weights.metadata[name])
        buffer.copy_(given if len(given) == len(buffer) else given.mean())
    if weights.layout is None:
        return []
    assert weights.layout.statistics
    figures = " and ".join(
        f"{name} {_figures(buffer)}" for name, buffer in (("mean", backbone.mean), ("std", backbone.std))
    )
    return [f"films are normalised with {figures}: {weights.layout.statistics.source}"]


def _figures(values: Tensor) -> str:
    return ", ".join(f"{value:.4g}" for value in values.tolist())


def _check_architecture(backbone: Backbone, weights: Weights) -> None:
    architecture = weights.metadata.get("architecture", backbone.architecture)
    if architecture != backbone.architecture:
        raise UserError(
            f"{weights.path} holds a {architecture}, but the model is a {backbone.architecture}; "
            f"set --model.backbone {architecture} or start from another file."
        )


def _check_match(backbone: Backbone, weights: Weights, tensors: dict[str, Tensor]) -> None:
    problems = differences(backbone.network.state_dict(), tensors)
    if not all(value.isfinite().all() for value in tensors.values()):
        problems.append("holds numbers that are not finite, as of a training that diverged")
    if problems:
        whose = f" ({weights.layout.name})" if weights.layout else ""
        what = ", and it ".join(problems) + _hint(backbone, weights)
        raise UserError(f"{weights.path}{whose} does not fit {backbone.architecture}: it {what}.")


def _hint(backbone: Backbone, weights: Weights) -> str:
    """Names the network, or the input size, that would fit."""
    if weights.layout:
        name = weights.layout.architecture
        return f"; by its shapes it is a {name}: set --model.backbone {name}" if name else ""
    size = weights.metadata.get("img_size") or list(backbone.img_size)
    if size == list(backbone.img_size):
        return ""
    return f"; it was trained at {size[0]} x {size[1]} px, so set --data.img_size to that"
