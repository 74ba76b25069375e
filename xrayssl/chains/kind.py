"""A stage whatever its seed and its share of the labels, rehearsed once for all of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xrayssl.chains import identity
from xrayssl.chains.spec import Step
from xrayssl.errors import UserError, sentences

CORPORA = "data.corpora."
TIMM = "timm"
ALONE = ("MAEPretrain", "DVAE", "RotationProxy", "RelativePatch", "Jigsaw", "Finetune")
"""Methods that look at each film by itself."""
FOREVER = 1000
"""Epochs of Lightning where nobody says how many."""


@dataclass(frozen=True)
class Kind:
    """What a rehearsal found.

    Args:
        step: That was rehearsed.
        words: Of `xrayssl fit`, without seed, fraction and start.
        config: Resolved.
        identity: Of its films; see `identity.films`.
        manifest: Of all films before a fraction is drawn.
        corpora: As the data module has them.
        method: Class of the method.
        network: timm's name of the backbone.
        in_chans: Channels of a film.
        labelled: Whether it learns from labels, and is tested.
        start: SHA-256 of the file it starts from, if it starts from one.
        meeting: Whether films of a forward pass change each other's results.
    """

    step: Step
    words: list[str]
    config: dict[str, Any]
    identity: dict[str, Any]
    manifest: Any
    corpora: Mapping[str, Any]
    method: str
    network: str
    in_chans: int
    labelled: bool
    start: str | None = None
    meeting: bool = False

    @property
    def img_size(self) -> Any:
        """Height and width in pixels; one number for a square."""
        return self.config["data"]["init_args"]["img_size"]

    def films(self, fraction: float = 1.0) -> int:
        """About how many films an epoch has.

        Args:
            fraction: Of the training patients.
        """
        there = max(1, round(fraction * len(self.manifest.rows("train"))))
        limit = self.config["trainer"].get("limit_train_batches")
        if isinstance(limit, float):
            return max(1, round(limit * there))
        return min(there, limit * self._batch()) if limit else there

    def epochs(self, fraction: float = 1.0, processes: int = 1) -> float:
        """Passes over them.

        Args:
            fraction: Of the training patients.
            processes: See `identity.determining`.
        """
        trainer = self.config["trainer"]
        steps, most = trainer.get("max_steps") or -1, trainer.get("max_epochs")
        if steps < 0:
            return float(FOREVER if most is None else most)
        together = self._batch() * (trainer["accumulate_grad_batches"] or 1) * identity.world(trainer, processes)
        passes = steps * together / self.films(fraction)
        return passes if most in (None, -1) else min(passes, float(most))

    def _batch(self) -> int:
        return int(self.config["data"]["init_args"]["batch_size"])


def rehearsed(step: Step, start: str | None) -> Kind:
    """Builds a stage without training it.

    Args:
        step: To be built.
        start: Of the first stage of a chain: None, `timm`, which is not asked for yet, or a file.

    Raises:
        UserError: Every mistake in it, each naming the stage.
    """
    from xrayssl.series.rehearsal import rehearse_whole

    words = ["--config", step.config]
    for name, value in step.settings.items():
        words += [f"--{name}", _anchored(value) if name.startswith(CORPORA) else value]
    file = start if start not in (None, TIMM) else None
    try:
        made = rehearse_whole([*words, *(["--model.init_from", file] if file else [])])
    except (UserError, ValueError) as error:
        raise UserError(*(f"{step.title}: {sentence}" for sentence in sentences(error))) from None
    if made.config["trainer"].get("fast_dev_run"):
        raise UserError(f"{step.title}: a trial (fast_dev_run) leaves nothing to go on from; leave it out.")
    backbone = made.method.backbone
    return Kind(
        step,
        words,
        made.config,
        identity.films(made.data),
        made.data.manifest,
        made.data.corpora,
        type(made.method).__name__,
        backbone.architecture,
        backbone.in_chans,
        bool(getattr(made.method, "classes", None)),
        made.method.parents[-1]["sha256"] if file else None,
        meeting(made.method),
    )


def meeting(method: Any) -> bool:
    """Whether films of a forward pass change each other's results: in batch norms, by mixing, or by being compared.

    Args:
        method: Of ours, or anybody's, of which the worst is assumed.
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    mixes = bool(getattr(method, "mixing", None))
    return mixes or type(method).__name__ not in ALONE or any(isinstance(one, _BatchNorm) for one in method.modules())


def _anchored(value: str) -> str:
    """A folder so that it holds in every other; what is none stays."""
    path = Path(value).expanduser()
    return os.path.abspath(path) if value and not value.startswith(("{", "-")) and path.exists() else value


def weights_at_timm(network: str) -> str | None:
    """Name with tag of the weights that timm has for a network; None if it has none.

    Args:
        network: timm's name, with or without a tag.
    """
    import timm

    config = timm.get_pretrained_cfg(network)
    if config is None or not (config.url or config.hf_hub_id or config.file):
        return None
    return f"{network.split('.')[0]}.{config.tag}" if config.tag else network.split(".")[0]
