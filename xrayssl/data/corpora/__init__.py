"""Corpora, one per file: a module here with `manifest(root, **options) -> Manifest` is a corpus.

A corpus of your own needs no entry anywhere: name its module, `--data.corpora '{"mypackage.mycorpus": "/films"}'`.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from xrayssl.data import store
from xrayssl.data.manifest import Manifest
from xrayssl.data.options import settled
from xrayssl.errors import UserError

Source = str | dict[str, Any]


def gather(corpora: Mapping[str, Source]) -> list[Manifest]:
    """Reads the named corpora, each into a manifest of its own.

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
    return manifests


def names() -> list[str]:
    """The corpora of this package."""
    return [module.name for module in pkgutil.iter_modules(__path__)]


def _open(name: str, source: Source) -> Manifest:
    options = dict(source) if isinstance(source, Mapping) else {"root": source}
    if store.is_store(options.get("root")):
        return store.manifest(options.pop("root"), name, options)
    root, read = options.pop("root", None), _reader(name)
    where, *known = inspect.signature(read).parameters.values()
    problems = [*_foreign(name, options, known), *_misplaced(name, root, "None" in str(where.annotation))]
    if problems:
        raise UserError(*problems)
    return read(None if root is None else Path(root).expanduser(), **settled(name, read, options))


def _foreign(name: str, options: Mapping[str, Any], known: list[inspect.Parameter]) -> list[str]:
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known):
        return []
    there = [parameter.name for parameter in known]
    unknown = [option for option in options if option not in there]
    has = ", ".join(there) or "none"
    return [f"The corpus {name!r} has no option {option!r}; it has: {has}." for option in unknown]


def _misplaced(name: str, root: object, optional: bool) -> list[str]:
    if root is None and optional:
        return []
    if not isinstance(root, str | os.PathLike) or not str(root):
        return [f"The corpus {name!r} needs a folder: set --data.corpora.{name} to it, or to a mapping with root."]
    if not Path(root).expanduser().exists():
        return [f"{root}: there is no such folder or file for the corpus {name!r}; correct --data.corpora.{name}."]
    return []


def _reader(name: str) -> Callable[..., Manifest]:
    place = name if "." in name else f"{__name__}.{name}"
    try:
        module = importlib.import_module(place)
    except (ModuleNotFoundError, TypeError, ValueError) as error:
        missing = getattr(error, "name", None) or place
        if not f"{place}.".startswith(f"{missing}."):  # the corpus is there, but what it imports is not
            raise UserError(f"The corpus {name!r} needs the package {missing!r}; install it.") from None
        close = difflib.get_close_matches(name.lower(), names(), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UserError(f"There is no corpus {name!r}.{hint} Known are: {', '.join(names())}.") from None
    if not callable(getattr(module, "manifest", None)):
        raise UserError(f"The module {place!r} is no corpus: it has no function manifest(root, **options).")
    return module.manifest
