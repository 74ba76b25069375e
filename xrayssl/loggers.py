"""Where figures of a run go: metrics.csv always, Weights & Biases unless it is disabled."""

from __future__ import annotations

import importlib.util
import logging
import netrc
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wandb:
    """What Weights & Biases may do.

    Args:
        mode: "online" uploads, "offline" keeps the run under wandb/ for `wandb sync`, "disabled" does not load it;
            "auto" is online for a user who is logged in (WANDB_API_KEY or `wandb login`), else offline.
        project: Project that runs are filed under.
        entity: Team or user; null is the default of the login.
        group: Runs to be shown together, such as the stages of one chain; null is the name of the configuration.
        tags: Words to find the run by, besides method, network and corpora.
        privacy: Send neither console output, nor machine metadata, nor code, nor git state.
    """

    mode: Literal["auto", "offline", "online", "disabled"] = "auto"
    project: str = "xrayssl"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    privacy: bool = False


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


def loggers(run: Path, options: Wandb, labels: Mapping[str, Any] | None = None) -> list[Logger]:
    """Makes the loggers of a run.

    Args:
        run: The run's folder.
        options: What the user wants of Weights & Biases.
        labels: What the run itself says there: group, job_type, tags.
    """
    made: list[Logger] = [MetricsFile(run)]
    mode = resolve(options.mode)
    if mode != "disabled":
        made.append(_wandb(run, options, labels or {}, offline=mode == "offline"))
    return made


def resolve(mode: str) -> str:
    """Turns "auto" into what this machine allows; WANDB_MODE, if set, decides."""
    if mode != "auto":
        return mode
    if importlib.util.find_spec("wandb") is None:
        log.info("Weights & Biases is not installed: figures go to metrics.csv only.")
        return "disabled"
    wish = os.environ.get("WANDB_MODE", "").replace("dryrun", "offline")
    if wish in ("online", "offline", "disabled"):
        return wish
    return "online" if logged_in() else "offline"


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


def _wandb(run: Path, options: Wandb, labels: Mapping[str, Any], offline: bool) -> WandbLogger:
    import wandb

    os.environ.setdefault("WANDB_SILENT", "true")
    logger = WandbLogger(
        name=f"{run.parent.name}/{run.name}",
        save_dir=run,
        project=options.project,
        offline=offline,
        entity=options.entity,
        group=options.group or labels.get("group"),
        job_type=labels.get("job_type"),
        tags=[*labels.get("tags", []), *options.tags],
        settings=wandb.Settings(silent=True, **(_PRIVATE if options.privacy else {})),
    )
    logger._wandb_init.pop("anonymous", None)  # wandb warns of it on every start, and Lightning always passes it
    return logger


_PRIVATE = {
    "console": "off",
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "host": "private",
    "program": "xrayssl",
}
