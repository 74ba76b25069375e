"""Every mistake of a configuration at once, in sentences: each value is checked alone against its class."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer

from xrayssl.errors import UserError, noting, sentences
from xrayssl.recipes import nearest
from xrayssl.settings import CLASSES, Setting, current, settings
from xrayssl.spelling import alternatives, english

log = logging.getLogger(__name__)
UNTYPED = (inspect.Parameter.empty, Any)
LINKS = ("img_size", "classes", "task", "score")
"""What a model takes from the data, if it has an argument of that name."""


def explain(words: Sequence[str], bases: Mapping[str, type], parser: ArgumentParser) -> list[str]:
    """Lists every mistake of a command line and its configuration files.

    Args:
        words: What was handed to the parser.
        bases: The classes that `model` and `data` must descend from.
        parser: The parser that refused.

    Returns:
        One sentence per mistake; none if every value is right alone.
    """
    found, problems = settings(words)
    chosen = {root: _chosen(root, base, found, problems) for root, base in bases.items()}
    known = {name.split(".")[0] for name in vars(parser.get_defaults(skip_validation=True))}
    for setting in current(found):
        problems.extend(_mistakes(setting, chosen, known))
    for root, kind in chosen.items():
        problems.extend(_missing(root, kind, found))
    return list(dict.fromkeys(problems))


def derived(words: Sequence[str], links: Sequence[str]) -> list[str]:
    """Lists what was set on the model although the model takes it from the data.

    Args:
        words: What will be handed to the parser.
        links: Names of the values that come from the data.
    """
    instead = {"img_size": "set data.img_size", "classes": "choose them with data.labels"}
    return [
        f"{setting.where}: the model takes {setting.path[1]} from the data; leave it out"
        + (f", and {instead[setting.path[1]]} if you need to." if setting.path[1] in instead else ".")
        for setting in settings(words)[0]
        if len(setting.path) == 2 and setting.path[0] == "model" and setting.path[1] in links
    ]


def seeds(seed: Any) -> list[str]:
    """Says what is wrong with a seed, if anything is."""
    fits = isinstance(seed, bool) or seed is None or 0 <= int(seed) < 2**32
    return [] if fits else [f"--seed_everything: expected a whole number from 0 to {2**32 - 1}, got {seed}."]


def subclasses(base: type) -> dict[str, type]:
    """Lists the classes that descend from a class, by short name."""
    kinds: dict[str, type] = {}
    child: type
    for child in base.__subclasses__():
        kinds.update({child.__name__: child, **subclasses(child)})
    return kinds


def parameters(kind: type) -> dict[str, Any]:
    """Lists what a class accepts, `**kwargs` of its parents included, with type hints."""
    parser = ArgumentParser(exit_on_error=False)
    names = parser.add_class_arguments(kind, "x", fail_untyped=False)
    hints: dict[str, Any] = {}
    for ancestor in kind.__mro__:
        if "__init__" in vars(ancestor):
            hints = {**_annotations(ancestor), **hints}
    return {name: hints.get(name, Any) for name in dict.fromkeys(full.split(".")[1] for full in names)}


def _annotations(kind: type) -> dict[str, Any]:
    init = inspect.unwrap(vars(kind)["__init__"])
    signature = inspect.signature(init).parameters
    try:
        hints = get_type_hints(init)
    except NameError:  # annotations under TYPE_CHECKING: names suffice
        hints = {}
    return {name: hints.get(name, Any) for name in signature if name != "self"}


def _chosen(root: str, base: type, found: Sequence[Setting], problems: list[str]) -> type | None:
    """Finds the class that the last setting names."""
    named = [setting for setting in found if setting.path == (root, "class_path")]
    kinds = subclasses(base)
    if not named:
        choices = alternatives(list(kinds))
        problems.append(f"no {root} is named: give --config NAME, or --{root} with one of {choices}.")
        return None
    name = str(named[-1].value)
    kind = kinds.get(name) or imported(name)
    if kind is None:
        hint = nearest(name.rpartition(".")[2], list(kinds)) or f" There are {alternatives(list(kinds), 'and')}."
        problems.append(f"{named[-1].where}: there is no {root} {name}.{hint}")
    elif not issubclass(kind, base):
        choices = alternatives(list(kinds), "and")
        problems.append(f"{named[-1].where}: {name} is no {base.__name__}. There are {choices}.")
        return None
    return kind


def imported(name: str) -> type | None:
    """The class of a dotted name; None if there is none."""
    module, _, attribute = name.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), attribute, None) if module else None
    except ImportError:
        return None
    return kind if isinstance(kind, type) else None


def _mistakes(setting: Setting, chosen: Mapping[str, type | None], known: set[str]) -> list[str]:
    """Checks one setting alone; `derived` speaks of those that come from the data."""
    root, *rest = setting.path
    if root not in known:
        return [f"{setting.where}: there is no such option.{_elsewhere(setting, chosen, known)}"]
    if rest[:1] == ["class_path"] or (root in CLASSES and chosen[root] is None):
        return []
    if rest[:1] == ["init_args"]:
        return [f"{setting.where}: write it under {root}.init_args."]
    kind = {"trainer": Trainer, "wandb": _wandb(), **chosen}.get(root)
    if kind is None or not rest:
        return []
    return _check(setting, kind, rest)


def _wandb() -> type:
    from xrayssl.loggers import Wandb

    return Wandb


def _check(setting: Setting, kind: type, path: Sequence[str]) -> list[str]:
    """Checks the name, then the value of a setting against a class; dataclasses inside are looked into."""
    accepted = parameters(kind)
    name, *rest = path
    if name not in accepted:
        near = nearest(name, list(accepted)) or f" It has {alternatives(sorted(accepted), 'and')}."
        return [f"{setting.where}: {kind.__name__} has no option {name}.{near}"]
    hint = accepted[name]
    inner = _dataclass(hint)
    if inner is not None and rest:
        return _check(setting, inner, rest)
    if inner is not None and (parts := _parts(setting, listed=get_origin(hint) in (tuple, list))):
        return [mistake for part, key in parts for mistake in _check(part, inner, [key])]
    return [] if hint in UNTYPED or _fits(hint, setting, rest) else [_expected(setting, hint)]


def _parts(setting: Setting, listed: bool) -> list[tuple[Setting, str]]:
    """The values inside a mapping, or inside a list of mappings, with their keys; none if it is neither."""
    try:
        value = yaml.safe_load(setting.value) if setting.typed else setting.value
    except yaml.YAMLError:
        return []
    every = list(enumerate(value)) if listed and isinstance(value, list) else [("", value)]
    if listed != isinstance(value, list) or not all(isinstance(one, dict) for _, one in every):
        return []
    places = [(f"{setting.where}[{place}]" if listed else setting.where, one) for place, one in every]
    return [
        (dataclasses.replace(setting, value=inner, where=f"{where}.{key}", typed=False), str(key))
        for where, one in places
        for key, inner in one.items()
    ]


def _dataclass(hint: Any) -> type | None:
    """Finds the dataclass in a type hint such as `Optim` or `Optim | None`."""
    parts = (hint, *getattr(hint, "__args__", ()))
    return next((part for part in parts if isinstance(part, type) and dataclasses.is_dataclass(part)), None)


def _fits(hint: Any, setting: Setting, rest: Sequence[str]) -> bool:
    """Says whether one value can be read as a type."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    try:
        if setting.typed and not rest:
            parser.parse_args([f"--value={setting.value}"])
        else:
            value = yaml.safe_load(setting.value) if setting.typed else setting.value
            for key in reversed(rest):
                value = {key: value}
            parser.parse_object({"value": value})
    except (ArgumentError, yaml.YAMLError):
        return False
    return True


def _expected(setting: Setting, hint: Any) -> str:
    return f"{setting.where}: expected {english(hint)}, got {setting.value!r}."


def _missing(root: str, kind: type | None, found: Sequence[Setting]) -> list[str]:
    """Lists the arguments without a default that nobody set."""
    if kind is None:
        return []
    given = {setting.path[1] for setting in found if setting.path[0] == root and len(setting.path) > 1}
    needed = [n for n, p in inspect.signature(kind).parameters.items() if p.default is p.empty and p.kind not in (2, 4)]
    from_data = LINKS if root == "model" else ()
    return [f"{kind.__name__} needs --{root}.{name}." for name in needed if name not in given and name not in from_data]


def _elsewhere(setting: Setting, chosen: Mapping[str, type | None], known: set[str]) -> str:
    """Suggests the option of that name one level down, or the nearest on this level."""
    name = setting.path[-1]
    kinds = {"trainer": Trainer, **chosen}
    for root, kind in kinds.items():
        for option, hint in (parameters(kind) if kind else {}).items():
            if option == name:
                return f" Did you mean --{root}.{name}?"
            if dataclasses.is_dataclass(hint) and name in {f.name for f in dataclasses.fields(hint)}:
                return f" Did you mean --{root}.{option}.{name}?"
    return nearest(setting.path[0], [*known, "out", "run"])


def shortened(error: Exception) -> str:
    """Makes one line of what the parser said."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "the configuration is refused.")
    return line if len(line) < 300 else line[:297] + "..."


def foreign(error: Exception) -> bool:
    """Says whether Lightning or Weights & Biases refused what the user asked of them, or misses a package for it."""
    place = error.__traceback__
    while place and place.tb_next:
        place = place.tb_next
    module = place.tb_frame.f_globals.get("__name__", "") if place else ""
    told = isinstance(error, ValueError | ModuleNotFoundError) and module.startswith("lightning.")
    return told or isinstance(error, MisconfigurationException) or type(error).__module__.startswith("wandb.")


def further(config: Any) -> list[str]:
    """Lists what a model refuses of a configuration that was refused, each part of it tried by itself.

    Args:
        config: Of one verb, parsed: its types are right, its values may not be.
    """
    found: list[str] = []
    kind = imported(str(config.get("model.class_path")))
    if kind is not None:
        side = {"img_size": config.get("data.init_args.img_size")} if "img_size" in parameters(kind) else {}
        _tried(kind, {**vars(config.get("model.init_args")), "init_from": None, **side}, found)  # would be downloaded
    return found


def _tried(kind: type, values: Mapping[str, Any], found: list[str]) -> Any:
    """Makes an object, dataclasses inside it first; what these refuse is noted, and stays at its default."""
    hints, arguments = parameters(kind), {}
    for name, value in values.items():
        inner = _dataclass(hints.get(name))
        if inner is None or value is None:
            arguments[name] = value
        elif isinstance(value, list | tuple):
            parts = [part.get("init_args", part) for part in value]  # of a class with subclasses the parser names which
            arguments[name] = tuple(one for part in parts if (one := _tried(inner, vars(part), found)) is not None)
        elif (one := _tried(inner, vars(value), found)) is not None:
            arguments[name] = one
    if "classes" in hints and not arguments.get("classes"):  # which the data give
        return None
    try:
        with noting(found):
            return kind(**arguments)
    except Exception as error:  # one more failure of what has been refused already, such as values that data would give
        log.debug("a part could not be tried alone", exc_info=error)
    return None


def refusal(error: Exception) -> Exception:
    """Finds what a constructor said behind what the configuration parser made of it.

    Returns:
        The constructor's UserError; a UserError with the words of its ValueError; any other exception as it was.
    """
    while not isinstance(error, UserError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if type(error).__module__.startswith("wandb."):
        return UserError(f"Weights & Biases: {' '.join(str(error).split())} Or go without: --wandb.mode offline.")
    if isinstance(error, ValueError | MisconfigurationException | ModuleNotFoundError):
        log.debug("a constructor refused a value", exc_info=error)
        return UserError(*sentences(error))
    return error
