"""Features in two dimensions: the largest principal components, and UMAP where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xrayssl.errors import UserError

NEIGHBOURS = 15


@dataclass(frozen=True)
class Projection:
    """Films on a plane.

    Args:
        name: "PCA" or "UMAP".
        point_N2: Where each film lies.
        axes: What the two axes say.
    """

    name: str
    point_N2: Tensor
    axes: tuple[str, str]


def pca(feature_ND: Tensor) -> Projection:
    """The two directions in which features differ most, by the eigenvectors of their covariance in double precision.

    A direction's sign, which is arbitrary, is such that its largest entry is positive.

    Args:
        feature_ND: Of at least one film.
    """
    centred_ND = feature_ND.double() - feature_ND.double().mean(dim=0)
    value_D, vector_DD = torch.linalg.eigh(centred_ND.T @ centred_ND / len(centred_ND))
    axis_D2, size_2 = vector_DD[:, -2:].flip(1), value_D[-2:].flip(0).clamp(min=0)
    largest_2 = axis_D2.gather(0, axis_D2.abs().argmax(dim=0, keepdim=True))
    share_2 = size_2 / value_D.clamp(min=0).sum().clamp(min=1e-30)
    axes = [f"principal component {number} ({share:.1%} of the variance)" for number, share in enumerate(share_2, 1)]
    return Projection("PCA", (centred_ND @ (axis_D2 * largest_2.sign())).float(), (axes[0], axes[1]))


def check_umap() -> None:
    """Whether UMAP is there.

    Raises:
        UserError: If it is not.
    """
    spec = importlib.util.find_spec("umap")
    if spec is None or spec.origin is None:  # a folder of that name is no package
        raise UserError("--umap needs the package umap-learn: pip install 'xrayssl[umap]'. PCA needs nothing.")


def umap(feature_ND: Tensor) -> Projection:
    """Neighbourhoods by cosine laid out on a plane (McInnes et al. 2018, arXiv:1802.03426), with a fixed seed.

    Distances between clusters, and their sizes, say nothing.

    Args:
        feature_ND: Of at least 3 films.

    Raises:
        UserError: If umap-learn is not installed, or there are too few films.
    """
    check_umap()
    if len(feature_ND) < 3:
        raise UserError(f"--umap needs 3 films or more, not {len(feature_ND)}.")
    with warnings.catch_warnings():  # about its own dependencies, and the one process that a seed allows
        warnings.simplefilter("ignore")
        module: Any = importlib.import_module("umap")
        neighbours = min(NEIGHBOURS, len(feature_ND) - 1)
        start = "spectral" if len(feature_ND) > NEIGHBOURS else "random"  # spectral needs more films than axes
        layout = module.UMAP(n_neighbors=neighbours, metric="cosine", init=start, random_state=0, n_jobs=1)
        point_N2 = layout.fit_transform(feature_ND.float().numpy())
    return Projection("UMAP", torch.from_numpy(point_N2).float(), ("UMAP 1", "UMAP 2"))
