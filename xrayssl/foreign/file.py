"""What a file of another program holds: its tensors under dotted names, and the backbones found among them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

Tensors = dict[str, Tensor]

# What wrapping a network adds to its names: DistributedDataParallel, torch.compile, FSDP and its checkpointing.
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
COUNTER = "num_batches_tracked"
DEEPEST = 64  # containers within containers that are looked into


def unchanged(tensors: Tensors) -> Tensors:
    """The renaming of a network that already has timm's names."""
    return tensors


def nothing(tensors: Tensors) -> list[str]:
    """No candidates."""
    return []


@dataclass(frozen=True)
class Naming:
    """How a family of networks names its tensors.

    Args:
        name: For the report.
        telling: Names that every such network has; the first must be rare.
        body: Regular expression of timm's names that belong to the network, not to a head on it.
        rename: From these names to timm's.
        candidates: timm networks that tensors with timm's names may belong to, the likeliest first.
    """

    name: str
    telling: tuple[str, ...]
    body: str
    rename: Callable[[Tensors], Tensors] = unchanged
    candidates: Callable[[Tensors], list[str]] = nothing


@dataclass(frozen=True)
class Found:
    """A backbone within a file.

    Args:
        prefix: What stands before its tensors' names; empty, or ends with a dot.
        naming: Of its tensors.
    """

    prefix: str
    naming: Naming

    @property
    def words(self) -> list[str]:
        """The prefix, word by word."""
        return self.prefix.split(".")[:-1]


@dataclass(frozen=True)
class Statistics:
    """The input normalisation of a publication: mean and standard deviation of red, green, blue scaled to 0-1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str


TIMM = "timm's names"
"""Name of a naming that is that of one network of timm, whatever its family."""
IMAGENET = Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "ImageNet's")


@dataclass(frozen=True)
class Claim:
    """What a program says of a file that is its own.

    Args:
        name: Of the layout.
        found: The backbone to take.
        statistics: Its input normalisation; None for the one that timm has on record for the network.
    """

    name: str
    found: Found
    statistics: Statistics | None = IMAGENET


class File:
    """The content of a file of another program.

    Args:
        path: Of the file, for messages.
        content: As read, without code.
        namings: The families to look for.
    """

    def __init__(self, path: Path, content: Mapping[str, Any], namings: Sequence[Naming]) -> None:
        self.path = path
        self.content = content
        self.tensors: Tensors = dict(_flatten(content, (), set()))
        self.found = [found for naming in namings for found in self._find(naming)]

    def below(self, prefix: str) -> Tensors:
        """The tensors whose names start so, without that start."""
        return {name[len(prefix) :]: value for name, value in self.tensors.items() if name.startswith(prefix)}

    def ending(self, *ends: str) -> Found | None:
        """The first found backbone whose prefix ends so."""
        return next((found for end in ends for found in self.found if found.prefix.endswith(end)), None)

    def holds(self, pattern: str) -> bool:
        """Whether a tensor's name has a word that begins with this regular expression."""
        expression = re.compile(rf"(^|\.){pattern}")
        return any(expression.search(name) for name in self.tensors)

    @cached_property
    def options(self) -> set[str]:
        """Names of the command line options that the file records."""
        args = self.content.get("args")
        return set(args if isinstance(args, Mapping) else getattr(args, "__dict__", {}))

    def rest(self, prefix: str, taken: set[str]) -> dict[str, int]:
        """Counts what is left out, by the first word in which it differs from the backbone.

        Args:
            prefix: Of the backbone that is taken.
            taken: Its tensors' names in the file.
        """
        words = prefix.split(".")[:-1]
        groups = Counter(_distinct(name.split("."), words) for name in self.tensors if name not in taken)
        return dict(groups.most_common())

    def _find(self, naming: Naming) -> Iterator[Found]:
        first, *others = naming.telling
        for name in self.tensors:
            prefix = name.removesuffix(first)
            whole = name.endswith(first) and (not prefix or prefix.endswith("."))
            if whole and all(prefix + other in self.tensors for other in others):
                yield Found(prefix, naming)


def _flatten(value: Any, words: tuple[str, ...], seen: set[int], depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Tensors in nested containers, each container once: a file may hold one within itself, or hundreds in a row."""
    if isinstance(value, Tensor):
        yield ".".join(words), value
    elif isinstance(value, Mapping | list | tuple) and id(value) not in seen and depth < DEEPEST:
        seen.add(id(value))
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            more = (word for word in str(key).split(".") if word not in WRAPPERS)
            yield from _flatten(item, (*words, *more), seen, depth + 1)


def _distinct(name: list[str], prefix: list[str]) -> str:
    shared = next((i for i, (a, b) in enumerate(zip(name, prefix, strict=False)) if a != b), len(prefix))
    return name[min(shared, len(name) - 1)]
