"""Where figures of a run go: metrics.csv always, Weights & Biases unless it is disabled."""

from __future__ import annotations

import importlib.util
import logging
import netrc
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from xrayssl.errors import UserError
from xrayssl.tracking.privacy import SETTINGS, Pseudonyms

log = logging.getLogger(__name__)
STRICTER = ("online", "offline", "disabled")
TAG = 64  # letters of a tag that Weights & Biases takes


@dataclass(frozen=True)
class Wandb:
    """What Weights & Biases may do.

    Args:
        mode: "offline" keeps the run under wandb/ for `wandb sync`, "online" uploads, "disabled" does not load it;
            "auto" is online for a user who is logged in (WANDB_API_KEY or `wandb login`), else offline. WANDB_MODE
            can only make it stricter.
        project: Project that runs are filed under.
        entity: Team or user; null is the default of the login.
        group: Runs to be shown together, such as the stages of one chain; null is the name of the configuration.
        tags: Words to find the run by, besides method, network, corpora and seed.
        privacy: Send neither console output, nor machine metadata, nor code, nor git state, nor paths; patients and
            films get pseudonyms.
        films: Send pictures that show films: reconstructions, and where a classifier looks.
        artifacts: Send the weights too, not only their checksum.
    """

    mode: Literal["auto", "offline", "online", "disabled"] = "offline"
    project: str = "xrayssl"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    privacy: bool = False
    films: bool = False
    artifacts: bool = False


class MetricsFile(CSVLogger):
    """Writes <run>/metrics.csv; the configuration is not repeated, config.yaml lies beside it."""

    def __init__(self, run: Path) -> None:
        super().__init__(save_dir=run, name="", version="")

    @rank_zero_only
    def log_hyperparams(self, params: Any = None) -> None:
        """Leaves hyperparameters to config.yaml."""

    def begin_with(self, rows: list[dict[str, Any]]) -> None:
        """Puts rows before those of this run."""
        self.experiment.metrics[:0] = rows


class WandbRun(WandbLogger):
    """A run's own logger for Weights & Biases, which holds to what the user allows.

    Args:
        folder: Of the run.
        options: What the user allows.
        labels: What the run says of itself: group, job_type, tags.
        mode: "online" or "offline".
    """

    def __init__(self, folder: Path, options: Wandb, labels: Mapping[str, Any], mode: str) -> None:
        import wandb

        os.environ.setdefault("WANDB_SILENT", "true")
        self.options = options
        self.pseudonyms = Pseudonyms(options.project) if options.privacy else None
        self.folder = folder
        started = f"{labels.get('group') or 'run'}/{datetime.now():%Y-%m-%d_%H-%M-%S}"
        super().__init__(
            name=started if options.privacy else f"{folder.parent.name}/{folder.name}",
            save_dir=folder,
            project=options.project,
            entity=options.entity,
            group=options.group or labels.get("group"),
            job_type=labels.get("job_type"),
            tags=[word[:TAG] for word in dict.fromkeys([*labels.get("tags", []), *options.tags])],
            settings=wandb.Settings(mode=mode, silent=True, **(SETTINGS if options.privacy else {})),
        )
        self._wandb_init.pop("anonymous", None)  # wandb warns of it on every start, and Lightning always passes it

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Logs hyperparameters, without paths where privacy is asked for."""
        super().log_hyperparams(self.pseudonyms.hidden(dict(params)) if self.pseudonyms else params)

    @rank_zero_only
    def log_picture(
        self, key: str, path: Path, caption: str, step: int | None = None, *, shows_films: bool = True
    ) -> None:
        """Logs a picture, if it shows no film or the user allows those that do."""
        if self.options.films or not shows_films:
            self.log_image(key, [str(path)], step=step, caption=[caption])

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Ends the run, unless it is one that somebody else began, so that the next in this process is another."""
        super().finalize(status)
        if self._experiment is not None and self.folder in Path(self._experiment.dir).parents:
            self._wandb_init["id"] = self._experiment.id  # whoever logs more goes on with the same run
            self._experiment.finish(exit_code=0 if status == "success" else 1)
            self._experiment = None


def loggers(run: Path, options: Wandb, labels: Mapping[str, Any] | None = None) -> list[Logger]:
    """Makes the loggers of a run.

    Args:
        run: The run's folder.
        options: What the user wants of Weights & Biases.
        labels: What the run itself says there: group, job_type, tags.

    Raises:
        UserError: If it is asked for and not installed.
    """
    made: list[Logger] = [MetricsFile(run)]
    mode = resolve(options.mode)
    if mode != "disabled":
        made.append(WandbRun(run, options, labels or {}, mode))
    return made


def wandb_runs(trainer: Any) -> Iterator[WandbRun]:
    """A trainer's own loggers for Weights & Biases."""
    return (logger for logger in trainer.loggers if isinstance(logger, WandbRun))


def resolve(mode: str) -> str:
    """Says what is done: what was asked for, or what WANDB_MODE says if that is stricter.

    Raises:
        UserError: If Weights & Biases is to be online and is not installed.
    """
    wish = os.environ.get("WANDB_MODE", "").replace("dryrun", "offline")
    if mode == "auto":
        mode = "online" if wish == "online" or logged_in() else "offline"
    mode = max(mode, wish, key=STRICTER.index) if wish in STRICTER else mode
    if mode == "disabled" or importlib.util.find_spec("wandb") is not None:
        return mode
    if mode == "online":
        raise UserError("Weights & Biases is not installed: `pip install wandb`, or go without: --wandb.mode disabled.")
    log.info("Weights & Biases is not installed: figures go to metrics.csv only.")
    return "disabled"


def logged_in() -> bool:
    """Says whether a key for Weights & Biases is at hand, without reading it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    file = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    try:
        return host in netrc.netrc(str(file)).hosts
    except (OSError, netrc.NetrcParseError):
        return False
