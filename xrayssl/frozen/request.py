"""What `probe` and `embed` are asked for alike: frozen backbones, films, and features kept from earlier calls."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from xrayssl.data_request import DATA_OPTIONS, Options, parse
from xrayssl.errors import UserError, noting, refuse
from xrayssl.files import cache
from xrayssl.request import split_equals

if TYPE_CHECKING:
    from xrayssl.data import XrayDataModule
    from xrayssl.frozen.extraction import Extraction
    from xrayssl.frozen.sources import Source

FROZEN_OPTIONS = f"""which network:
  --backbone FILE                 backbone.safetensors, a run, a checkpoint, weights of another program; or random,
                                  random:SEED; or timm, whose weights for ImageNet are then downloaded
  --architecture NAME             timm's name of the network for random and timm (default: that of the file beside
                                  them), and for a file that does not tell
  --pool mean                     what of its output is a film's feature: the mean of the last map, or a ViT's class
                                  token

which films, and how they are seen:
{DATA_OPTIONS}
  --data.img_size 224             the size that the network was trained at

features are kept for the next call:
  --cache DIR                     where (default: features in the user's cache); 4 GB at most, the oldest go
  --no-cache                      neither look there nor keep anything"""
"""For the help texts of both."""


@dataclass(frozen=True)
class FrozenRequest:
    """A command about frozen features, understood.

    Args:
        own: The verb's own options.
        data: The films.
        sources: The backbones.
        extraction: From the ones to the others' features.
    """

    own: argparse.Namespace
    data: XrayDataModule
    sources: list[Source]
    extraction: Extraction

    def report_to(self, folder: Path) -> None:
        """Puts the list of films that cannot be read into a folder, where a run would have it."""
        trainer: Any = SimpleNamespace(default_root_dir=str(folder))
        self.data.trainer = trainer


def frozen_options(verb: str, usage: str, text: str) -> Options:
    """The options of both verbs."""
    options = Options(verb, usage, text)
    options.add_argument("--backbone", action="append", default=[])
    options.add_argument("--architecture")
    options.add_argument("--pool", choices=("mean", "class"), default="mean")
    options.add_argument("--cache", type=Path)
    options.add_argument("--no-cache", action="store_true")
    return options


def understand(
    options: Options, argv: Sequence[str], wrong: Callable[[argparse.Namespace], list[str]]
) -> FrozenRequest:
    """Takes a command apart, opens the backbones and the corpora.

    Args:
        options: Of the verb; see `frozen_options`.
        argv: The words after it.
        wrong: What the verb itself has to say against its own options.

    Raises:
        UserError: With every mistake at once.
    """
    from xrayssl.frozen.cache import FeatureCache
    from xrayssl.frozen.extraction import Extraction

    problems: list[str] = []
    request, module, own = None, None, _own(options, argv)
    with noting(problems):
        request = parse(options, argv)
    if own is not None:
        problems.extend([*_wrong(own), *wrong(own)])
    with noting(problems):
        module = request.module if request else None
    sources = _sources(own, request.arguments["img_size"] if request else 224, problems) if own else []
    refuse(problems)
    assert own is not None
    assert module is not None
    folder = None if own.no_cache else (own.cache.expanduser() if own.cache else cache("features"))
    return FrozenRequest(own, module, sources, Extraction(module, own.pool, FeatureCache(folder)))


def _sources(own: argparse.Namespace, size: Any, problems: list[str]) -> list[Source]:
    from xrayssl.features import check_pool
    from xrayssl.frozen.sources import opened

    sides = size if isinstance(size, int) else (int(size[0]), int(size[-1]))
    sources = opened(own.backbone, own.architecture, sides, problems)
    for source in sources:
        with noting(problems):
            check_pool(source.backbone, own.pool)
    return sources


def _own(options: Options, argv: Sequence[str]) -> argparse.Namespace | None:
    """The verb's own options, also where those of the data are wrong; None where they are wrong themselves."""
    try:
        return options.parse_known_args(split_equals(argv))[0]
    except UserError:  # `parse` says it
        return None


def _wrong(own: argparse.Namespace) -> list[str]:
    wrong = {
        "Which network? Give --backbone FILE (or random, or timm).": not own.backbone,
        "--cache and --no-cache contradict each other; give one.": own.cache is not None and own.no_cache,
        **{f"--backbone {each} is given twice.": True for each in own.backbone if own.backbone.count(each) > 1},
    }
    return [sentence for sentence, holds in wrong.items() if holds]
