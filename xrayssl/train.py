"""fit, validate, test and predict: the way from the words typed to Lightning and back. Light to import."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from typing import Any

from xrayssl import rundir
from xrayssl.advice import how_to_resume
from xrayssl.errors import UserError
from xrayssl.memory import keep_freed_memory
from xrayssl.request import Request, understand

INTERRUPTED, TERMINATED = 130, 143
CHATTER = ("\U0001f4a1 Tip", "TPU available", "Loading `train_dataloader` to estimate")
NOISE = (  # (message, module that warns): what Lightning does to its own dependencies, and advice we have decided on
    (r"\s*By default only one JsonargparseDeprecationWarning", ".*"),
    (r"\s*``instantiate_classes`` was deprecated", ".*"),
    (r"\s*skip_none parameter was deprecated", ".*"),
    (r"`isinstance\(treespec, LeafSpec\)` is deprecated", ".*"),
    ("The number of training batches .* is smaller than the logging interval", "lightning"),
    ("The '.*_dataloader' does not have many workers", "lightning"),
    ("The dirpath has changed", "lightning"),
    (r"`ModelCheckpoint\(monitor=.* could not find", "lightning"),  # without validation; with it, Lightning raises
    ("It is recommended to use `self.log", "lightning"),
    ("Be aware that when using `ckpt_path`, callbacks used to create", "lightning"),
    ("Experiment logs directory .* exists and is not empty", "lightning"),
    ("Checkpoint directory .* exists and is not empty", "lightning"),
)

HELP = """usage: xrayssl {verb} {usage}

most used:
{options}

everything:
  xrayssl {verb} --help-all                    every option
  xrayssl {verb} --config NAME --print_config  the whole configuration, as it would run
  xrayssl {verb} --model.help MAEPretrain      options of one method (same for --data.help)
  xrayssl configs                          packaged configurations
"""
FIT_OPTIONS = """  --config NAME                   packaged configuration, or your own YAML file; repeat to override
  --data.corpora.folder PATH      a folder of films; --data.corpora.nih PATH for a known corpus
  --data.batch_size 64            films per step and process
  --model.init_from RUN           start from the backbone of a finished run
  --model.optim.lr 1e-4           peak learning rate
  --trainer.max_epochs 100
  --ckpt_path FILE                go on with the same run, from its checkpoints/last.ckpt
  --out DIR                       folder of the run (default: runs/<config>/<time>)
  --seed_everything 0
  --wandb.mode disabled           Weights & Biases: offline, online, auto, disabled"""
RUN_OPTIONS = """  --run RUN                       folder of a finished run: its configuration and its best checkpoint
  --ckpt_path FILE                another checkpoint; `last` is the run's last
  --data.batch_size 64            films per step and process
  --out DIR                       folder for the results (default: RUN/{verb})"""


def fit(argv: Sequence[str]) -> int:
    """`xrayssl fit`: trains one stage."""
    return run("fit", argv)


def validate(argv: Sequence[str]) -> int:
    """`xrayssl validate`: measures a run on its validation films."""
    return run("validate", argv)


def test(argv: Sequence[str]) -> int:
    """`xrayssl test`: measures a run on its test films."""
    return run("test", argv)


def predict(argv: Sequence[str]) -> int:
    """`xrayssl predict`: writes a run's predictions."""
    return run("predict", argv)


def run(verb: str, argv: Sequence[str]) -> int:
    """Runs one training command.

    Args:
        verb: fit, validate, test or predict.
        argv: The words after the verb.

    Returns:
        The exit status: 0, 143 after SIGTERM, or 130 after Ctrl-C in a process that is not the first.

    Raises:
        UserError: Whatever the user can mend, every sentence of it.
        KeyboardInterrupt: With a sentence saying how to go on.
    """
    if {"-h", "--help"} & set(argv):
        sys.stdout.write(short_help(verb))
        return 0
    request = understand(verb, ["--help" if word == "--help-all" else word for word in argv])
    if rundir.rank() == 0:
        os.environ.pop(rundir.VARIABLE, None)
    try:
        return perform(request)
    except KeyboardInterrupt:
        if rundir.rank() > 0:
            return INTERRUPTED  # the first process speaks for all
        raise KeyboardInterrupt(how_to_resume(verb)) from None


def perform(request: Request) -> int:
    """Hands a request to Lightning, and translates the ways in which Lightning ends a process."""
    speak()
    if request.verb == "fit":
        keep_freed_memory()
    from xrayssl.lightning_cli import start

    before = signal.getsignal(signal.SIGINT)
    try:
        start(request)
    except UserError:
        rundir.abandon()
        raise
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        if type(end) is not SystemExit:  # Lightning's SIGTERMException
            if rundir.rank() == 0:
                sys.stderr.write(f"xrayssl: {how_to_resume(request.verb)}\n")
            return TERMINATED
        return int(end.code or 0)  # --print_config and --help-all end this way
    finally:
        restore_interrupt(before)
    return 0


def restore_interrupt(handler: Any) -> None:
    """Lets Ctrl-C do again what it did; Lightning, once it has shut down, leaves it ignored."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, handler)


def speak() -> None:
    """Sends this package's messages to stderr from the first process, and leaves out what nobody can act on."""
    package = logging.getLogger("xrayssl")
    package.setLevel(logging.INFO if rundir.rank() == 0 else logging.ERROR)
    if not any(isinstance(handler, Stderr) for handler in package.handlers):
        package.addHandler(Stderr())
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(is_news)
    for message, module in NOISE:
        warnings.filterwarnings("ignore", message=message, module=module)


class Stderr(logging.Handler):
    """Writes bare messages to whatever stderr is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one message on a line of its own."""
        sys.stderr.write(self.format(record) + "\n")


def is_news(record: logging.LogRecord) -> bool:
    """Says whether a message of Lightning is more than an advertisement or the absence of a device."""
    return not record.getMessage().startswith(CHATTER)


def short_help(verb: str) -> str:
    """Writes what to type for a verb and its most used options."""
    if verb == "fit":
        return HELP.format(verb=verb, usage="--config NAME [options]", options=FIT_OPTIONS)
    return HELP.format(verb=verb, usage="--run RUN [options]", options=RUN_OPTIONS.format(verb=verb))
