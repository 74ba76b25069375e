"""A training command built and not run: what is wrong with it is said before hours are spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xrayssl.lightning_cli import XrayCLI
from xrayssl.request import Request, understand


class Rehearsal(XrayCLI):
    """Parses a `fit`, opens its corpora and builds its model with the weights it starts from; no folder is made.

    Args:
        request: The command, understood.
    """

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Makes none: the run's folder and the devices are for the run."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs nothing."""


def rehearse(words: Sequence[str]) -> tuple[Any, Any]:
    """Builds what `xrayssl fit` with these words would train.

    Returns:
        The method and the data module.

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
    return made.model, made.datamodule
