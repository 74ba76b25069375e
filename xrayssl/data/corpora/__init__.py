"""Corpora, one per file: a module here with `manifest(root, **options) -> Manifest` is a corpus.

A corpus of your own needs no entry anywhere: name its module, `--data.corpora '{"mypackage.mycorpus": "/films"}'`.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from xrayssl.data.manifest import Manifest, join
from xrayssl.errors import UserError

Source = str | dict[str, Any]


def gather(corpora: Mapping[str, Source]) -> Manifest:
    """Reads the named corpora into one manifest.

    Args:
        corpora: Name to root folder, or to a mapping with `root` and the corpus's options.

    Raises:
        UserError: If a corpus is unknown, lies elsewhere, or an option does not exist; all of them at once.
    """
    manifests, problems = [], []
    for name, source in corpora.items():
        try:
            manifests.append(_open(name, source))
        except UserError as error:
            problems += error.messages
    if problems:
        raise UserError(*problems)
    return join(manifests)


def names() -> list[str]:
    """The corpora of this package."""
    return [module.name for module in pkgutil.iter_modules(__path__)]


def _open(name: str, source: Source) -> Manifest:
    options = dict(source) if isinstance(source, dict) else {"root": source}
    root = options.pop("root", None)
    read = _reader(name)
    known = list(inspect.signature(read).parameters)[1:]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise UserError(f"The corpus {name!r} has no option {unknown[0]!r}; it has: {', '.join(known) or 'none'}.")
    if root is not None and not Path(root).exists():
        raise UserError(f"{root}: there is no such folder for the corpus {name!r}; correct --data.corpora.{name}.")
    return read(Path(root) if root is not None else None, **options)


def _reader(name: str) -> Callable[..., Manifest]:
    try:
        module = importlib.import_module(name if "." in name else f"{__name__}.{name}")
    except ModuleNotFoundError:
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UserError(f"There is no corpus {name!r}.{hint} Known are: {', '.join(names())}.") from None
    return module.manifest
