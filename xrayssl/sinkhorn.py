"""Shares films out evenly over prototypes."""

from __future__ import annotations

import torch
from torch import Tensor

from xrayssl.gathering import gather


@torch.no_grad()
def sinkhorn(score_BK: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Codes of films: those that agree best with the scores among those that use all prototypes alike, smoothed by an
    entropy (Caron et al. 2020, arXiv:2006.09882, section 3.1; Cuturi 2013, arXiv:1306.0895, algorithm 1).

    The matrix is normalised by prototypes and by films in turn, over the films of all processes. It is kept as its
    logarithm in float32: exp(1 / 0.05) is beyond what float16 holds, and a sharper epsilon beyond float32.

    Args:
        score_BK: Cosines of this process's films and the prototypes; other processes may have more or fewer films.
        epsilon: Weight of the entropy, > 0: smaller codes are sharper.
        iterations: How often both are normalised, 1 or more. The films come last.

    Returns:
        code_BK, float32; each row sums to 1, and each column nears films / K with every iteration.
    """
    log_BK = score_BK.float() / epsilon
    for _ in range(iterations):
        log_BK = log_BK - gather(log_BK.logsumexp(dim=0, keepdim=True)).logsumexp(dim=0)
        log_BK = log_BK - log_BK.logsumexp(dim=1, keepdim=True)
    return log_BK.exp()
