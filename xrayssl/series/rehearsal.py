"""A training command built and not run: what is wrong with it is said before hours are spent."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from xrayssl.lightning_cli import XrayCLI
from xrayssl.request import Request, understand


@dataclass(frozen=True)
class Rehearsed:
    """What a training would be.

    Args:
        method: Built, with the weights it starts from.
        data: The data module, its corpora opened.
        config: Resolved: every option with its value, plain ones.
    """

    method: Any
    data: Any
    config: dict[str, Any]


class Rehearsal(XrayCLI):
    """Parses a `fit`, opens its corpora and builds its model with the weights it starts from; no folder is made.

    Args:
        request: The command, understood.
    """

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Makes none: the run's folder and the devices are for the run."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs nothing."""

    def resolved(self) -> dict[str, Any]:
        """The configuration with every option's value, as the run would save it."""
        import yaml

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"\s*(skip_none parameter|By default only one Jsonargparse)")
            text = self._parser("fit").dump(self.config["fit"], skip_none=False)
        return dict(yaml.safe_load(text))


def rehearse(words: Sequence[str]) -> tuple[Any, Any]:
    """Builds what `xrayssl fit` with these words would train.

    Returns:
        The method and the data module.

    Raises:
        UserError: With every mistake at once.
    """
    rehearsed = rehearse_whole(words)
    return rehearsed.method, rehearsed.data


def rehearse_whole(words: Sequence[str]) -> Rehearsed:
    """As `rehearse`, with the configuration that came of the words.

    Raises:
        UserError: With every mistake at once.
    """
    from xrayssl import diagnose

    request: Request = understand("fit", words)
    try:
        made = Rehearsal(request)
        made.model.start()  # reads the weights
    except Exception as error:
        if diagnose.foreign(error):
            raise diagnose.refusal(error) from error
        raise
    return Rehearsed(made.model, made.datamodule, made.resolved())


@contextmanager
def each_warning_once() -> Iterator[None]:
    """Within it many rehearsals speak as one: no news, and no warning twice."""
    said: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        new = record.levelno >= logging.WARNING and text not in said
        said.add(text)
        return new

    loggers = [logging.getLogger(name) for name in ("lightning.fabric.utilities.seed", "lightning.pytorch")]
    handlers = [*logging.getLogger("xrayssl").handlers, *(one for logger in loggers for one in logger.handlers)]
    for part in (*handlers, *loggers):
        part.addFilter(is_new)
    try:
        yield
    finally:
        for part in (*handlers, *loggers):
            part.removeFilter(is_new)
