"""What files and options set, one value at a time, with words for where it stands."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CLASSES = ("model", "data")


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


def current(found: Sequence[Setting]) -> list[Setting]:
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


def anchor(config: Any) -> None:
    """Makes the paths of a configuration absolute: what is saved of it is used from other folders."""
    _anchor_corpora(config.get("data.init_args.corpora") or {})
    callbacks = config.get("trainer.callbacks") or []
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        _anchor_corpora(callback.get("init_args.corpora") or {})
    for name in ("init_from", "tokenizer", "masking.path"):
        file = config.get(f"model.init_args.{name}")
        if file is not None and Path(file).expanduser().exists():
            config[f"model.init_args.{name}"] = absolute(file)
    further = config.get("model.init_args.masking.plus") or []
    for one in (part.get("init_args", part) for part in further):
        if one.get("path") is not None:
            one["path"] = absolute(one["path"])


def _anchor_corpora(corpora: Any) -> None:
    for name, source in dict(corpora).items():
        if isinstance(source, str):
            corpora[name] = absolute(source)
        elif source.get("root"):
            source["root"] = absolute(source["root"])


def absolute(path: str) -> str:
    """Writes a path that the user typed so that it holds in every folder."""
    return os.path.abspath(Path(path).expanduser())
