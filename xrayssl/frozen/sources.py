"""Where frozen backbones come from: files, random weights, timm's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from xrayssl import handoff
from xrayssl.backbone import Backbone
from xrayssl.errors import UserError, noting
from xrayssl.features import unsettled
from xrayssl.files import counted

RANDOM, TIMM = "random", "timm"
OURS = {"--model.backbone": "--architecture", "--model.init_from PATH": "--backbone FILE"}
"""Options of `fit` in sentences of the loader, and what the verbs call them."""


@dataclass(frozen=True)
class Source:
    """A frozen backbone, and where its weights come from.

    Args:
        name: For folders and tables, unlike that of any other.
        given: As it was typed.
        backbone: In evaluation.
        fingerprint: Checksum of the weights as they were loaded, and of how films are normalised.
        facts: For the record: architecture, sha256, method, parents.
        untrained: Whether it is a CNN whose running statistics are still to be measured.
        said: What the load did; empty for weights from no file.
    """

    name: str
    given: str
    backbone: Backbone
    fingerprint: str
    facts: dict[str, Any] = field(default_factory=dict)
    untrained: bool = False
    said: str = ""


def opened(
    given: Sequence[str], architecture: str | None, size: int | tuple[int, int], problems: list[str]
) -> list[Source]:
    """Makes the backbones.

    Args:
        given: Files, runs, checkpoints; "random" or "random:SEED"; "timm".
        architecture: timm's name for weights that have none of their own; None takes that of the files.
        size: Height and width of the films in pixels; an int means a square.
        problems: Gets a sentence about each that is not to be had.
    """
    networks: dict[str, tuple[str, int]] = {}
    for each in given:
        if not _invented(each):
            with noting(problems):
                networks[each] = _network(each, architecture)
    names = {name for name, _ in networks.values()}
    default = architecture or (names.pop() if len(names) == 1 else None)
    sources = []
    for each, name in zip(given, labels(given), strict=True):
        found: list[str] = []
        with noting(found):
            if _invented(each):
                sources.append(_made(each, name, default, size))
            elif each in networks:
                sources.append(_loaded(each, name, *networks[each], size))
        problems.extend(_translated(found))
    return sources


def labels(given: Sequence[str]) -> list[str]:
    """A short name for each, unlike the others: of a run its folder, with the one above where that is a time."""
    return counted(
        [each.replace(":", "-") if _invented(each) else _stem(Path(each).expanduser().absolute()) for each in given]
    )


def _stem(path: Path) -> str:
    folder = path if path.suffix not in (".safetensors", ".ckpt", ".pth", ".pt", ".bin") else None
    if folder is None and path.stem in ("backbone", "last", "best"):
        folder = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    if folder is None:
        return path.stem
    return f"{folder.parent.name}-{folder.name}" if folder.name[:2] == "20" else folder.name


def _invented(given: str) -> bool:
    """Whether the weights come from no file."""
    return given in (RANDOM, TIMM) or given.startswith(f"{RANDOM}:")


def _network(path: str, architecture: str | None) -> tuple[str, int]:
    """Architecture and channels of the network in a file."""
    try:
        weights = handoff.read(Path(path).expanduser())
    except UserError:
        if architecture is None:
            raise
        return architecture, 1  # a file whose names only the network can tell; the loader has the last word
    own = weights.layout.architecture if weights.layout else weights.metadata.get("architecture")
    if own is None and architecture is None:
        raise UserError(f"{path}: the file does not tell which network it is; name it with --architecture.")
    return own or str(architecture), 1 if weights.layout else int(weights.metadata.get("in_chans", 1))


def _made(given: str, name: str, architecture: str | None, size: int | tuple[int, int]) -> Source:
    """Weights from no file.

    Raises:
        UserError: If it is not known of which network, or the seed is none.
    """
    if architecture is None:
        raise UserError(f"--backbone {given}: of which network? Name it with --architecture, as timm does.")
    if given == TIMM:
        backbone = Backbone(architecture, size, pretrained=True)
        return _source(name, given, backbone, {"method": f"timm:{backbone.tag}"})
    seed = given.partition(":")[2] or "0"
    if not seed.isdecimal() or int(seed) >= 2**63:
        raise UserError(f"--backbone {given}: the seed is a whole number, such as random:1.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))
        backbone = Backbone(architecture, size)
    return _source(name, given, backbone, {"method": "random weights", "seed": int(seed)}, unsettled(backbone))


def _loaded(given: str, name: str, architecture: str, in_chans: int, size: int | tuple[int, int]) -> Source:
    backbone = Backbone(architecture, size, in_chans)
    report, weights = handoff.load(backbone, Path(given).expanduser())
    facts = {"method": weights.metadata.get("method"), "parents": weights.metadata.get("parents", []),
             "path": str(weights.path), "sha256": handoff.sha256(weights.path),
             **handoff.marked(weights.metadata.get("selected_on"))}  # fmt: skip
    return _source(name, given, backbone, facts, said=str(report))


def _source(
    name: str, given: str, backbone: Backbone, facts: dict[str, Any], untrained: bool = False, said: str = ""
) -> Source:
    backbone.eval()
    weights = handoff.fingerprint(backbone)
    whole = {"architecture": backbone.architecture, "sha256": weights, **facts}
    seen = f"{weights}:{backbone.mean.tolist()}:{backbone.std.tolist()}"
    return Source(name, given, backbone, seen, whole, untrained, said)


def _translated(sentences: Sequence[str]) -> list[str]:
    """In words of the verbs."""
    translated = list(sentences)
    for theirs, ours in OURS.items():
        translated = [sentence.replace(theirs, ours) for sentence in translated]
    return translated
