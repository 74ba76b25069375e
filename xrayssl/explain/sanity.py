"""Whether maps depend on what a network has learned, and whether another training would give the same ones.

Cascading randomisation of weights: Adebayo et al. 2018 (arXiv:1810.03292). Similarities are Spearman's and Pearson's
correlations, film by film. SSIM, which the paper adds, is not among them: its usual window of 11 pixels is wider than
the 7 x 7 cells of a CNN, and at the size of the film it would judge the enlargement.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.stats import rankdata
from timm.models import group_parameters
from torch import Tensor, nn

from xrayssl.backbone import Backbone
from xrayssl.explain.regions import area_mean
from xrayssl.explain.statistics import flat, normalised
from xrayssl.statistics.resampling import Floats, ratio

INSIDE = "backbone.network."
Similarity = Callable[[ArrayLike, ArrayLike], Floats]


def cascading(model: nn.Module, seed: int = 0) -> Iterator[tuple[str, Any]]:
    """Copies of a classifier whose weights are lost from the head downwards, one stage more in each.

    A stage becomes what it is in a new network of timm, batch norm's statistics included: starts that are made layer by
    layer, by torch's `reset_parameters`, shrink the grid of an EfficientNet-Lite0 by 10^8. The layers of the head have
    their entries shuffled.

    Args:
        model: With a `Backbone` as its `backbone`; it stays as it is.
        seed: The same one gives the same weights.

    Yields:
        What is lost in addition, and the copy: "head" (all above the backbone), then the stages of a CNN or blocks of a
        ViT as timm counts them, such as "stage 4" to "stage 1", and "stem".
    """
    new = _new_weights(model, seed)
    for stage, names in _stages(model):
        model = copy.deepcopy(model)
        _replace(model, {name: new[name] for name in names})
        yield stage, model


def randomised(model: nn.Module, seed: int = 0) -> Any:
    """A copy of a classifier with nothing left of what it learned, the last of `cascading`: the null of what an
    architecture shows by itself.

    What an untrained network says is much the same for every film, so that all maps of a class may be empty: take
    several seeds.
    """
    new, stages, model = _new_weights(model, seed), _stages(model), copy.deepcopy(model)
    _replace(model, {name: new[name] for _, names in stages for name in names})
    return model


def _stages(model: Any) -> list[tuple[str, list[str]]]:
    """Names of the tensors of every stage, from the head downwards."""
    network, state = model.backbone.network, model.state_dict()
    groups = group_parameters(network, network.group_matcher(coarse=True))
    named = {f"stage {number}" if number else "stem": groups[number] for number in sorted(groups, reverse=True)}
    stages = {"head": [name for name, _ in model.named_parameters() if not name.startswith(INSIDE)]}
    stages |= {stage: [INSIDE + name for name in names] for stage, names in named.items()}
    layers = {stage: {_layer(name) for name in names} for stage, names in stages.items()}
    return [(stage, [name for name in state if _layer(name) in inside]) for stage, inside in layers.items() if inside]


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _new_weights(model: Any, seed: int) -> dict[str, Tensor]:
    """Tensors to take in place of the classifier's, by their names."""
    old, drawn = model.backbone, torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        new = Backbone(old.architecture, old.img_size, old.in_chans).network.state_dict()
    state = {name: value.cpu() for name, value in model.state_dict().items() if not name.startswith(INSIDE)}
    shuffled = {
        name: value.flatten()[torch.randperm(value.numel(), generator=drawn)].view(value.shape)
        for name, value in state.items()
    }
    return shuffled | {INSIDE + name: value for name, value in new.items()}


@torch.no_grad()
def _replace(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    state = model.state_dict()
    for name, value in tensors.items():
        state[name].copy_(value)


def pearson(map_Nhw: ArrayLike, other_Nhw: ArrayLike) -> Floats:
    """Pearson's correlation of two maps of each film over the cells, NaN where one of them is constant: (N,).

    Raises:
        ValueError: If the maps have different grids; `agreement` takes them.
    """
    return _correlation(*_flat(map_Nhw, other_Nhw))


def spearman(map_Nhw: ArrayLike, other_Nhw: ArrayLike) -> Floats:
    """Spearman's rank correlation of two maps of each film over the cells, NaN where one of them is constant: (N,).

    Equal cells share their mean rank.

    Raises:
        ValueError: If the maps have different grids; `agreement` takes them.
    """
    return _correlation(*(rankdata(value_NL, axis=1) for value_NL in _flat(map_Nhw, other_Nhw)))


def _flat(*maps: ArrayLike) -> list[Floats]:
    """Maps as (N, L), 0 where empty."""
    density = [np.nan_to_num(normalised(one)).round(12) for one in maps]  # means over areas leave equal cells nearly so
    if density[0].shape != density[1].shape:
        raise ValueError(
            f"Maps of the same films and grid are compared, not {density[0].shape} and {density[1].shape}."
        )
    return [flat(one) for one in density]


def _correlation(one_NL: Floats, other_NL: Floats) -> Floats:
    varies_N = (np.ptp(one_NL, axis=1) > 0) & (np.ptp(other_NL, axis=1) > 0)
    away, other = (value_NL - value_NL.mean(axis=1, keepdims=True) for value_NL in (one_NL, other_NL))
    spread_N = np.sqrt((away**2).sum(axis=1) * (other**2).sum(axis=1))
    return np.where(varies_N, ratio((away * other).sum(axis=1), spread_N).clip(-1, 1), np.nan)


def repeatability(map_SNhw: ArrayLike, similarity: Similarity = spearman) -> Floats:
    """How alike the maps of several trainings are, film by film: the mean over their pairs (N,).

    Networks that look at the same place of every film are alike, too: compare with `similarity` to the maps of other
    patients' films (`nulls.other_patients`). Pairs of which one is empty are left out; NaN where all are.

    Args:
        map_SNhw: Of S seeds, 2 or more.
        similarity: Of two maps of each film.

    Raises:
        ValueError: If there is but one seed.
    """
    maps = list(np.asarray(map_SNhw))
    if len(maps) < 2:
        raise ValueError(f"Repeatability is of the maps of two trainings or more, not {len(maps)}.")
    pair_PN = np.stack([similarity(one, other) for one, other in combinations(maps, 2)])
    return ratio(np.nansum(pair_PN, axis=0), (~np.isnan(pair_PN)).sum(axis=0))


def agreement(map_Nhw: ArrayLike, other_Nij: ArrayLike, similarity: Similarity = spearman) -> Floats:
    """How alike the maps of two architectures are, film by film (N,), at the coarser of their grids.

    The finer map becomes the coarser by means over areas. See `repeatability` for the null.

    Args:
        map_Nhw: Raw.
        other_Nij: Of the same films, at any grid.
        similarity: Of two maps of each film.
    """
    grids = np.shape(map_Nhw)[1:], np.shape(other_Nij)[1:]
    coarser = min(grids[0][0], grids[1][0]), min(grids[0][1], grids[1][1])
    return similarity(area_mean(map_Nhw, coarser), area_mean(other_Nij, coarser))
