"""Settings of the probes of frozen features, chosen on validation films and on nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from xrayssl.errors import UserError
from xrayssl.probing import Task, both_outcomes, learn, macro_auroc, votes

Kind = Literal["knn", "linear"]
KINDS: tuple[Kind, ...] = ("knn", "linear")
NEIGHBOURS = (1, 5, 10, 20, 50, 100, 200, 500, 1000)
PENALTIES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
Predict = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Labelled:
    """Films with features and labels.

    Args:
        feature_ND: Of the films.
        label_NK: 1, 0 or NaN (unknown); one-hot for "multiclass".
    """

    feature_ND: Tensor
    label_NK: Tensor


@dataclass(frozen=True)
class Selected:
    """A probe with the setting that was best on validation films.

    Args:
        kind: Nearest neighbours, or the linear probe.
        setting: Number of neighbours, or the penalty.
        auroc: Macro, on the validation films; that of the best of all tried settings, and so too good.
        tried: The same of each setting.
        predict: Features to probabilities (M, K).
        undefined: Classes that had no part in the choice: training or validation films lack an outcome.
    """

    kind: Kind
    setting: float
    auroc: float
    tried: dict[float, float]
    predict: Predict
    undefined: list[str] = field(default_factory=list)

    @property
    def at_the_edge(self) -> bool:
        """Whether something beyond what was tried could be better."""
        return len(self.tried) > 1 and self.setting in (min(self.tried), max(self.tried))


def select(
    kind: Kind, train: Labelled, val: Labelled, task: Task, classes: Sequence[str], grid: Sequence[float] | None = None
) -> Selected:
    """Learns from training films with each setting, and keeps the one with the highest macro AUROC on validation films.

    Of equal ones the smoother is kept: more neighbours, the larger penalty. What is kept has learned from the training
    films alone, so that validation films can still tell a threshold or a temperature.

    Args:
        kind: Of the probe.
        train: Films to learn from.
        val: Films to choose by.
        task: Kind of labels.
        classes: K names.
        grid: Settings to try; None tries `NEIGHBOURS` up to the number of training films, or `PENALTIES`.

    Raises:
        UserError: If no class has both outcomes among training and among validation films, or features are no numbers.
    """
    kept = _told_apart(train, val)
    settings = sorted(set(grid or _grid(kind, len(train.feature_ND))), reverse=True)
    probes = _neighbours(train, task, settings) if kind == "knn" else _linear(train, task, settings)
    tried = {
        setting: macro_auroc(score_MK, val.label_NK, kept)
        for setting, score_MK in zip(settings, probes.many(val.feature_ND), strict=True)
    }
    best = max(tried, key=lambda setting: tried[setting])  # of equal ones the first
    undefined = [name for name, keep in zip(classes, kept, strict=True) if not keep]
    return Selected(kind, best, tried[best], tried, probes.one(best), undefined)


def unlearnable(label_NK: Tensor, task: Task) -> Tensor:
    """Findings that training films lack, or are never without: nothing tells films apart, bool (K,)."""
    alone = task == "multilabel"  # the classes of a softmax are told from each other
    return torch.tensor([alone and not both_outcomes(label_N) for label_N in label_NK.T])


def _told_apart(train: Labelled, val: Labelled) -> list[bool]:
    """Whether both sides know films with and without each class.

    Raises:
        UserError: If that holds for none, or the features are no numbers.
    """
    if not (train.feature_ND.isfinite().all() and val.feature_ND.isfinite().all()):
        raise UserError("The backbone gives features that are not finite, as after a training that diverged.")
    pairs = zip(train.label_NK.T, val.label_NK.T, strict=True)
    kept = [both_outcomes(known_N) and both_outcomes(asked_M) for known_N, asked_M in pairs]
    if not any(kept):
        raise UserError(
            "Nothing can be chosen: no class has films with and without it both among the training and among the "
            "validation films. Take more films, a larger --data.val, or other --data.labels."
        )
    return kept


def _grid(kind: Kind, films: int) -> Sequence[float]:
    if kind == "linear":
        return PENALTIES
    return [count for count in NEIGHBOURS if count <= films] or [1]


@dataclass(frozen=True)
class _Probes:
    """One probe per setting: what all give for some films, and each alone."""

    many: Callable[[Tensor], Sequence[Tensor]]
    one: Callable[[float], Predict]


def _neighbours(train: Labelled, task: Task, counts: Sequence[float]) -> _Probes:
    even = _Even(train.label_NK, task)

    def score(query_MD: Tensor, counts: Sequence[float]) -> Tensor:
        return even(votes(train.feature_ND, train.label_NK, query_MD, [int(count) for count in counts]))

    return _Probes(lambda query_MD: list(score(query_MD, counts)), lambda count: lambda query: score(query, [count])[0])


def _linear(train: Labelled, task: Task, penalties: Sequence[float]) -> _Probes:
    even = _Even(train.label_NK, task)
    models = dict(zip(penalties, learn(train.feature_ND, train.label_NK, task, penalties), strict=True))

    def probability(penalty: float, query_MD: Tensor) -> Tensor:
        logit_MK = models[penalty](query_MD)
        return even(logit_MK.softmax(dim=1) if task == "multiclass" else logit_MK.sigmoid())

    return _Probes(
        lambda query_MD: [probability(penalty, query_MD) for penalty in penalties],
        lambda penalty: lambda query_MD: probability(penalty, query_MD),
    )


class _Even:
    """Gives every film the same probability of what cannot be learned: its share among the training films."""

    def __init__(self, label_NK: Tensor, task: Task) -> None:
        self.blind_K = unlearnable(label_NK, task)
        self.share_K = label_NK.nanmean(dim=0).nan_to_num(0.5)

    def __call__(self, score_MK: Tensor) -> Tensor:
        return torch.where(self.blind_K, self.share_K, score_MK)
