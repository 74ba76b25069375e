"""What frozen features know about labels: nearest neighbours and a linear probe. Nothing here is random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from xrayssl.statistics.intervals import auroc

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
    figures = [macro_auroc(score_MK, truth_MK, kept) for score_MK in scores]
    return Probe(figures[0], figures[1], undefined)


def macro_auroc(score_MK: Tensor, truth_MK: Tensor, kept: Sequence[bool]) -> float:
    """The mean AUROC of the classes that are kept, each of which both outcomes of are known."""
    columns = zip(score_MK.cpu().numpy().T[kept], truth_MK.T[kept], strict=True)
    return float(np.mean([auroc(score_M, truth_M) for score_M, truth_M in columns]))


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
    return votes(bank_ND, label_NK, query_MD, [neighbours], temperature)[0]


def votes(
    bank_ND: Tensor, label_NK: Tensor, query_MD: Tensor, counts: Sequence[int], temperature: float = TEMPERATURE
) -> Tensor:
    """What `knn` gives for several numbers of neighbours G, which are looked for once: score_GMK."""
    bank_ND, query_MD = (nn.functional.normalize(feature.float()) for feature in (bank_ND, query_MD))
    parts = [_vote(bank_ND, label_NK, part_MD, counts, temperature) for part_MD in query_MD.split(BLOCK)]
    return torch.cat(parts, dim=1)


def _vote(bank_ND: Tensor, label_NK: Tensor, query_MD: Tensor, counts: Sequence[int], temperature: float) -> Tensor:
    near_MN = query_MD @ bank_ND.T
    score_GMK = near_MN.new_full((len(counts), len(query_MD), label_NK.shape[1]), torch.nan)
    patterns_NP, pattern_K = (~label_NK.isnan()).unique(dim=1, return_inverse=True)
    for number, pattern_N in enumerate(patterns_NP.T):
        if pattern_N.any():
            columns = (pattern_K == number).nonzero()[:, 0]
            labels_nk = label_NK[pattern_N][:, columns].to(near_MN)
            close_Mv, voter_Mv = near_MN[:, pattern_N].topk(min(max(counts), len(labels_nk)), dim=1)
            for score_MK, count in zip(score_GMK, counts, strict=True):
                weight_Mv = (close_Mv[:, :count] / temperature).softmax(dim=1)
                score_MK[:, columns] = torch.einsum("mv,mvk->mk", weight_Mv, labels_nk[voter_Mv[:, :count]])
    return score_GMK


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
    return learn(bank_ND, label_NK, task, [penalty])[0](query_MD)


@dataclass(frozen=True)
class Linear:
    """A linear probe.

    Args:
        mean_D: Of the features that it learned from.
        scale_D: Their deviation; infinite where they are constant.
        weight_DK: Of features so standardised.
        bias_K: Of the classes.
    """

    mean_D: Tensor
    scale_D: Tensor
    weight_DK: Tensor
    bias_K: Tensor

    def __call__(self, query_MD: Tensor) -> Tensor:
        """Logits score_MK of features."""
        query_MD = (query_MD.double().cpu() - self.mean_D) / self.scale_D
        return (query_MD @ self.weight_DK + self.bias_K).float()


def learn(bank_ND: Tensor, label_NK: Tensor, task: Task, penalties: Sequence[float]) -> list[Linear]:
    """The linear probes of several penalties; see `linear`. From the strongest to the weakest each starts at the one
    before, which is near."""
    known_NK = ~label_NK.isnan()
    if task == "multiclass":
        rows_N = known_NK.all(dim=1)
        bank_ND, label_NK, known_NK = bank_ND[rows_N], label_NK[rows_N], known_NK[rows_N]
    bank_ND = bank_ND.double().cpu()
    deviation_D, mean_D = torch.std_mean(bank_ND, dim=0, correction=0)
    scale_D = torch.where(deviation_D > 1e-12, deviation_D, torch.inf)
    target_NK, feature_ND = label_NK.double().cpu().nan_to_num(), (bank_ND - mean_D) / scale_D
    start, found = None, {}
    for penalty in sorted(set(penalties), reverse=True):
        start = fit(feature_ND, target_NK, known_NK.cpu(), task, penalty, start)
        found[penalty] = Linear(mean_D, scale_D, *start)
    return [found[penalty] for penalty in penalties]


def fit(
    feature_ND: Tensor,
    target_NK: Tensor,
    known_NK: Tensor,
    task: Task,
    penalty: float,
    start: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Weights (D, K) and biases (K) of the logistic regression, looked for from a start or from 0; see `linear`."""
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
        width, classes = feature_ND.shape[1], target_NK.shape[1]
        zeros = torch.zeros(width, classes, dtype=torch.float64), torch.zeros(classes, dtype=torch.float64)
        weight_DK, bias_K = (value.clone().requires_grad_() for value in start or zeros)
        solver = torch.optim.LBFGS(
            [weight_DK, bias_K], max_iter=STEPS, tolerance_grad=1e-6, history_size=20, line_search_fn="strong_wolfe"
        )
        solver.step(objective)
    return weight_DK.detach(), bias_K.detach()


def both_outcomes(label_N: Tensor) -> bool:
    """Whether films with and without a class are known."""
    return bool((label_N == 1).any() and (label_N == 0).any())
