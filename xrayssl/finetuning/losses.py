"""What a classifier minimises: losses over the labels that are known, for findings and for classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from xrayssl.errors import UserError, refuse

KEY = "--model.loss"
TINY = 1e-8  # what a factor is at least before it is raised to a power, whose slope at 0 may be infinite


@dataclass(frozen=True)
class LabelLoss:
    """Cross-entropy over the known labels, and what is made of it where classes are rare.

    With p the probability of a label y of 0-1 (soft where films are mixed), the terms are, for a finding,

    * cross_entropy: -y log p - (1 - y) log (1 - p);
    * focal (Lin et al. 2017, arXiv:1708.02002, equation 4): -y (1 - p)^g log p - (1 - y) p^g log (1 - p);
    * asymmetric (Ridnik et al. 2020, arXiv:2009.14119, equations 4 to 7): -y (1 - p)^g+ log p
      - (1 - y) q^g- log (1 - q) with q = max(p - margin, 0), which forgets films that are surely without the finding;

    and for classes the sum over the classes of the first part alone, p by softmax. The alpha of the focal loss is a
    class weight. A label that is NaN (unknown, uncertain) has no term; of classes, a film of which one is unknown.

    Args:
        kind: Which of them; "asymmetric" is for findings only.
        smoothing: Share of a label that goes evenly to all outcomes (Szegedy et al. 2015, arXiv:1512.00567, section 7),
            0 to below 1.
        class_weights: One per class, in their order: of a finding's presence, where absence has 1, or of a class.
            "balanced" takes them from the training films: every outcome of a finding, and every class, weighs alike,
            and the mean over the films is 1. null for none.
        gamma: g of the focal loss, 0 or more.
        gamma_positive: g+ of the asymmetric loss, 0 or more.
        gamma_negative: g- of the asymmetric loss, 0 or more.
        margin: Of the asymmetric loss, 0 to below 1.

    Raises:
        UserError: If numbers are outside their range: with every mistake at once.
    """

    kind: Literal["cross_entropy", "focal", "asymmetric"] = "cross_entropy"
    smoothing: float = 0.0
    class_weights: list[float] | Literal["balanced"] | None = None
    gamma: float = 2.0
    gamma_positive: float = 0.0
    gamma_negative: float = 4.0
    margin: float = 0.05

    def __post_init__(self) -> None:
        shares = {"smoothing": self.smoothing, "margin": self.margin}
        wrong = [f"{KEY}.{name} is a share from 0 to below 1, not {share}."
                 for name, share in shares.items() if not 0 <= share < 1]  # fmt: skip
        powers = {name: getattr(self, name) for name in ("gamma", "gamma_positive", "gamma_negative")}
        wrong += [f"{KEY}.{name} must be 0 or more, not {power}." for name, power in powers.items() if not power >= 0]
        if isinstance(self.class_weights, list) and not all(0 < weight < np.inf for weight in self.class_weights):
            wrong.append(f"{KEY}.class_weights must be above 0, not {self.class_weights}.")
        refuse(wrong)

    def check(self, classes: Sequence[str], task: str) -> None:
        """Sees whether this loss goes with the labels.

        Raises:
            UserError: If it does not: with every mistake at once.
        """
        wrong, given = [], self.class_weights
        if self.kind == "asymmetric" and task == "multiclass":
            wrong.append(f"{KEY}.kind asymmetric is for findings that stand each alone; these data have classes of "
                         "which a film has one: take focal.")  # fmt: skip
        if isinstance(given, list) and len(given) != len(classes):
            wrong.append(f"{KEY}.class_weights has {len(given)} numbers for {len(classes)} classes: "
                         f"{', '.join(classes)}.")  # fmt: skip
        refuse(wrong)

    def weights(self, classes: Sequence[str], task: str, label_NK: np.ndarray | None = None) -> Tensor:
        """Weights of the outcomes of every class, (2, K): of a finding's absence, and of its presence.

        Args:
            classes: Names of the K classes.
            task: "multilabel" or "multiclass".
            label_NK: Of the training films, for "balanced": 1, 0, NaN; None where they are not known yet.

        Raises:
            UserError: For "balanced", if a class has no film, or a finding no film without it.
        """
        weight_2K = torch.ones(2, len(classes))
        if isinstance(self.class_weights, list):
            weight_2K[1] = torch.tensor(self.class_weights)
        elif self.class_weights == "balanced" and label_NK is not None:
            weight_2K = _balanced(classes, task, label_NK)
        return weight_2K

    def __call__(self, logits_BK: Tensor, label_BK: Tensor, task: str, weight_2K: Tensor) -> Tensor:
        """The mean over the known labels; 0 where there is none.

        Args:
            logits_BK: float32.
            label_BK: Of 0-1, NaN unknown.
            task: "multilabel" or "multiclass".
            weight_2K: See `weights`. The mean over findings divides by their number, that over classes by the sum of
                the films' weights, as is usual.
        """
        known_BK = ~label_BK.isnan()
        if task == "multiclass":
            row_B = known_BK.all(dim=1)
            return self._of_classes(logits_BK[row_B], label_BK[row_B], weight_2K[1])
        weight_2N = weight_2K[:, None].expand(2, *known_BK.shape)[:, known_BK]
        return self._of_findings(logits_BK[known_BK], label_BK[known_BK], weight_2N)

    def _of_findings(self, logit_N: Tensor, label_N: Tensor, weight_2N: Tensor) -> Tensor:
        label_N = label_N * (1 - self.smoothing) + self.smoothing / 2
        hit_N, miss_N = logsigmoid(logit_N), logsigmoid(-logit_N)  # log p, log (1 - p)
        if self.kind == "focal":
            hit_N, miss_N = hit_N * (self.gamma * miss_N).exp(), miss_N * (self.gamma * hit_N).exp()
        elif self.kind == "asymmetric":
            hit_N, miss_N = hit_N * (self.gamma_positive * miss_N).exp(), self._forgiven(logit_N, miss_N)
        terms_N = -weight_2N[1] * label_N * hit_N - weight_2N[0] * (1 - label_N) * miss_N
        return terms_N.sum() / max(1, terms_N.numel())

    def _forgiven(self, logit_N: Tensor, miss_N: Tensor) -> Tensor:
        """What the asymmetric loss makes of log (1 - p): q^g- log (1 - q)."""
        if self.margin:
            miss_N = ((-logit_N).sigmoid() + self.margin).clamp(max=1).log()
        return miss_N * (logit_N.sigmoid() - self.margin).clamp(min=TINY) ** self.gamma_negative

    def _of_classes(self, logits_MK: Tensor, label_MK: Tensor, weight_K: Tensor) -> Tensor:
        label_MK = label_MK * (1 - self.smoothing) + self.smoothing / label_MK.shape[1]
        total = (label_MK * weight_K).sum().clamp(min=TINY)
        if self.kind == "cross_entropy":
            return cross_entropy(logits_MK, label_MK, weight=weight_K, reduction="sum") / total
        log_p_MK = logits_MK.log_softmax(dim=1)
        faded_MK = (1 - log_p_MK.exp()).clamp(min=TINY) ** self.gamma * log_p_MK
        return -(weight_K * label_MK * faded_MK).sum() / total


def _balanced(classes: Sequence[str], task: str, label_NK: np.ndarray) -> Tensor:
    """Weights by which every outcome counts alike and the mean over the films is 1: N / (outcomes x films of it)."""
    if task == "multiclass":
        label_NK = label_NK[~np.isnan(label_NK).any(axis=1)]
    count_2K = np.stack([(label_NK == value).sum(axis=0) for value in (0, 1)])
    missing = count_2K[1] == 0 if task == "multiclass" else (count_2K == 0).any(axis=0)
    if missing.any():
        names = ", ".join(name for name, none in zip(classes, missing, strict=True) if none)
        raise UserError(
            f"{KEY}.class_weights balanced needs training films of every outcome, and one is missing of: {names}. "
            "Choose with --data.labels, or give the weights."
        )
    if task == "multiclass":
        count_K = count_2K[1]
        return torch.tensor(np.stack([np.ones(len(count_K)), count_K.sum() / (len(count_K) * count_K)])).float()
    return torch.tensor(count_2K.sum(axis=0) / (2 * count_2K)).float()
