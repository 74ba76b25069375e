"""What frozen features know about labels: nearest neighbours and a linear probe. Nothing here is random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from xrayssl.intervals import auroc

Task = Literal["multilabel", "multiclass"]
NEIGHBOURS, TEMPERATURE = 20, 0.07
PENALTY = 0.01
STEPS = 300  # of L-BFGS at most
BLOCK = 512  # films that are voted on at a time


@dataclass(frozen=True)
class Probe:
    """How well features tell labels apart.

    Args:
        knn: Macro AUROC of the nearest neighbours over the defined classes; NaN where there is none.
        linear: Macro AUROC of the linear probe, likewise.
        undefined: Classes left out: the bank or the queries lack films with, or without, them.
    """

    knn: float
    linear: float
    undefined: list[str]


def probe(
    bank_ND: Tensor, label_NK: Tensor, query_MD: Tensor, truth_MK: Tensor, task: Task, classes: Sequence[str]
) -> Probe:
    """Learns from a bank of labelled features, and measures on others.

    Args:
        bank_ND: Features of the films that are learned from.
        label_NK: Their labels: 1, 0 or NaN (unknown); one-hot for "multiclass".
        query_MD: Features of the films that are measured.
        truth_MK: Their labels.
        task: Kind of labels.
        classes: K names.
    """
    kept = [both_outcomes(label_N) and both_outcomes(truth_M) for label_N, truth_M in zip(label_NK.T, truth_MK.T)]  # noqa: B905
    undefined = [name for name, keep in zip(classes, kept, strict=True) if not keep]
    if not any(kept) or not (bank_ND.isfinite().all() and query_MD.isfinite().all()):  # the training has diverged
        return Probe(float("nan"), float("nan"), undefined)
    scores = knn(bank_ND, label_NK, query_MD), linear(bank_ND, label_NK, query_MD, task)
    figures = [
        np.mean([auroc(score_M, truth_M) for score_M, truth_M in zip(score.T[kept], truth_MK.T[kept], strict=True)])
        for score in (score.cpu().numpy() for score in scores)
    ]
    return Probe(float(figures[0]), float(figures[1]), undefined)


def knn(
    bank_ND: Tensor, label_NK: Tensor, query_MD: Tensor, neighbours: int = NEIGHBOURS, temperature: float = TEMPERATURE
) -> Tensor:
    """The vote of the nearest films by cosine, weighted by exp(cosine / temperature) (Wu et al. 2018, arXiv:1805.01978,
    section 3.4).

    For each class the neighbours are taken among the films of which it is known whether they have it.

    Args:
        bank_ND: Features of the films that vote.
        label_NK: What they vote for: 1, 0 or NaN (unknown).
        query_MD: Features of the films that are voted on.
        neighbours: Voters per film and class; all, where there are fewer.
        temperature: Of the weights, > 0.

    Returns:
        score_MK in 0-1; NaN for a class of which no film is known.
    """
    bank_ND, query_MD = (nn.functional.normalize(feature.float()) for feature in (bank_ND, query_MD))
    parts = [_vote(bank_ND, label_NK, part_MD, neighbours, temperature) for part_MD in query_MD.split(BLOCK)]
    return torch.cat(parts)


def _vote(bank_ND: Tensor, label_NK: Tensor, query_MD: Tensor, neighbours: int, temperature: float) -> Tensor:
    near_MN = query_MD @ bank_ND.T
    score_MK = near_MN.new_full((len(query_MD), label_NK.shape[1]), torch.nan)
    patterns_NP, pattern_K = (~label_NK.isnan()).unique(dim=1, return_inverse=True)
    for number, pattern_N in enumerate(patterns_NP.T):
        if pattern_N.any():
            columns = (pattern_K == number).nonzero()[:, 0]
            labels_nk = label_NK[pattern_N][:, columns].to(near_MN)
            close_Mv, voter_Mv = near_MN[:, pattern_N].topk(min(neighbours, len(labels_nk)), dim=1)
            weight_Mv = (close_Mv / temperature).softmax(dim=1)
            score_MK[:, columns] = torch.einsum("mv,mvk->mk", weight_Mv, labels_nk[voter_Mv])
    return score_MK


def linear(bank_ND: Tensor, label_NK: Tensor, query_MD: Tensor, task: Task, penalty: float = PENALTY) -> Tensor:
    """Logistic regression on features standardised by the bank, with an L2 penalty and L-BFGS over all films at once.

    Minimises, for "multilabel", the mean cross-entropy over the known films of each class, for "multiclass" that of
    the softmax, plus penalty / 2 times the squared weights; biases are free. scikit-learn's C is 1 / (penalty * N). The
    penalty is not chosen on any films: with one and the same for all, figures of different epochs can be compared.

    Args:
        bank_ND: Features of the films that are learned from.
        label_NK: Their labels: 1, 0 or NaN (unknown); one-hot for "multiclass".
        query_MD: Features of the films that are scored.
        task: Kind of labels.
        penalty: Of the squared weights, > 0.

    Returns:
        score_MK, logits.
    """
    known_NK = ~label_NK.isnan()
    if task == "multiclass":
        rows_N = known_NK.all(dim=1)
        bank_ND, label_NK, known_NK = bank_ND[rows_N], label_NK[rows_N], known_NK[rows_N]
    bank_ND, query_MD = standardised(bank_ND, query_MD)
    weight_DK, bias_K = fit(bank_ND, label_NK.double().cpu().nan_to_num(), known_NK.cpu(), task, penalty)
    return (query_MD @ weight_DK + bias_K).float()


def standardised(bank_ND: Tensor, query_MD: Tensor) -> tuple[Tensor, Tensor]:
    """Both by the bank's mean and deviation, in double precision on the CPU; a constant feature becomes 0."""
    bank_ND, query_MD = bank_ND.double().cpu(), query_MD.double().cpu()
    deviation_D, mean_D = torch.std_mean(bank_ND, dim=0, correction=0)
    scale_D = torch.where(deviation_D > 1e-12, deviation_D, torch.inf)
    return (bank_ND - mean_D) / scale_D, (query_MD - mean_D) / scale_D


def fit(feature_ND: Tensor, target_NK: Tensor, known_NK: Tensor, task: Task, penalty: float) -> tuple[Tensor, Tensor]:
    """Weights (D, K) and biases (K) of the logistic regression; see `linear`."""
    share_NK = known_NK / known_NK.sum(dim=0).clamp(min=1)

    def objective() -> Tensor:
        solver.zero_grad()
        logit_NK = feature_ND @ weight_DK + bias_K
        if task == "multiclass":
            loss = nn.functional.cross_entropy(logit_NK, target_NK)
        else:
            term_NK = nn.functional.binary_cross_entropy_with_logits(logit_NK, target_NK, reduction="none")
            loss = (share_NK * term_NK).sum()
        total = loss + penalty / 2 * weight_DK.square().sum()
        total.backward()
        return total

    with torch.inference_mode(False), torch.enable_grad():
        feature_ND, target_NK, share_NK = (value.clone() for value in (feature_ND, target_NK, share_NK))
        classes = target_NK.shape[1]
        weight_DK = torch.zeros(feature_ND.shape[1], classes, dtype=torch.float64, requires_grad=True)
        bias_K = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
        solver = torch.optim.LBFGS(
            [weight_DK, bias_K], max_iter=STEPS, tolerance_grad=1e-6, history_size=20, line_search_fn="strong_wolfe"
        )
        solver.step(objective)
    return weight_DK.detach(), bias_K.detach()


def both_outcomes(label_N: Tensor) -> bool:
    """Whether films with and without a class are known."""
    return bool((label_N == 1).any() and (label_N == 0).any())
