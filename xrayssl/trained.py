"""A trained run, rebuilt from its folder: its method with the weights, and what it was told about films."""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xrayssl.errors import UserError

if TYPE_CHECKING:
    from xrayssl.data.viewing import Viewing


@dataclass(frozen=True)
class Trained:
    """A run's method with its weights, and how it was configured.

    Args:
        checkpoint: That the weights come from.
        method: In evaluation.
        config: What its config.yaml says.
    """

    checkpoint: Path
    method: Any
    config: dict[str, Any]

    @property
    def run(self) -> Path:
        """Folder of the run."""
        return self.checkpoint.parents[1]

    @property
    def data(self) -> dict[str, Any]:
        """Arguments of the run's data module."""
        return dict(self.config["data"].get("init_args") or {})

    @cached_property
    def viewing(self) -> Viewing:
        """How the run looked at the films that it measured.

        Raises:
            UserError: If that is not to be known any more; see `viewing.viewing`.
        """
        from xrayssl.data.viewing import viewing

        try:
            record = json.loads((self.run / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            record = {}
        return viewing(self.data, self.method.backbone.img_size, (record.get("data") or {}).get("stores"))


def rebuilt(checkpoint: Path, refused: Callable[[type], str | None]) -> Trained:
    """Builds a method as its run did, with the weights of a checkpoint.

    Args:
        checkpoint: In the folder checkpoints of a run.
        refused: Why a class of methods will not do, or None where it will.

    Raises:
        UserError: If the files are no such run's.
    """
    import yaml

    from xrayssl.checkpoint import load

    checkpoint = checkpoint.absolute()
    content, config = load(checkpoint), checkpoint.parents[1] / "config.yaml"
    if "backbone" not in content.get("xrayssl", {}):
        raise UserError(f"{checkpoint}: this is no checkpoint of a run of xrayssl, so it does not say how to build it.")
    if not config.is_file():
        raise UserError(f"{config}: there is no such file; a checkpoint is rebuilt from the config.yaml of its run.")
    asked = yaml.safe_load(config.read_text(encoding="utf-8"))
    if reason := refused(_kind(asked["model"]["class_path"])):
        raise UserError(f"{config.parent}: {reason}")
    header = content["xrayssl"]
    method = _built(asked["model"], header, config)
    _fill(method, content["state_dict"], checkpoint)
    for buffer, name in ((method.backbone.mean, "mean"), (method.backbone.std, "std")):
        buffer.copy_(buffer.new_tensor(header["backbone"][name]))
    method.parents = header["backbone"].get("parents", [])
    return Trained(checkpoint, method, asked)


def _kind(class_path: str) -> type:
    module, _, name = class_path.rpartition(".")
    kind: type = getattr(importlib.import_module(module or "xrayssl.methods"), name)
    return kind


def _built(model: dict[str, Any], header: dict[str, Any], config: Path) -> Any:
    """The method of a configuration, without weights of any origin."""
    from jsonargparse import ArgumentError, ArgumentParser

    from xrayssl.diagnose import shortened
    from xrayssl.methods import Method

    linked = {name: header[name] for name in ("classes", "task") if name in header}  # what the run took from its data
    taken = {"img_size": header["backbone"]["img_size"], "init_from": None, "compile": False,
             "grad_checkpointing": False}  # fmt: skip
    arguments = {**(model.get("init_args") or {}), **taken, **linked}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Method, "model", required=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"[\s\S]*instantiate_classes", DeprecationWarning)
        try:
            parsed = parser.parse_object({"model": {"class_path": model["class_path"], "init_args": arguments}})
            return parser.instantiate_classes(parsed).model
        except ArgumentError as error:
            raise UserError(f"{config}: {shortened(error)}") from None


def _fill(method: Any, state: dict[str, Any], checkpoint: Path) -> None:
    try:
        method.load_state_dict(state)
    except RuntimeError:
        raise UserError(f"{checkpoint}: the weights do not fit the config.yaml beside them; was it edited?") from None
    method.eval()
