"""Every mistake of a configuration at once, in sentences: each value is checked alone against its class."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from lightning.pytorch import Trainer

from xrayssl.errors import UserError
from xrayssl.recipes import nearest
from xrayssl.spelling import alternatives, english

CLASSES = ("model", "data")
UNTYPED = (inspect.Parameter.empty, Any)


@dataclass(frozen=True)
class Setting:
    """One value that somebody set.

    Args:
        path: Where it belongs, such as ("model", "optim", "lr"); a class is ("model", "class_path").
        value: What it was set to.
        where: Words for the reader: the option, or the file and the key in it.
        typed: It is a word of the command line, which still has to be read as a value.
    """

    path: tuple[str, ...]
    value: Any
    where: str
    typed: bool = False


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
    for setting in _current(found):
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


def refuse(problems: Sequence[str]) -> None:
    """Raises what was found, if anything was.

    Raises:
        UserError: With the problems.
    """
    if problems:
        raise UserError(*problems)


def settings(words: Sequence[str]) -> tuple[list[Setting], list[str]]:
    """Collects what files and options set, in the order in which they take effect.

    Returns:
        The settings, and a sentence for each word or file that cannot be read.
    """
    found: list[Setting] = []
    problems: list[str] = []
    stream = iter(words)
    for word in stream:
        if not word.startswith("--"):
            problems.append(f"the word {word!r} stands alone; options look like --name VALUE.")
            continue
        if word.startswith(("--print_config", "--help")):
            continue
        value = next(stream, None)
        if value is None:
            problems.append(f"{word} needs a value.")
        elif word == "--config":
            found.extend(_of_file(Path(value), problems))
        else:
            found.extend(_of_option(word, value))
    return found, problems


def subclasses(base: type) -> dict[str, type]:
    """Lists the classes that descend from a class, by short name."""
    kinds: dict[str, type] = {}
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
            for name, hint in {**_annotations(ancestor)}.items():
                hints.setdefault(name, hint)
    return {name: hints.get(name, Any) for name in dict.fromkeys(full.split(".")[1] for full in names)}


def _annotations(kind: type) -> dict[str, Any]:
    init = inspect.unwrap(vars(kind)["__init__"])
    signature = inspect.signature(init).parameters
    try:
        hints = get_type_hints(init)
    except NameError:  # annotations under TYPE_CHECKING: names suffice
        hints = {}
    return {name: hints.get(name, Any) for name in signature if name != "self"}


def _of_file(path: Path, problems: list[str]) -> list[Setting]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        problems.append(f"{path}:{place} this is not YAML ({getattr(error, 'problem', None) or 'unreadable'}).")
        return []
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path}: the file cannot be read ({type(error).__name__}).")
        return []
    if not isinstance(content, dict):
        problems.append(f"{path}: a configuration maps names to values, such as `trainer:`.")
        return []
    return [setting for key, value in content.items() for setting in _of_key(path.name, str(key), value)]


def _of_key(file: str, key: str, value: Any) -> Iterator[Setting]:
    if key in CLASSES and isinstance(value, str):
        yield Setting((key, "class_path"), value, f"{file}: {key}")
    elif key in CLASSES and isinstance(value, dict):
        for name, item in value.items():
            if name in ("init_args", "dict_kwargs") and isinstance(item, dict):
                for argument, inner in item.items():
                    yield Setting((key, str(argument)), inner, f"{file}: {key}.{name}.{argument}")
            elif name == "class_path":
                yield Setting((key, "class_path"), item, f"{file}: {key}.class_path")
            elif name not in ("init_args", "dict_kwargs"):
                yield Setting((key, "init_args", str(name)), item, f"{file}: {key}.{name}")
    elif key in ("trainer", "wandb") and isinstance(value, dict):
        for name, item in value.items():
            yield Setting((key, str(name)), item, f"{file}: {key}.{name}")
    else:
        yield Setting((key,), value, f"{file}: {key}")


def _of_option(word: str, value: str) -> Iterator[Setting]:
    path = [part for part in word[2:].split(".") if part != "init_args"]
    if path[-1] == "help":
        return
    if len(path) == 1 and path[0] in CLASSES:
        path.append("class_path")
    yield Setting(tuple(path), value, word, typed=True)


def _current(found: Sequence[Setting]) -> list[Setting]:
    """Leaves out what was set for a class that a later setting replaced."""
    last = {s.path[0]: index for index, s in enumerate(found) if s.path[1:] == ("class_path",)}
    first = {root: min(_file_start(found, index), index) for root, index in last.items()}
    return [s for index, s in enumerate(found) if index >= first.get(s.path[0], 0)]


def _file_start(found: Sequence[Setting], index: int) -> int:
    """Finds the first setting of the file that a setting stands in; a file may name the class after its values."""
    source = found[index].where.split(":")[0]
    while index > 0 and found[index - 1].where.split(":")[0] == source:
        index -= 1
    return index


def _chosen(root: str, base: type, found: Sequence[Setting], problems: list[str]) -> type | None:
    """Finds the class that the last setting names."""
    named = [setting for setting in found if setting.path == (root, "class_path")]
    kinds = subclasses(base)
    if not named:
        problems.append(f"no {root} is named: give --config NAME, or --{root} with one of {alternatives(list(kinds))}.")
        return None
    name = str(named[-1].value)
    kind = kinds.get(name) or _imported(name)
    if kind is None:
        hint = nearest(name.rpartition(".")[2], list(kinds)) or f" There are {alternatives(list(kinds), 'and')}."
        problems.append(f"{named[-1].where}: there is no {root} {name}.{hint}")
    elif not issubclass(kind, base):
        problems.append(f"{named[-1].where}: {name} is no {base.__name__}. There are {alternatives(list(kinds), 'and')}.")
        return None
    return kind


def _imported(name: str) -> type | None:
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
    inner = next((part for part in (hint, *getattr(hint, "__args__", ())) if dataclasses.is_dataclass(part)), None)
    if inner is not None and rest:
        return _check(setting, inner, rest)
    if inner is not None and isinstance(setting.value, dict):
        parts = [dataclasses.replace(setting, value=v, where=f"{setting.where}.{k}") for k, v in setting.value.items()]
        return [m for part, k in zip(parts, setting.value, strict=True) for m in _check(part, inner, [str(k)])]
    return [] if hint in UNTYPED or _fits(hint, setting, rest) else [_expected(setting, hint)]


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
            parser.parse_object(Namespace(value=value))
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
    from_data = ("img_size", "classes", "task") if root == "model" else ()
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
