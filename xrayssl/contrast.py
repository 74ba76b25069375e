"""Losses that compare embeddings of films."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xrayssl.gathering import before, gather


def info_nce(
    query_BE: Tensor, key_BE: Tensor, bank_NE: Tensor, temperature: float, apart_BN: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Picks each query's key out of that key and a bank of others (He et al. 2019, arXiv:1911.05722, equation 1).

    Args:
        query_BE: Embeddings of length 1.
        key_BE: Of the same films, without a gradient.
        bank_NE: Of other films, without a gradient.
        temperature: Divides the cosines, > 0.
        apart_BN: True where a query is not compared with an embedding of the bank, such as an earlier one of its own
            film.

    Returns:
        The mean cross-entropy in nats, and the share of queries whose own key is the most similar.
    """
    own_B1 = (query_BE.float() * key_BE.float()).sum(dim=1, keepdim=True)
    others_BN = cosines(query_BE, bank_NE)
    if apart_BN is not None:
        others_BN.masked_fill_(apart_BN, -torch.inf)
    picked_B = own_B1[:, 0] >= others_BN.detach().amax(dim=1)
    logits_BN = torch.cat([own_B1, others_BN], dim=1).div_(temperature)  # in place: copies of a wide matrix are felt
    right_B = torch.zeros(len(query_BE), dtype=torch.int64, device=query_BE.device)
    return nn.functional.cross_entropy(logits_BN, right_B), picked_B.float().mean()


def nt_xent(one_BE: Tensor, two_BE: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Picks each view's other view out of all views of the films of all processes (Chen et al. 2020,
    arXiv:2002.05709, equation 1 and algorithm 1).

    Args:
        one_BE: Embeddings of length 1 of one view of each film.
        two_BE: Of another view of the same films.
        temperature: Divides the cosines, > 0.

    Returns:
        The mean cross-entropy in nats over this process's 2 B views, whose gradient reaches the views of all
        processes, and the share of views whose partner is the most similar.
    """
    view_ME, films = torch.cat([one_BE, two_BE]), len(one_BE)
    others_NE = gather(view_ME, gradients=True)
    here_M = before(view_ME) + torch.arange(2 * films, device=view_ME.device)
    logits_MN = cosines(view_ME, others_NE) / temperature
    itself_MN = here_M[:, None] == torch.arange(len(others_NE), device=view_ME.device)
    return _picked(logits_MN.masked_fill(itself_MN, -torch.inf), here_M.roll(films))


def variance_hinge(embedding_BE: Tensor, least: float = 1.0) -> Tensor:
    """How far the axes' standard deviations over the films of all processes fall short, in the mean (Bardes et al.
    2021, arXiv:2105.04906, equations 1 and 2).

    Added to a loss, it keeps embeddings apart where films are so alike that a method maps them all to one point.
    Embeddings of length 1 that are spread evenly over the sphere have 1 / sqrt(E) on each axis: multiply those by
    sqrt(E), or the hinge can never be satisfied.

    Args:
        embedding_BE: Embeddings of the films of this process.
        least: Standard deviation that is wanted.

    Returns:
        From 0, all axes are wide enough, to `least`, all films are in one point; 0 of a single film, which has no
        deviation.
    """
    embedding_NE = gather(embedding_BE, gradients=True).float()
    if len(embedding_NE) < 2:
        return 0 * embedding_NE.sum()
    variance_E = embedding_NE.var(dim=0)
    return (least - (variance_E + 1e-4).sqrt()).relu().mean()


def cosines(one_BE: Tensor, two_NE: Tensor) -> Tensor:
    """Scalar products (B, N) in float32, also under autocast: a temperature makes ten errors out of one."""
    with torch.autocast(one_BE.device.type, enabled=False):
        return one_BE.float() @ two_NE.float().T


def _picked(logits_BN: Tensor, right_B: Tensor) -> tuple[Tensor, Tensor]:
    accuracy = (logits_BN.argmax(dim=1) == right_B).float().mean()
    return nn.functional.cross_entropy(logits_BN, right_B), accuracy
