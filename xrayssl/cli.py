"""The front door: verbs and "did you mean". Standard library only; a verb's module is imported late."""

import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import xrayssl
from xrayssl import recipes
from xrayssl.errors import UserError

MISTAKE, INTERRUPTED = 2, 130


class Verb(NamedTuple):
    """What a verb does, and the function `(argv) -> int | None` behind it."""

    summary: str
    module: str
    function: str


VERBS = {
    "fit": Verb("train one stage from a configuration", "xrayssl.train", "fit"),
    "validate": Verb("measure a run on its validation films", "xrayssl.train", "validate"),
    "test": Verb("measure a run on its test films, with intervals", "xrayssl.train", "test"),
    "predict": Verb("write a run's predictions, or those of any films", "xrayssl.predict.command", "predict_command"),
    "data": Verb("check corpora, or fetch openly licensed ones", "xrayssl.data_command", "data_command"),
    "prepare": Verb("read a corpus once into a store, which is fast", "xrayssl.prepare", "prepare_command"),
    "configs": Verb("list the packaged configurations", "xrayssl.cli", "list_configs"),
    "methods": Verb("list the training stages and what they need", "xrayssl.catalogue", "methods_command"),
    "inspect": Verb("say what a backbone or checkpoint file holds", "xrayssl.cli", "inspect_file"),
    "reconstruct": Verb("draw what a masked autoencoder fills in", "xrayssl.reconstruct", "reconstruct_command"),
    "export": Verb("write a classifier for timm and ONNX, with a model card", "xrayssl.export", "export_command"),
    "probe": Verb("judge frozen features by their labels, without training", "xrayssl.frozen.probe", "probe_command"),
    "embed": Verb("write frozen features to a table, and draw them", "xrayssl.frozen.embed", "embed_command"),
    "folds": Verb("cross-validate by patient, and pool the folds", "xrayssl.series.folds", "folds_command"),
    "efficiency": Verb("draw curves over fewer labels", "xrayssl.series.efficiency", "efficiency_command"),
    "chain": Verb("train chains of stages, each stage once", "xrayssl.chains.command", "chain_command"),
    "runs": Verb("list local runs with their best figures", "xrayssl.dashboards.runs", "runs_command"),
    "dashboard": Verb("compare runs in a workspace of W&B", "xrayssl.dashboards.command", "dashboard_command"),
    "compare": Verb("compare recipes over seeds and patients", "xrayssl.comparison.command", "compare_command"),
    "explain": Verb(
        "say where classifiers look, in pictures and numbers", "xrayssl.explained.command", "explain_command"
    ),
    "report": Verb("make one HTML page of one or several runs", "xrayssl.study.report", "report_command"),
    "demo": Verb("train a whole chain on phantom films in a few minutes", "xrayssl.demo", "demo_command"),
}

HELP = """xrayssl {version} - self-supervised learning on radiographs

usage: xrayssl VERB [options]

{verbs}

start here:
  xrayssl demo
  xrayssl fit --config mae_chest --data.corpora.folder PATH
  xrayssl fit --help
"""

INSPECT = """usage: xrayssl inspect FILE [--json]

FILE is a backbone.safetensors, a run, a checkpoint, or weights of another program: MAE, medical_mae, SparK, MoCo, SwAV,
BYOL, DINO, timm, torchvision. Nothing in it is executed.
"""


def main(argv: list[str] | None = None) -> int:
    """Runs one command line.

    Args:
        argv: The words after `xrayssl`; None takes those the process was started with.

    Returns:
        The exit status: 0, 2 for a mistake the user can mend, 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        status = dispatch(words)
        sys.stdout.flush()
        return status
    except UserError as error:
        return complain(error)
    except KeyboardInterrupt as interrupt:
        sys.stderr.write(f"\nxrayssl: {interrupt or 'interrupted; nothing was being trained.'}\n")
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def dispatch(words: list[str]) -> int:
    """Answers what needs no verb, and hands everything else to the verb's function."""
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(overview())
        return 0
    if words[0] in ("-V", "--version", "version"):
        sys.stdout.write(f"xrayssl {xrayssl.__version__}\n")
        return 0
    return int(command(words[0])(words[1:]) or 0)


def overview() -> str:
    """Writes the text of `xrayssl --help`."""
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items()]
    return HELP.format(version=xrayssl.__version__, verbs="\n".join(lines))


def command(name: str) -> Callable[[list[str]], int | None]:
    """Imports the function behind a verb.

    Raises:
        UserError: No such verb.
    """
    if name not in VERBS:
        hint = recipes.nearest(name, list(VERBS)) or " `xrayssl --help` lists the verbs."
        raise UserError(f"there is no verb {name!r}.{hint}")
    verb = VERBS[name]
    function: Callable[[list[str]], int | None] = getattr(importlib.import_module(verb.module), verb.function)
    return function


def complain(error: UserError) -> int:
    """Writes each sentence of a mistake on its own line."""
    for message in error.messages:
        sys.stderr.write(f"xrayssl: {message}\n")
    return MISTAKE


def list_configs(argv: list[str]) -> int:
    """`xrayssl configs`: each packaged configuration and what it does."""
    if argv and argv[0] in ("-h", "--help"):
        sys.stdout.write("usage: xrayssl configs\n\nLists the packaged configurations; use one by its name.\n")
        return 0
    if argv:
        raise UserError(f"`xrayssl configs` takes no arguments, got {' '.join(argv)}.")
    sections = {"": "", recipes.CHAINS: "\nchains of stages, for `xrayssl chain --config NAME`:\n",
                recipes.STUDIES: "\nstudies, chains to be compared, for `xrayssl chain --config NAME`:\n"}  # fmt: skip
    for part, heading in sections.items():
        known = recipes.packaged(part)
        width = max(map(len, known), default=0)
        lines = [f"{name:<{width}}  {recipes.describe(path)}".rstrip() + "\n" for name, path in known.items()]
        sys.stdout.write("".join([heading, *lines]) if lines else "")
    return 0


def inspect_file(argv: list[str]) -> int:
    """`xrayssl inspect FILE [--json]`: what a backbone or checkpoint file holds."""
    files = [word for word in argv if not word.startswith("-")]
    unknown = set(argv) - set(files) - {"--json", "-h", "--help"}
    if {"-h", "--help"} & set(argv):
        sys.stdout.write(INSPECT)
        return 0
    if len(files) != 1 or unknown:
        raise UserError("`xrayssl inspect` takes one file with weights, and optionally --json.")
    facts = importlib.import_module("xrayssl.handoff").describe(files[0])
    sys.stdout.write(json.dumps(facts, indent=2, default=str) + "\n" if "--json" in argv else readable(facts))
    return 0


def readable(facts: dict[str, Any]) -> str:
    """Sets out facts one a line; the tensors' names are only counted."""
    facts = {key: value for key, value in facts.items() if key != "keys"}
    width = max((len(str(key)) for key in facts), default=0)
    return "".join(f"{key!s:<{width}}  {spell(value)}\n" for key, value in facts.items())


def spell(value: Any) -> str:
    """Writes one fact for reading: counts with separators, sequences joined, nothing as a dash."""
    if value is None or value == []:
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {spell(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ("; " if any(isinstance(item, dict) for item in value) else ", ").join(map(spell, value))
    return str(value)
