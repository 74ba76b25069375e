"""What the loader hands to a method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import torch
from torch import Tensor


class Batch(TypedDict):
    """What a method gets."""

    image: Tensor  # uint8 (B, C, H, W)
    label: Tensor  # float32 (B, K): 1, 0, NaN unknown
    index: Tensor  # int64 (B,) manifest row
    views: NotRequired[list[Tensor]]  # all of a film, each uint8 (B, C, h, w): first the image, small crops last
    unreadable: NotRequired[list[str]]  # why films are missing; taken out by the loader


def collate(batches: Sequence[Batch]) -> Batch:
    """Puts batches one behind the other; the loader gives a single one, which passes."""
    if len(batches) == 1:
        return batches[0]
    joined: Batch = {
        "image": torch.cat([batch["image"] for batch in batches]),
        "label": torch.cat([batch["label"] for batch in batches]),
        "index": torch.cat([batch["index"] for batch in batches]),
    }
    if "views" in batches[0]:
        joined["views"] = [torch.cat(same) for same in zip(*(batch["views"] for batch in batches), strict=True)]
    problems = [problem for batch in batches for problem in batch.get("unreadable", [])]
    return {**joined, "unreadable": problems} if problems else joined
