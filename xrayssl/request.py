"""What the words of a training command ask for, before anything heavy is imported."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from xrayssl import recipes
from xrayssl.errors import UserError

CORPORA = "--data.corpora."
NESTED = ("--model.", "--data.")
SPLIT = ("--data.fold", "--data.split_seed", "--data.val", "--data.test")


@dataclass(frozen=True)
class Request:
    """A training command, understood.

    Args:
        verb: fit, validate, test or predict.
        typed: The words as they were typed after the verb.
        words: The words for the configuration parser: names of configurations resolved, our own options taken out.
        configs: Configuration files, in order.
        out: Folder asked for with --out.
        run: Finished run asked for with --run.
    """

    verb: str
    typed: list[str]
    words: list[str]
    configs: list[Path] = field(default_factory=list)
    out: str | None = None
    run: Path | None = None

    @property
    def title(self) -> str | None:
        """Name of the configuration, or None where everything came as options."""
        return recipes.title(self.configs[0]) if self.configs else None


def understand(verb: str, argv: Sequence[str]) -> Request:
    """Takes a training command apart.

    Args:
        verb: fit, validate, test or predict.
        argv: The words after the verb.

    Raises:
        UserError: A configuration, run or checkpoint that does not exist, each in a sentence.
    """
    words = split_equals(argv)
    outs, words = take(words, "--out")
    runs, words = take(words, "--run")
    names, words = take(words, "--config", "-c")
    weights, words = take(words, "--ckpt_path")
    problems = given_twice(words)
    run = _run(verb, runs, problems)
    problems += split_anew(words) if run else []
    configs = ([run / "config.yaml"] if run else []) + _configs(names, problems)
    checkpoint = _checkpoint(verb, weights, run, problems, wanted=not _only_shows(words))
    if problems:
        raise UserError(*problems)
    files = [word for path in configs for word in ("--config", str(path))]
    last = ["--ckpt_path", str(checkpoint)] if checkpoint else []
    parsed = [*files, *fold_corpora(fold_nulls(words)), *last]
    return Request(verb, list(argv), parsed, configs, outs[-1] if outs else None, run)


def split_equals(argv: Sequence[str]) -> list[str]:
    """Turns `--name=value` into two words, so that there is one form to look at."""
    words: list[str] = []
    for word in argv:
        name, equals, value = word.partition("=")
        own = word.startswith("--") and equals and name != "--print_config"
        words.extend([name, value] if own else [word])
    return words


def take(words: Sequence[str], *names: str) -> tuple[list[str], list[str]]:
    """Takes every occurrence of an option out of the words.

    Returns:
        The option's values in order, and the words that remain.

    Raises:
        UserError: The option stands without a value.
    """
    values: list[str] = []
    rest: list[str] = []
    stream = iter(words)
    for word in stream:
        if word not in names:
            rest.append(word)
            continue
        value = next(stream, "--")
        if value.startswith("--"):
            raise UserError(f"{word} needs a value.")
        values.append(value)
    return values, rest


def fold_nulls(words: Sequence[str]) -> list[str]:
    """Writes `--model.optim.layer_decay null` as `--model.optim '{"layer_decay": null}'`.

    The parser takes a null for an option of an option only from JSON (jsonargparse 4.53).
    """
    rest = list(words)
    for place, (name, value) in enumerate(pairwise(words)):
        owner, _, option = name.rpartition(".")
        depth = len(owner.replace(".init_args", "").split("."))
        if value == "null" and depth == 2 and owner.startswith(NESTED) and not name.startswith(CORPORA):
            rest[place : place + 2] = [owner, json.dumps({option: None})]
    return rest


def given_twice(words: Sequence[str]) -> list[str]:
    """A sentence about each corpus that is given two folders, of which the parser would forget the first."""
    roots = Counter(word for word in words if word.startswith(CORPORA) and "." not in word.removeprefix(CORPORA))
    return [f"{name} is given {count} times and takes one folder; put the films below one, or list them in a table."
            for name, count in roots.items() if count > 1]  # fmt: skip


def split_anew(words: Sequence[str]) -> list[str]:
    """A sentence about each option that would deal a run's own films anew, so that it is tested on what it learned."""
    if any(word.startswith(CORPORA.rstrip(".")) for word in words):
        return []
    return [f"{name} has no place beside --run, whose films would be split otherwise than it was trained; for other "
            "films give --data.corpora." for name in SPLIT if name in words]  # fmt: skip


def fold_corpora(words: Sequence[str]) -> list[str]:
    """Gathers `--data.corpora.NAME.OPTION VALUE` into one option per corpus, which the parser understands."""
    rest: list[str] = []
    options: dict[str, dict[str, Any]] = {}
    index = 0
    while index < len(words):
        name, dot, option = words[index].removeprefix(CORPORA).partition(".")
        if words[index].startswith(CORPORA) and dot and index + 1 < len(words):
            options.setdefault(name, {})[option] = _plain(words[index + 1])
            index += 2
        else:
            rest.append(words[index])
            index += 1
    return rest + [word for name, chosen in options.items() for word in _corpus(name, chosen, rest)]


def _plain(word: str) -> Any:
    import yaml

    return yaml.safe_load(word)


def _corpus(name: str, chosen: dict[str, Any], rest: list[str]) -> list[str]:
    """Writes one corpus as a JSON option, with its root if that stood alone as `--data.corpora.NAME PATH`."""
    whole = CORPORA + name
    while whole in rest[:-1]:
        place = rest.index(whole)
        chosen = {"root": rest[place + 1], **chosen}
        del rest[place : place + 2]
    return [whole, json.dumps(chosen)]


def _only_shows(words: Sequence[str]) -> bool:
    return any(word.split("=")[0] in ("--print_config", "--help", "--model.help", "--data.help") for word in words)


def _configs(names: Sequence[str], problems: list[str]) -> list[Path]:
    found = []
    for name in names:
        try:
            found.append(recipes.find(name))
        except UserError as error:
            problems.extend(error.messages)
    return found


def _run(verb: str, runs: Sequence[str], problems: list[str]) -> Path | None:
    if not runs:
        return None
    run = Path(runs[-1]).expanduser()
    if verb == "fit":
        problems.append(
            f"fit starts a new run; to go on with {run} type: "
            f"xrayssl fit --config {run}/config.yaml --ckpt_path {run}/checkpoints/last.ckpt"
        )
        return None
    if not (run / "config.yaml").is_file():
        problems.append(f"--run {run}: there is no run in that folder (no config.yaml).")
        return None
    return run


def _checkpoint(verb: str, given: Sequence[str], run: Path | None, problems: list[str], wanted: bool) -> Path | None:
    """Finds the checkpoint: the file that is named, or the run's best, or its last."""
    word = given[-1] if given else None
    if word is None and run is None:
        if verb != "fit" and wanted and not problems:
            problems.append(f"{verb} needs trained weights: name a finished run with --run RUN.")
        return None
    if run is not None and word in (None, "best", "last"):
        return _of_run(run, (word,) if word else ("best", "last"), problems)
    path = Path(str(word)).expanduser()
    if not path.is_file():
        problems.append(f"--ckpt_path {path}: there is no such checkpoint.")
    return path


def _of_run(run: Path, names: Sequence[str], problems: list[str]) -> Path | None:
    for name in names:
        path = run / "checkpoints" / f"{name}.ckpt"
        if path.is_file():
            return path
    problems.append(f"--run {run}: there is no checkpoint {' or '.join(names)}.ckpt in its folder checkpoints.")
    return None
