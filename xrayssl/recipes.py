"""Packaged configurations: complete YAML files, each a run, found by name. Standard library only."""

import difflib
from pathlib import Path

from xrayssl.errors import UserError

SUFFIXES = (".yaml", ".yml")
CHAINS, STUDIES = PARTS = ("chains", "studies")
"""Folders of configurations that describe several runs: one chain of stages, or several chains with their seeds."""


def folders() -> list[Path]:
    """Says where configurations live: inside an installed package, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    return [folder for folder in (package / "configs", package.parent / "configs") if folder.is_dir()]


def packaged(part: str = "") -> dict[str, Path]:
    """Lists the packaged configurations by name, in alphabetical order.

    Args:
        part: "" for those that describe one run, or one of `PARTS`.
    """
    found: dict[str, Path] = {}
    for folder in folders():
        for path in sorted((folder / part).glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def describe(path: Path) -> str:
    """Reads the one-line description of a configuration: its first comment line, or nothing."""
    with path.open(encoding="utf-8") as lines:
        first = next((line for line in lines if line.strip()), "")
    return first.lstrip("# ").strip() if first.startswith("#") else ""


def nearest(word: str, choices: list[str]) -> str:
    """Makes the sentence that suggests the closest of some choices.

    Returns:
        ` Did you mean X?` with a leading space, or an empty string where nothing is close.
    """
    lowered = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    close = close or [choice for choice in lowered if len(word) > 2 and choice.startswith(word.lower())]
    return f" Did you mean {lowered[close[0]]}?" if close else ""


def find(name: str) -> Path:
    """Finds a configuration: an existing file first, then a packaged one by name.

    Args:
        name: A path, or the name of a packaged configuration with or without `.yaml`.

    Raises:
        UserError: Neither exists; the sentence suggests the closest packaged name.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    known = packaged()
    stem = name.removesuffix(".yaml").removesuffix(".yml")
    if stem in known:
        return known[stem]
    if any(stem in packaged(part) for part in PARTS):
        raise UserError(f"{name} is several trainings, which `xrayssl chain --config {name}` runs; name one of them.")
    raise UserError(
        f"there is no configuration {name}: no such file, and no packaged configuration of that name."
        f"{nearest(Path(stem).name, list(known))} `xrayssl configs` lists them."
    )


def find_chain(name: str) -> Path:
    """Finds what `xrayssl chain` takes: an existing file first, then a packaged study, then a packaged chain.

    Args:
        name: A path, or the name of a packaged one with or without `.yaml`.

    Raises:
        UserError: There is none; the sentence suggests the closest packaged name.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    known = {**packaged(CHAINS), **packaged(STUDIES)}
    stem = name.removesuffix(".yaml").removesuffix(".yml")
    if stem in known:
        return known[stem]
    if stem in packaged():
        raise UserError(f"{name} is one training, which `xrayssl fit --config {name}` runs, and no chain of them.")
    raise UserError(
        f"there is no chain or study {name}: no such file, and no packaged one of that name."
        f"{nearest(Path(stem).name, list(known))} `xrayssl configs` lists them."
    )


def title(path: Path) -> str:
    """Names the folder a configuration's runs go to: its stem, or for a saved run's config that run's own name."""
    record = path.parent / "run.json"
    if path.name == "config.yaml" and record.is_file():
        import json

        return str(json.loads(record.read_text(encoding="utf-8")).get("config") or path.stem)
    return path.stem
