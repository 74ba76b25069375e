"""Which stages of a study a setting is for: all of them, those on films of one body part, or those of one config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from xrayssl.recipes import nearest

ROOTS = ("data", "model", "trainer", "wandb")
TAKEN = {
    "seed_everything": "the seeds of the study say it",
    "data.subset_seed": "the seeds of the study say it",
    "model.init_from": "a chain's `start` says it, and every later stage starts from the one before it",
    "ckpt_path": "a stage that was interrupted goes on by itself",
    "out": "stages lie in the folder that --stages names",
    "run": "stages lie in the folder that --stages names",
}


@dataclass(frozen=True)
class Layer:
    """Settings from one place.

    Args:
        where: Words before a setting's name, for sentences.
        settings: Name to word.
    """

    where: str
    settings: dict[str, str]

    def of(self, title: str, file: Path) -> dict[str, str]:
        """What it sets for the stages of a configuration, as options of `fit`: the more special goes before.

        Args:
            title: Of the configuration.
            file: Likewise.
        """
        every = {name: value for name, value in self.settings.items() if name.split(".")[0] in ROOTS}
        part = _without(f"{body(file)}.", self.settings, "data.")
        return {**every, **part, **_without(f"{title}.", self.settings)}


def _without(prefix: str, settings: Mapping[str, str], instead: str = "") -> dict[str, str]:
    return {instead + name.removeprefix(prefix): value for name, value in settings.items() if name.startswith(prefix)}


def wrong(layer: Layer, configs: Mapping[str, Path]) -> list[str]:
    """A sentence about each setting that is for no stage, or that is none of the user's.

    Args:
        layer: Of a study or of the command.
        configs: Name to file of the study's configurations.
    """
    bodies = {found for file in configs.values() if (found := body(file))}
    return [sentence for name in layer.settings if (sentence := _wrong(layer.where, name, configs, bodies))]


def wrong_in_stage(where: str, settings: Mapping[str, Any]) -> list[str]:
    """A sentence about each setting of a chain's stage that is no option of `fit`, or none of the user's."""
    return [sentence for name in settings if (sentence := _wrong(f"{where}: ", str(name), {}, set()))]


def _wrong(where: str, name: str, configs: Mapping[str, Path], bodies: set[str]) -> str:
    prefixes = [*(f"{title}." for title in configs), *(f"{part}." for part in bodies)]
    prefix = next((one for one in prefixes if name.startswith(one)), "")
    option = ("data." if prefix.rstrip(".") in bodies and prefix else "") + name.removeprefix(prefix)
    if option in TAKEN:
        return f"{where}{name} has no place here: {TAKEN[option]}."
    if option.split(".")[0] in ROOTS and "." in option:
        return ""
    known = [*configs, *sorted(bodies), *ROOTS]
    near = nearest(name.split(".")[0], known)
    if not configs:
        return f"{where}{name}: an option of `fit` begins with {', '.join(ROOTS)}, such as model.optim.lr.{near}"
    return (f"{where}{name}: this is for no stage of the study.{near} A setting begins with {', '.join(ROOTS)} "
            f"(every stage), {', '.join(sorted(bodies)) or 'a body part'} (data of those films), or one of "
            f"{', '.join(configs)}.")  # fmt: skip


@cache
def body(file: Path) -> str | None:
    """Body part of a configuration's data module; None where that cannot be told.

    Args:
        file: The configuration.
    """
    from xrayssl import data
    from xrayssl.diagnose import imported, subclasses

    try:
        name = str(yaml.safe_load(file.read_text(encoding="utf-8"))["data"]["class_path"])
    except (OSError, ValueError, yaml.YAMLError, TypeError, KeyError):  # the rehearsal will say so
        return None
    kind = subclasses(data.XrayDataModule).get(name) or imported(name)
    return getattr(kind, "body", None) if kind is not data.XrayDataModule else None


def word(value: Any) -> str:
    """A value of YAML as the command line takes it."""
    if isinstance(value, str):
        return value
    return json.dumps(value)
