"""The figure that selects a classifier's checkpoint, and whether films define it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from xrayssl.errors import UserError
from xrayssl.metrics import Gathered, auroc

REMEDIES = {
    "val": ("Raise --trainer.limit_val_batches.", "Give --data.val a larger share."),
    "test": ("Raise --trainer.limit_test_batches.", "Select on validation: --model.select_on val."),
}


def macro_auroc(scored: Gathered) -> Tensor:
    """The mean AUROC over the classes that films (or studies) define; NaN where they define none."""
    each = [auroc(p, y) for p, y in zip(scored.probability.T, scored.label.T, strict=True)]
    return torch.tensor(each).nanmean()


def defined(label_NK: np.ndarray) -> bool:
    """Whether films with and without a class are known, of any class."""
    return bool(((label_NK == 1).any(axis=0) & (label_NK == 0).any(axis=0)).any())


def undefined(label_NK: np.ndarray, seen: int, split: str = "val") -> UserError:
    """The refusal of films that define no AUROC, which names what keeps others away.

    Args:
        label_NK: Of all films of the split: 1, 0, NaN.
        seen: How many of them were looked at, the first ones.
        split: "val" or "test".
    """
    limited = seen < len(label_NK) and defined(label_NK)
    which = f"first {seen} of {len(label_NK)}" if limited else str(seen)
    kind = {"val": "validation", "test": "test"}[split]
    return UserError(
        f"The {which} {kind} films define no AUROC, which selects the checkpoint: no class has films with and "
        f"without it. {REMEDIES[split][not limited]}"
    )


def check(trainer: Any) -> None:
    """Looks at the labels of the films that a training will validate.

    Raises:
        UserError: If they define no AUROC.
    """
    data = getattr(trainer, "datamodule", None)
    learned = trainer.estimated_stepping_batches * trainer.accumulate_grad_batches
    validated = learned >= trainer.val_check_batch * (trainer.check_val_every_n_epoch or 1)
    films = sum(trainer.num_val_batches) * getattr(data, "batch_size", 0) * trainer.world_size
    if not films or not validated or trainer.fast_dev_run or not hasattr(data, "manifest"):
        return
    label_NK = labels(data, "val")
    if not defined(label_NK[:films]):
        raise undefined(label_NK, min(films, len(label_NK)))


def labels(data: Any, split: str) -> np.ndarray:
    """Labels (N, K) of the films of a split: 1, 0, NaN."""
    label_NK: np.ndarray = data.manifest.labels()[data.manifest.rows(split)]
    return label_NK
