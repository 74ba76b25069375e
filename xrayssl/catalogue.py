"""`xrayssl methods`: the training stages there are, read from their classes and the packaged configurations."""

import argparse
import importlib
import inspect
import pkgutil
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import yaml

from xrayssl import methods, recipes
from xrayssl.errors import UserError
from xrayssl.methods import Method

NAME = r"[A-Z][\w'-]+"
PAPER = re.compile(rf"({NAME}(?: et al\.| & {NAME})? \d{{4}}),? \(?arXiv:(\d{{4}}\.\d{{4,5}})")
SENTENCE = re.compile(r"(?<!et al)\.(?: |$)")
HEAD = """# Methods

Every training stage, as `xrayssl methods` lists them: generated from the classes and the packaged configurations, not \
written. Any network of timm is meant by ViT (plain ones) and CNN; all take unlabelled films unless labels are named.

| method | class | loss | papers | configs | needs |
|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Entry:
    """One stage.

    Args:
        name: Of its class.
        does: What it does, in a sentence.
        loss: What it minimises.
        papers: Authors and year, and the number at arXiv.
        configs: Packaged configurations that train it.
        needs: Kinds of networks, and what else it needs.
    """

    name: str
    does: str
    loss: str
    papers: dict[str, str]
    configs: list[str]
    needs: list[str]


def methods_command(argv: list[str]) -> int:
    """The verb `xrayssl methods [--write docs/methods.md]`: prints the catalogue, or writes it as a page."""
    parser = argparse.ArgumentParser("xrayssl methods", description="List every training stage and what it needs.")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write a page in Markdown instead")
    page = parser.parse_args(argv).write
    if page is None:
        sys.stdout.write("\n".join(map(paragraph, entries())))
        return 0
    try:
        page.write_text(markdown(), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{page} cannot be written ({error.strerror}).") from None
    sys.stdout.write(f"{page}\n")
    return 0


def entries() -> list[Entry]:
    """All stages by name."""
    trained = by_class()
    return [entry(kind, trained.get(kind.__name__, [])) for kind in kinds()]


def kinds() -> list[type[Method]]:
    """The classes of xrayssl/methods that train something, by name."""
    modules = [
        importlib.import_module(f"{methods.__name__}.{part.name}") for part in pkgutil.iter_modules(methods.__path__)
    ]
    found = [kind for module in modules for _, kind in inspect.getmembers(module, inspect.isclass)]
    stages = {kind for kind in found if issubclass(kind, Method) and kind is not Method}
    return sorted(stages, key=lambda kind: kind.__name__.lower())


def by_class() -> dict[str, list[str]]:
    """Names of the packaged configurations by the class that they train."""
    trained: dict[str, list[str]] = {}
    for name, path in recipes.packaged().items():
        kind = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]["class_path"].rpartition(".")[2]
        trained.setdefault(kind, []).append(name)
    return trained


def entry(kind: type[Method], configs: list[str]) -> Entry:
    """What a class says of itself: the first sentences of its docstring and of that of `losses`, the papers named
    before its arguments, `networks` and `needs`."""
    doc = inspect.getdoc(kind) or ""
    said = " ".join(doc.partition("Args:")[0].split())
    papers = {words: number for words, number in PAPER.findall(said)}
    needs = [" or ".join(kind.networks), *kind.needs]
    return Entry(kind.__name__, sentence(doc), sentence(inspect.getdoc(kind.losses) or ""), papers, configs, needs)


def sentence(text: str) -> str:
    """The first sentence, without what stands in brackets about papers and equations, and without its full stop."""
    plain = re.sub(r" \([^()]*(?:arXiv|equation|eq\.)[^()]*\)", "", " ".join(text.split()))
    return SENTENCE.split(plain, maxsplit=1)[0]


def paragraph(stage: Entry) -> str:
    """One stage for a terminal."""
    facts = {
        "loss": stage.loss,
        "papers": "; ".join(f"{words}, arXiv:{number}" for words, number in stage.papers.items()),
        "configs": ", ".join(stage.configs),
        "needs": "; ".join(stage.needs),
    }
    rows = [fill(f"{name:<8} {words}", 116, subsequent_indent=" " * 9) for name, words in facts.items() if words]
    body = "\n".join([fill(stage.does, 116), *rows])
    return f"{stage.name}\n" + "".join(f"  {line}\n" for line in body.splitlines())


def markdown() -> str:
    """The page docs/methods.md."""
    return HEAD + "".join(row(stage) for stage in entries())


def row(stage: Entry) -> str:
    """One stage as a row of a table."""
    papers = [f"[{words}](https://arxiv.org/abs/{number})" for words, number in stage.papers.items()]
    configs = [f"`{name}`" for name in stage.configs]
    cells = [stage.does, f"`{stage.name}`", stage.loss, ", ".join(papers), ", ".join(configs), "; ".join(stage.needs)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
