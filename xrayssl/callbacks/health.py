"""Whether a network that learns without labels still tells films apart; a collapse is named in words."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from xrayssl.callbacks.checkpoints import ends
from xrayssl.callbacks.frozen import by_the_first, features, frozen, parts, some
from xrayssl.data import XrayDataModule
from xrayssl.errors import UserError
from xrayssl.health import FEW, Health, Verdict, health, judge
from xrayssl.methods import Method

log = logging.getLogger(__name__)


class RepresentationHealth(Callback):
    """Logs health/std, health/rank, health/alignment and health/uniformity of the backbone's mean-pooled grid, and
    warns when the representation collapses; see `xrayssl.health`.

    Every pretraining has it. They are measured on the same validation films each time: their central cuts, and for the
    alignment two random views of each, as --data.augment draws them, which stay the same. The training is the same, bit
    for bit, with and without. The films are read once, by the first process, and kept in memory (150 KB each at 224
    px). By default that takes 6 % of the time of a masked autoencoder on 1,100 films, whose steps are the cheapest, and
    less with more films.

    Args:
        every: Epochs between two measurements, beside one before the training and one at its end; null for none at
            all.
        films: Most films. Patients are taken in the order of a hash of their names.

    Raises:
        UserError: If an argument makes no sense.
    """

    def __init__(self, every: int | None = 10, films: int = 128) -> None:
        if (every is not None and every < 1) or films < FEW:
            raise UserError(
                f"RepresentationHealth: every must be 1 or more, or null, and films {FEW} or more, not {every} and "
                f"{films}."
            )
        self.every, self.films = every, films
        self.history: dict[int, Health] = {}
        """Figures by the epochs that were completed."""
        self._data: XrayDataModule
        self._rows = np.empty(0, np.int64)
        self._views: list[Tensor] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Finds the films.

        Raises:
            UserError: If the method or the data are another package's.
        """
        if stage != "fit" or self.every is None:
            return
        _, self._data = parts(trainer, pl_module, "RepresentationHealth")
        most = 2 * self._data.batch_size if trainer.fast_dev_run else self.films  # type: ignore[attr-defined]
        self._rows = some(self._data.manifest, self._data.manifest.rows("val"), most)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures what the training starts from."""
        if trainer.global_step or not self._watches:  # a resumed run has those figures
            return
        figures = self._measure(trainer, pl_module, epochs=0)
        log.info("Before training, %d validation films: %s", len(self._rows), self.verdict.words)
        for logger in trainer.loggers:
            logger.log_metrics({**_named(figures), "health/films": float(len(self._rows))}, step=0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures and logs, where it is time; says so once when the verdict changes."""
        if not self._watches or not ((trainer.current_epoch + 1) % (self.every or 1) == 0 or ends(trainer)):
            return
        before, ended = self.verdict, ends(trainer)
        for name, value in _named(self._measure(trainer, pl_module, trainer.current_epoch + 1)).items():
            pl_module.log(name, value, sync_dist=True)
        assert isinstance(pl_module, Method)
        self._tell(before, judge(self.history, len(self._rows), ended), pl_module, ended)

    def state_dict(self) -> dict[str, Any]:
        """The figures so far: whether a representation has collapsed is seen by what it was."""
        return {"history": {epochs: asdict(figures) for epochs, figures in self.history.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on with them."""
        self.history = {epochs: Health(**figures) for epochs, figures in state_dict["history"].items()}

    @property
    def verdict(self) -> Verdict:
        """Whether the representation has collapsed."""
        return judge(self.history, len(self._rows))

    @property
    def _watches(self) -> bool:
        return self.every is not None and len(self._rows) > 1  # one film has no distance to another

    def _measure(self, trainer: Trainer, model: LightningModule, epochs: int) -> Health:
        assert isinstance(model, Method)
        figures = self.history[epochs] = by_the_first(trainer, lambda: self._figures(trainer, model))
        return figures

    def _figures(self, trainer: Trainer, model: Method) -> Health:
        if not self._views:
            batches = [batch["views"] for batch in self._data.central(self._rows, beside=2)]
            self._views = [torch.cat(same) for same in zip(*batches, strict=True)]
        with frozen(trainer, model, self._views[0].split(self._data.batch_size)):
            film_ND, *views = (features(model, view_NCHW, self._data.batch_size) for view_NCHW in self._views)
            compared_NE = model.project(film_ND.to(model.device))
            return health(film_ND, views[0], views[1], None if compared_NE is None else compared_NE.cpu())

    def _tell(self, before: Verdict, now: Verdict, model: Method, ended: bool = False) -> None:
        final = ended and now.state == "doubtful"
        if now.state == before.state and not final:
            return
        if now.collapsed or final:
            log.warning("%s %s", now.words, model.remedy)
        elif before.collapsed or now.state == "doubtful":
            log.info("%s", now.words)


def _named(figures: Health) -> dict[str, float]:
    return {f"health/{name}": value for name, value in asdict(figures).items() if value is not None}
