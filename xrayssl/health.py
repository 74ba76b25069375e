"""Whether embeddings still tell films apart: spread, effective rank, alignment and uniformity. Nothing here is random.

All take embeddings as they come, float (N, D) of N films, and compute in double precision.

Where a collapse begins was measured on 64-256 NIH validation films of 64 px (the hour's MAE: of 224 px), in trainings
with batches of 32-64 films at a rate of 1e-3; features are not centred, as in the papers:

| mean-pooled grid | std | rank |
|---|---|---|
| random ViT-Tiny, ResNet-18, DenseNet-121 (256 films) | 0.72-0.73, 0.17-0.18, 0.07-0.10 | 34-36, 17-18, 8-12 |
| the same with batch statistics of films | -, 0.15-0.18, 0.33-0.37 | -, 19-22, 42-56 |
| contrastive (NT-Xent), 120 steps, ViT-Tiny; 30, ResNet-18 | 0.37; 0.50 | 8.5; 54 |
| rotation, 60 steps, ResNet-18 | 0.25 | 32 |
| MAE, ViT-S/16, an hour | 0.45 | 20 |
| alignment alone, ViT-Tiny, 5, 10, 20 steps | 0.064, 0.037, 0.027 | 2.6, 2.0, 1.7 |
| alignment alone through a head with batch norm, ViT-Tiny, 30 steps | 0.82 | 3.2 |
| MAE, ViT-Tiny, steps 10-120 | 0.038-0.060 | 2.0-2.5 |

Untrained networks have little spread and low rank on films that resemble each other, so the deviation is also compared
with that before the training. A masked autoencoder may be where the last row is and come out of it, so one measurement
is no verdict. In backbones with batch norm a collapse shows behind them: alignment alone leaves ResNet-18 at 0.43 and
DenseNet-121 at 0.55 while the loss is down to 0.0002. The embeddings' own deviation then falls from 0.11 to 0.009
(DenseNet-121; behind the ViT of the row before the last, from 0.58 to 0.023), where contrastive training raises
it to 0.55 (ResNet-18).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import isfinite, nan
from typing import Literal

import torch
from torch import Tensor, nn

REMEDY = (
    "Where the method has --model.variance, give it a weight above 0; else lower --model.optim.lr, warm up longer "
    "(--model.optim.warmup_epochs), and give the views more jitter (--data.augment.brightness, .contrast, .gamma)."
)
FEW = 16  # films, of fewer nothing is concluded
State = Literal["unknown", "sound", "doubtful", "point", "line", "head", "broken"]
COLLAPSES = ("point", "line", "head")
SHARE = 0.1  # of the standard deviation before the training
FADED = 0.25  # of the standard deviation and of the rank before the training: nothing has collapsed, much is gone
LEAST_STD = 0.05
LEAST_RANK = 3.0
TEMPERATURE = 2.0  # of the uniformity: t of Wang & Isola
POWER = 2  # of the alignment: their alpha


@dataclass(frozen=True)
class Health:
    """Figures of the embeddings of some films; NaN for all of them where an embedding is not finite.

    Args:
        std: See `spread`.
        rank: See `effective_rank`.
        alignment: See `alignment`.
        uniformity: See `uniformity`.
        embedding_std: `spread` of what the loss compares, behind the backbone; None where it compares nothing.
    """

    std: float
    rank: float
    alignment: float
    uniformity: float
    embedding_std: float | None = None

    @property
    def finite(self) -> bool:
        """Whether there are figures."""
        return all(value is None or isfinite(value) for value in asdict(self).values())


FIGURES = tuple(field.name for field in fields(Health))


def health(film_ND: Tensor, first_ND: Tensor, second_ND: Tensor, compared_NE: Tensor | None = None) -> Health:
    """All figures at once.

    Args:
        film_ND: Embeddings of whole films.
        first_ND: Embeddings of a random view of each.
        second_ND: Embeddings of another random view of each, in the same order.
        compared_NE: What the loss compares, of whole films.
    """
    known = [part for part in (film_ND, first_ND, second_ND, compared_NE) if part is not None]
    behind = None if compared_NE is None else nan
    if not all(bool(part.isfinite().all()) for part in known):
        return Health(nan, nan, nan, nan, behind)
    behind = None if compared_NE is None else spread(compared_NE)
    return Health(spread(film_ND), effective_rank(film_ND), alignment(first_ND, second_ND), uniformity(film_ND), behind)


def spread(embedding_ND: Tensor) -> float:
    """Standard deviation of L2-normalised embeddings, in the mean over their D features, times sqrt(D) (Chen & He 2020,
    arXiv:2011.10566, section 4.1).

    Returns:
        0 where all films are one point, 1 where they lie evenly in all directions.
    """
    deviation_D = _on_sphere(embedding_ND).std(dim=0, correction=0)
    return float(deviation_D.mean() * len(deviation_D) ** 0.5)


def effective_rank(embedding_ND: Tensor) -> float:
    """RankMe: the exponential of the entropy of the singular values' shares in their sum (Garrido et al. 2022,
    arXiv:2210.02885, eq. 1), without its epsilon, which 0 log 0 = 0 makes needless.

    Returns:
        From 1 (all films on one line through the origin) to min(N, D); 1 also where every embedding is 0.
    """
    value_K = torch.linalg.svdvals(embedding_ND.double())
    share_K = value_K / value_K.sum().clamp(min=torch.finfo(torch.float64).tiny)
    return float(torch.exp(-torch.special.xlogy(share_K, share_K).sum()))


def alignment(first_ND: Tensor, second_ND: Tensor) -> float:
    """Mean squared distance between two views of a film, of L2-normalised embeddings (Wang & Isola 2020,
    arXiv:2005.10242, eq. 1, alpha = 2).

    Returns:
        From 0 (the views of a film are one point) to 4; about 2 where views have nothing in common.
    """
    apart_ND = _on_sphere(first_ND) - _on_sphere(second_ND)
    return float(apart_ND.norm(dim=1).pow(POWER).mean())


def uniformity(embedding_ND: Tensor) -> float:
    """Logarithm of the mean Gaussian potential exp(-2 d^2) over all pairs of films, of L2-normalised embeddings (Wang &
    Isola 2020, arXiv:2005.10242, eq. 2, t = 2).

    Returns:
        0 where all films are one point, down to about -4 where they lie evenly in all directions.
    """
    squared_M = nn.functional.pdist(_on_sphere(embedding_ND)).square()
    return float(torch.exp(-TEMPERATURE * squared_M).mean().log())


def _on_sphere(embedding_ND: Tensor) -> Tensor:
    return nn.functional.normalize(embedding_ND.double(), dim=1)


@dataclass(frozen=True)
class Verdict:
    """Whether a representation has collapsed.

    Args:
        state: "sound"; "point" (all films are one point), "line" (they lie on one line), "head" (what the loss compares
            is one point, the features are not); "doubtful" (one of these, but not at the time before; or a quarter of
            what the network had before the training); "broken" (features that are not finite); or "unknown".
        words: The same in a sentence, with the figure and since when.
    """

    state: State
    words: str

    @property
    def collapsed(self) -> bool:
        """Whether something must be done."""
        return self.state == "broken" or self.state in COLLAPSES


def judge(history: Mapping[int, Health], films: int | None = None, ended: bool = False) -> Verdict:
    """Judges a representation by its figures over the training.

    Args:
        history: Figures by the number of completed epochs; those of 0 are from before the training.
        films: How many they were measured on, where that is known.
        ended: The training has, so that there will be no further measurement.
    """
    if not history or (films is not None and films < FEW):
        return Verdict("unknown", f"Too few films to judge the representation: {films or 0}, of {FEW} needed.")
    start, states = history.get(0), {epochs: _state(history[epochs], history.get(0)) for epochs in sorted(history)}
    *earlier, last = states
    now, since = states[last], last
    fallen = now == "doubtful"  # far below its start, which no second measurement makes a collapse
    for epochs in reversed(earlier):
        if states[epochs] != now:
            break
        since = epochs
    if now in COLLAPSES and not (earlier and states[earlier[-1]] in COLLAPSES):
        now = "doubtful"
    return Verdict(now, _words(now, history[last], start if last else None, since, ended, fallen))


def _state(now: Health, start: Health | None) -> State:
    if not now.finite:
        return "broken"
    if now.std < _least(start.std if start else None):
        return "point"
    if now.rank < LEAST_RANK:
        return "line"
    if now.embedding_std is not None and now.embedding_std < _least(start.embedding_std if start else None):
        return "head"
    return "doubtful" if start and now.std < FADED * start.std and now.rank < FADED * start.rank else "sound"


def _least(before: float | None) -> float:
    """The standard deviation below which all films count as one point."""
    return max(LEAST_STD, SHARE * before) if before is not None and isfinite(before) else LEAST_STD


def _words(state: State, now: Health, start: Health | None, since: int, ended: bool, fallen: bool) -> str:
    when = f"since epoch {since}" if since else "from the start"
    was = f", {start.std:.2g} before the training (rank {start.rank:.3g})" if start else ""
    again = "" if fallen else "; if the next measurement finds the same, it is a collapse"
    hope = "The training ended so: a collapse, or on its way to one." if ended else (
        f"Early in a training this may pass{again}."
    )  # fmt: skip
    return {
        "unknown": "",
        "sound": f"Films are told apart: {_figures(now)}{was}.",
        "doubtful": f"Films are hardly told apart: {_figures(now)}{was}. {hope}",
        "point": f"The representation has collapsed to a point {when}: health/std is {now.std:.2g}{was}, so all films "
        "get nearly the same features.",
        "line": f"The representation has collapsed to a line {when}: health/rank is {now.rank:.3g}, so films differ in "
        "one direction only.",
        "head": f"The embeddings that the loss compares have collapsed to a point {when}: health/embedding_std is "
        f"{now.embedding_std or 0:.2g}, so nothing more is learned, although the backbone still tells films apart.",
        "broken": f"The representation is broken {when}: features are not finite, the training has diverged.",
    }[state]


def _figures(now: Health) -> str:
    behind = "" if now.embedding_std is None else f", of the embeddings {now.embedding_std:.2g}"
    return f"effective rank {now.rank:.3g}, standard deviation {now.std:.2g}{behind}"
