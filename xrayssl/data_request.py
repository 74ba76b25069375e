"""What a verb that reads corpora is asked for: its own options beside `--config` and `--data.*` as `fit` takes them."""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from xrayssl import recipes
from xrayssl.errors import UserError, refuse
from xrayssl.request import CORPORA, fold_corpora, fold_nulls, given_twice, split_equals, take

if TYPE_CHECKING:
    from xrayssl.data import Manifest, XrayDataModule

OURS = ("--data", "--config", "-c")
DATA_OPTIONS = """  --config NAME                   take the films from a configuration: packaged, or a file
  --data.corpora.folder PATH      a folder of films; --data.corpora.nih PATH for a known corpus; repeat to mix
  --data.labels '[Mass, Edema]'   and whatever else `xrayssl fit --data.help` lists"""
"""For the help texts of the verbs."""


class Options(argparse.ArgumentParser):
    """A verb's own options; a mistake becomes a sentence for the front door.

    Args:
        verb: As it is typed, such as `prepare`.
        usage: What may stand behind it.
        text: Everything below the usage line of its help.
    """

    def __init__(self, verb: str, usage: str, text: str) -> None:
        self.text = text
        super().__init__(f"xrayssl {verb}", f"xrayssl {verb} {usage}", add_help=False, allow_abbrev=False)
        self.add_argument("-h", "--help", action="help")

    def format_help(self) -> str:
        """Writes the help text."""
        return f"{self.format_usage()}\n{self.text.rstrip()}\n"

    def error(self, message: str) -> NoReturn:
        """Raises what argparse has to say.

        Raises:
            UserError: Always.
        """
        sentence = message.removeprefix("argument ").replace("expected one argument", "expected a value")
        raise UserError(f"{sentence.rstrip('.')}.")


@dataclass(frozen=True)
class DataRequest:
    """A command that reads corpora, understood.

    Args:
        own: The verb's own options.
        kind: Class of the data module.
        arguments: Of its constructor, as plain values, defaults included.
        parser: The configuration parser, which can build it.
        parsed: What it read.
    """

    own: argparse.Namespace
    kind: type[XrayDataModule]
    arguments: dict[str, Any]
    parser: Any
    parsed: Any

    @property
    def corpora(self) -> dict[str, Any]:
        """Name of each corpus to its root, or to a mapping with `root` and options; without any, the phantoms'."""
        return self.arguments.get("corpora") or {"phantom": {"body": self.kind.body}}

    @cached_property
    def module(self) -> XrayDataModule:
        """The data module as `fit` would make it: corpora read, excluded, split, labels chosen.

        Raises:
            UserError: If a corpus or an argument is refused.
        """
        from xrayssl.diagnose import refusal

        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", r"[\s\S]*instantiate_classes", DeprecationWarning)
                module: XrayDataModule = self.parser.instantiate_classes(self.parsed).data
        except ValueError as error:
            raise refusal(error) from error
        return module

    @property
    def manifest(self) -> Manifest:
        """The films, one row each, split by patient."""
        return self.module.manifest


def parse(options: Options, argv: Sequence[str]) -> DataRequest:
    """Takes a command apart.

    Args:
        options: The verb's own.
        argv: The words after the verb.

    Raises:
        UserError: With every mistake at once.
    """
    problems: list[str] = []
    own, rest = _own(options, split_equals(argv), problems)
    names, words = take(rest, "--config", "-c")
    files = [path for name in names if (path := _found(name, problems))]
    problems.extend(f"{name} needs a value." for name in words[-1:] if name.startswith(OURS))
    problems.extend(given_twice(words))
    with _only_data(files) as configs:
        start = [] if configs or "--data" in words else ["--data", "xrayssl.data.XrayDataModule"]
        known = [word for path in configs for word in ("--config", str(path))]
        return _read(own, options, [*start, *known, *fold_corpora(fold_nulls(words))], problems)


def _own(options: Options, words: list[str], problems: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Reads the verb's own options; after a mistake there, goes on with what is certainly not its own."""
    try:
        return options.parse_known_args(words)
    except UserError as error:
        problems.extend(error.messages)
    ours = [place for place, word in enumerate(words) if word.split(".")[0] in OURS]
    return argparse.Namespace(), [word for place in ours for word in words[place : place + 2]]


def _found(name: str, problems: list[str]) -> Path | None:
    try:
        return recipes.find(name)
    except UserError as error:
        problems.extend(error.messages)
        return None


@contextmanager
def _only_data(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Gives copies of configurations, under their names, without what is not about data."""
    import yaml

    with tempfile.TemporaryDirectory() as folder:
        copies = []
        for place, path in enumerate(files):
            copies.append(Path(folder, str(place), path.name))
            copies[-1].parent.mkdir()
            text = path.read_bytes()
            try:
                content = yaml.safe_load(text)
            except (yaml.YAMLError, UnicodeDecodeError):  # the parser will say so, and where
                content = None
            if isinstance(content, dict):
                text = yaml.safe_dump({key: value for key, value in content.items() if key == "data"}).encode()
            copies[-1].write_bytes(text)
        yield copies


def as_typed(corpora: dict[str, Any] | None, words: Sequence[str]) -> None:
    """Puts the options of corpora back as they were typed: the parser doubles every backslash (jsonargparse 4.53)."""
    for name, value in pairwise(words):
        if corpora is not None and name.startswith(CORPORA) and value.startswith("{") and "\\" in value:
            corpora[name.removeprefix(CORPORA)] = json.loads(value)


def _read(own: argparse.Namespace, options: Options, words: list[str], problems: list[str]) -> DataRequest:
    from jsonargparse import ArgumentError, ArgumentParser

    from xrayssl import data, diagnose

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(data.XrayDataModule, "data", fail_untyped=False, required=True)
    try:
        parsed = parser.parse_args(words)
    except (ArgumentError, UserError) as error:
        for option in vars(own):  # so that a slip of the finger finds them
            parser.add_argument(f"--{option}")
        found = diagnose.explain(words, {"data": data.XrayDataModule}, parser)
        raise UserError(*dict.fromkeys([*problems, *(found or [diagnose.shortened(error)])])) from None
    refuse(problems)
    as_typed(parsed.data.init_args.corpora, words)
    module, _, name = parsed.data.class_path.rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    return DataRequest(own, kind, parsed.data.init_args.as_dict(), parser, parsed)
