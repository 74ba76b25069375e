"""Embeddings of earlier batches, kept to be compared with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xrayssl.gathering import gather

NOBODY = -1
"""Film of a row that no film has filled yet."""


class MemoryBank(nn.Module):
    """A ring of embeddings in which the newest take the place of the oldest: the queue of MoCo (He et al. 2019,
    arXiv:1911.05722, section 3.2).

    It starts with random directions, the same in every process. What it holds, and whose it is, lies in buffers, so
    that a resumed run has it.

    Args:
        size: N, embeddings that it holds.
        width: E of an embedding.
    """

    embedding_NE: Tensor
    film_N: Tensor
    count: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        start_NE = torch.randn(size, width, generator=torch.Generator().manual_seed(0))
        self.register_buffer("embedding_NE", nn.functional.normalize(start_NE))
        self.register_buffer("film_N", torch.full((size,), NOBODY))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def __len__(self) -> int:
        """N."""
        return len(self.film_N)

    @property
    def filled(self) -> int:
        """Rows that embeddings of films have come into: the first so many."""
        return min(int(self.count), len(self))

    def shorten(self, size: int) -> None:
        """Holds so many from now on, where it held more; before anything is put in."""
        self.embedding_NE, self.film_N = self.embedding_NE[:size].clone(), self.film_N[:size].clone()

    @torch.no_grad()
    def enqueue(self, embedding_BE: Tensor, film_B: Tensor | None = None) -> None:
        """Puts in the embeddings of all processes, in the order of their ranks; of too many, the last ones.

        Args:
            embedding_BE: Of this process's films.
            film_B: Whose they are, as numbers from 0; null where nobody will ask.
        """
        if film_B is None:
            film_B = torch.full((len(embedding_BE),), NOBODY, device=embedding_BE.device)
        embedding_ME, film_M = gather(embedding_BE.float()), gather(film_B)
        place_M = (self.count + torch.arange(len(film_M), device=film_M.device)) % len(self)
        last = slice(max(0, len(film_M) - len(self)), None)
        self.embedding_NE[place_M[last]] = embedding_ME[last]
        self.film_N[place_M[last]] = film_M[last]
        self.count += len(film_M)
