"""What determines the result of a training, and its checksum: two trainings of one key are the same.

Of a configuration, resolved to every option, all counts but where and how the machine does it. The films count by the
checksum of their table (which films, whose, split how, with which labels) and by how their store was made, not by where
they lie. The parent counts by its key, a file by its content. The code counts by those of its sources that a training
runs through, without comments and docstrings.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import tokenize
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import xrayssl

VERSION = 1
FOLLOWING = {
    "chains", "comparison", "dashboards", "explain", "explained", "export", "frozen", "predict", "series", "study",
    "__main__", "advice", "catalogue", "cli", "data_command", "data_request", "demo", "diagnose", "prepare", "recipes",
    "reconstruct", "trained", "classifier", "loggers", "tracking", "callbacks/published", "callbacks/record",
    "callbacks/reconstructions", "data/check", "data/fetch",
}  # fmt: skip
"""Sources that ask for trainings, record them or follow them; none of them is part of one."""
OUTSIDE = ("wandb", "ckpt_path", "weights_only")
MACHINE = (
    "accelerator", "strategy", "devices", "num_nodes", "logger", "enable_progress_bar", "enable_model_summary",
    "log_every_n_steps", "default_root_dir", "profiler", "benchmark", "limit_predict_batches",
    "num_sanity_val_steps", "enable_autolog_hparams", "model_registry", "accumulate_grad_batches",
)  # fmt: skip
"""Options of the trainer that cannot change a result, but for the effective batch, which is kept."""
PLACES = ("corpora", "exclude", "num_workers", "batch_size")
"""Options of the data that the films' checksum and the effective batch stand for, or that cannot change a result."""
WATCHERS = ("xrayssl.callbacks.Reconstructions", "xrayssl.callbacks.OnlineProbe")
"""Callbacks that promise to leave a training as it is, bit for bit."""


def key(facts: Mapping[str, Any]) -> str:
    """SHA-256, hexadecimal, of facts as canonical JSON."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()


def without_code(facts: Mapping[str, Any]) -> str:
    """Key that the stage would share with those of all versions of the code."""
    return key({name: value for name, value in facts.items() if name != "code"})


def determining(
    config: Mapping[str, Any], films: Mapping[str, Any], start: Any, processes: int = 1, meeting: bool = False
) -> dict[str, Any]:
    """All that determines a training, as plain values.

    Args:
        config: Resolved, with seed and fraction.
        films: The checksum of their table, and how the stores were made; see `films`.
        start: None; the parent's key; or what tells a file or timm's weights from others.
        processes: That share a batch where the configuration leaves their number to the machine.
        meeting: Whether films that are together in a forward pass change each other's results, as in batch norms: how
            the batch is dealt to devices and accumulated then counts, too.
    """
    data, trainer = dict(config["data"]["init_args"]), dict(config["trainer"])
    batch = data["batch_size"] * (trainer.get("accumulate_grad_batches") or 1) * world(trainer, processes)
    if data["fraction"] == 1 and data["shots"] is None:
        data.pop("subset_seed")  # there is nothing to draw
    callbacks = [one for one in _listed(trainer.get("callbacks")) if one["class_path"] not in WATCHERS]
    kept = {
        **{name: value for name, value in config.items() if name not in OUTSIDE},
        "data": {**config["data"], "init_args": _without(data, PLACES)},
        "model": {**config["model"], "init_args": _contents(_without(config["model"]["init_args"], ("init_from",)))},
        "trainer": {**_without(trainer, MACHINE), "callbacks": callbacks},
    }
    together = {"together": [data["batch_size"], world(trainer, processes)]} if meeting else {}
    return {"version": VERSION, "config": _said(kept), "batch": batch, **together, "films": dict(films), "start": start,
            "code": code_version()}  # fmt: skip


def world(trainer: Mapping[str, Any], processes: int = 1) -> int:
    """Number of processes that share a step.

    Args:
        trainer: Options of the trainer.
        processes: On a machine where the configuration leaves it open.
    """
    devices = trainer.get("devices")
    count = len(devices) if isinstance(devices, list) else devices
    if isinstance(count, str) and count.isdecimal():
        count = int(count)
    return (count if isinstance(count, int) and count > 0 else processes) * int(trainer.get("num_nodes") or 1)


def films(data: Any) -> dict[str, Any]:
    """What identifies the films of a data module before a fraction is drawn.

    Args:
        data: An `XrayDataModule`.
    """
    from xrayssl.data.viewing import stores_of

    return {"checksum": data.manifest.checksum(), "stores": stores_of(data.corpora or {})}


@cache
def code_version() -> str:
    """Checksum of the sources that a training runs through, hexadecimal."""
    digest = hashlib.sha256()
    for path in sources():
        digest.update(f"{path.relative_to(_package()).as_posix()}\n{effective(path.read_text('utf-8'))}\0".encode())
    return digest.hexdigest()


def sources() -> list[Path]:
    """Files of the package that can change a training."""
    return [path for path in sorted(_package().rglob("*.py")) if not _follows(path.relative_to(_package()))]


def _package() -> Path:
    return Path(xrayssl.__file__).parent


def _follows(path: Path) -> bool:
    name = path.with_suffix("").as_posix()
    return any(name == one or name.startswith(f"{one}/") for one in FOLLOWING)


def effective(source: str) -> str:
    """A source without comments, docstrings and empty lines, which change nothing.

    Args:
        source: Of a module.
    """
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        for one in getattr(node, "body", []) if not isinstance(node, ast.Lambda | ast.IfExp) else []:
            if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) and isinstance(one.value.value, str):
                lines[one.lineno - 1 : one.end_lineno] = [""] * ((one.end_lineno or one.lineno) - one.lineno + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _without(values: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _contents(value: Any) -> Any:
    """With the checksum of a file or run, such as a tokenizer's or a map's, in place of its path."""
    if isinstance(value, Mapping):
        return {name: _contents(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_contents(one) for one in value]
    if isinstance(value, str) and (path := _file(value)):
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return value


def _file(value: str) -> Path | None:
    """The file that an option names, of a run its last checkpoint; None if it names none."""
    run = Path(value) / "checkpoints" / "last.ckpt"
    if run.is_file():
        return run
    return Path(value) if ("/" in value or Path(value).suffix) and Path(value).is_file() else None


def _said(value: Any) -> Any:
    """Without what is null: an option that a later version adds changes no result as long as nobody sets it."""
    if isinstance(value, Mapping):
        return {name: _said(one) for name, one in value.items() if one is not None}
    return [_said(one) for one in value] if isinstance(value, list | tuple) else value


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []
