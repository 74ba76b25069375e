"""Predicting by how many quarter turns a film was rotated, and how much of that its border alone tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from xrayssl.border import CHANCE, FILE, TURNS, bordering, finding, off
from xrayssl.errors import UserError
from xrayssl.files import write_json
from xrayssl.heads import LinearHead
from xrayssl.methods.base import Batch, Method
from xrayssl.metrics import Predictions, evaluate

See = Literal["all", "border"]


class RotationProxy(Method):
    """All four quarter turns of every film stand in the batch; a linear layer names them (Gidaris et al. 2018,
    arXiv:1803.07728).

    Turns are exact (`torch.rot90`) and made of one and the same view, so that no class is resampled otherwise than
    another. A film can still be told by its side marker, its black frame or its collimation: --data.augment with
    `trim`, `ratio: [1, 1]`, `circle`, `brightness`, `contrast` and `gamma` takes that away, and `see: border` measures
    what is left of it. High accuracy is not the aim: judge the backbone by what it is good for afterwards.

    Args:
        see: "all" of a film, or its "border" alone, everything else grey. That is a control: what it names better than
            by chance, rotation can learn without looking at what is inside. The log, border.json and the report say
            what was found.
        border: Width of the border as a share of the side, in (0, 0.5): of a frame along the four sides or, where
            --data.augment.circle hides the corners, of a ring inside the circle. Anatomy reaches the border, too: a
            chest film shows the neck above and the abdomen below. A control hands no backbone on.
        **kwargs: See `Method`.

    Raises:
        UserError: If the films are not square, or the border makes no sense.
    """

    needs: ClassVar[tuple[str, ...]] = ("square films",)

    def __init__(self, see: See = "all", border: float = 0.125, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _check(self.backbone.img_size, see, border)
        self.see, self.border, self.circle = see, border, False
        self.head = LinearHead(self.backbone.width, len(TURNS))
        self.predictions = Predictions()

    def setup(self, stage: str) -> None:
        """Sees whether the films lie in a circle, which is the data's to say."""
        super().setup(stage)
        self.circle = bool(getattr(self._augment, "circle", False))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Four-way cross-entropy over the turned films, and the accuracy."""
        image_BCHW = batch["image"]
        if self.see == "border":
            image_BCHW = image_BCHW * bordering(image_BCHW.shape[-1], self.border, self.circle).to(image_BCHW)
        turned = torch.cat([image_BCHW.rot90(turns, dims=(2, 3)) for turns in range(len(TURNS))])
        turns = torch.arange(len(TURNS), device=image_BCHW.device).repeat_interleave(len(image_BCHW))
        logits = self.head(self.backbone(turned)).float()
        if self.see == "border" and not self.training:
            self._keep(batch["index"], logits, turns)
        accuracy = (logits.argmax(dim=1) == turns).float().mean()
        return {"loss": nn.functional.cross_entropy(logits, turns), "accuracy": accuracy}

    def on_train_start(self) -> None:
        """Forgets what a validation before the training predicted."""
        self.predictions.reset()

    def on_validation_epoch_start(self) -> None:
        """Forgets the last epoch's predictions."""
        self.predictions.reset()

    def on_validation_epoch_end(self) -> None:
        """Says what was found, where nothing but that was asked for."""
        if self.see == "border" and self.trainer.state.fn == "validate":
            self._tell()

    def on_train_end(self) -> None:
        """Says what the last validation found."""
        super().on_train_end()
        if self.see == "border":
            self._tell()

    @property
    def is_control(self) -> bool:
        """Whether this answers a question, and hands no backbone on: what saw borders only is no start for a stage."""
        return self.see == "border"

    @property
    def _augment(self) -> Any:
        """What the data do to films, where they say."""
        return getattr(getattr(self._trainer, "datamodule", None), "augment", None)

    def _settings(self) -> dict[str, Any]:
        """Also what is seen."""
        return {**super()._settings(), "model.see": self.see, "model.border": self.border}

    def _keep(self, index_B: Tensor, logits_NK: Tensor, turn_N: Tensor) -> None:
        """Each film four times, under a number of its own."""
        number_N = index_B.repeat(len(TURNS)) * len(TURNS) + turn_N
        self.predictions.update(number_N, logits_NK.softmax(dim=1), nn.functional.one_hot(turn_N, len(TURNS)))

    def _tell(self) -> None:
        if not self.predictions.update_called:
            rank_zero_info("No film was validated, so that nothing is known of the border.")
            return
        films = self.predictions.compute()
        if not self.trainer.is_global_zero:
            return
        row_N = films.index // len(TURNS)
        manifest = getattr(getattr(self.trainer, "datamodule", None), "manifest", None)
        patient_N = row_N if manifest is None else manifest.table["patient"].to_numpy()[row_N]
        figures = evaluate(films.probability, films.label, patient_N, "multiclass", TURNS, split="val")
        accuracy = figures["metrics"]["accuracy"]
        way = "exact interval for" if "accuracy" in figures["interval"]["exact"] else "bootstrap over"
        unit = "films" if manifest is None else "patients"
        count = len(np.unique(row_N))
        counts = f"{count} validation films, {way} {figures['patients']} {unit}"
        known = self.trainer.callback_metrics.get("train/accuracy")
        trained = None if known is None else float(known)
        words = finding(accuracy, counts, self._place(), off(self._augment), trained)
        rank_zero_info(words)
        if not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            kept = {"words": words, "accuracy": accuracy, "chance": CHANCE, "training_accuracy": trained,
                    "films": count, "patients": figures["patients"]}  # fmt: skip
            write_json(Path(self.trainer.default_root_dir) / FILE, kept)

    def _place(self) -> str:
        return f"{'ring inside the circle' if self.circle else 'frame'}, {self.border:.3g} of the side wide"


def _check(img_size: tuple[int, int], see: str, border: float) -> None:
    problems = []
    if img_size[0] != img_size[1]:
        problems.append("Rotation needs square films; set --data.img_size to one number.")
    if see not in get_args(See):
        problems.append(f"model.see must be one of {', '.join(get_args(See))}, not {see!r}.")
    if not 0 < border < 0.5:
        problems.append(f"model.border must be a share of the side between 0 and 0.5, not {border}.")
    elif see == "border" and not bordering(img_size[0], border, circle=False).any():
        problems.append(f"A border of {border} of {img_size[0]} px is less than a pixel; widen --model.border.")
    if problems:
        raise UserError(*problems)
