"""Baselines of `methods.py` made of lightly's parts: MoCo, BYOL, SwAV, SimCLR and MAE.

They are put together as lightly's documentation does: its heads, losses, memory bank and `update_momentum`, every view
through the network by itself, the copy moved before the step. Widths, queue, temperatures, decoder and number of
channels are those of our methods.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from lightly.loss import NegativeCosineSimilarity, NTXentLoss, SwaVLoss
from lightly.models import utils
from lightly.models.modules import (
    BYOLPredictionHead,
    BYOLProjectionHead,
    MaskedVisionTransformerDecoderTIMM,
    MaskedVisionTransformerTIMM,
    MoCoProjectionHead,
    SimCLRProjectionHead,
    SwaVProjectionHead,
    SwaVPrototypes,
)
from lightly.models.modules.memory_bank import MemoryBankModule
from plain_methods import Batch, Case, network
from torch import Tensor, nn


class LightlyMoCo(nn.Module):
    """Momentum contrast with a queue."""

    def __init__(self, case: Case, shared: bool) -> None:
        super().__init__()
        self.backbone = network(case.network, case.size, shared)
        width = self.backbone.num_features
        self.head = MoCoProjectionHead(width, width, 128)
        self.slow_backbone, self.slow_head = deepcopy(self.backbone), deepcopy(self.head)
        utils.deactivate_requires_grad(self.slow_backbone)
        utils.deactivate_requires_grad(self.slow_head)
        self.criterion = NTXentLoss(0.2, memory_bank_size=(case.queue, 128))

    def forward(self, batch: Batch) -> Tensor:
        """The loss."""
        utils.update_momentum(self.backbone, self.slow_backbone, m=0.999)
        utils.update_momentum(self.head, self.slow_head, m=0.999)
        one, two = batch["views"][:2]
        query = self.head(self.backbone(one).flatten(start_dim=1))
        key = self.slow_head(self.slow_backbone(two).flatten(start_dim=1)).detach()
        return self.criterion(query, key)


class LightlyBYOL(nn.Module):
    """Bootstrapped latents."""

    def __init__(self, case: Case, shared: bool) -> None:
        super().__init__()
        self.backbone = network(case.network, case.size, shared)
        self.head = BYOLProjectionHead(self.backbone.num_features, 4096, 256)
        self.predict = BYOLPredictionHead(256, 4096, 256)
        self.slow_backbone, self.slow_head = deepcopy(self.backbone), deepcopy(self.head)
        utils.deactivate_requires_grad(self.slow_backbone)
        utils.deactivate_requires_grad(self.slow_head)
        self.criterion = NegativeCosineSimilarity()

    def forward(self, batch: Batch) -> Tensor:
        """The loss."""
        utils.update_momentum(self.backbone, self.slow_backbone, m=0.996)
        utils.update_momentum(self.head, self.slow_head, m=0.996)
        predicted, wanted = [], []
        for view in batch["views"][:2]:
            predicted.append(self.predict(self.head(self.backbone(view).flatten(start_dim=1))))
            wanted.append(self.slow_head(self.slow_backbone(view).flatten(start_dim=1)).detach())
        return 0.5 * (self.criterion(predicted[0], wanted[1]) + self.criterion(predicted[1], wanted[0]))


class LightlySwAV(nn.Module):
    """Swapped assignments of two views and small crops, with a queue for each view."""

    def __init__(self, case: Case, shared: bool) -> None:
        super().__init__()
        self.backbone = network(case.network, case.size, shared, sizes=True)
        self.head = SwaVProjectionHead(self.backbone.num_features, 2048, 128)
        self.prototypes = SwaVPrototypes(128, case.prototypes)
        self.queues = nn.ModuleList(MemoryBankModule((case.earlier, 128)) for _ in range(2))
        self.criterion = SwaVLoss()

    def forward(self, batch: Batch) -> Tensor:
        """The loss."""
        self.prototypes.normalize()
        embedded = [
            nn.functional.normalize(self.head(self.backbone(view).flatten(start_dim=1)), dim=1)
            for view in batch["views"]
        ]
        scores = [self.prototypes(one) for one in embedded]
        with torch.no_grad():
            earlier = [queue(one, update=True)[1] for queue, one in zip(self.queues, embedded[:2], strict=True)]
            queued = [self.prototypes(one.T) for one in earlier]
        return self.criterion(scores[:2], scores[2:], queued)


class LightlySimCLR(nn.Module):
    """Two views of a film against all others of the batch; the head without batch norm, as ours."""

    def __init__(self, case: Case, shared: bool) -> None:
        super().__init__()
        self.backbone = network(case.network, case.size, shared)
        self.head = SimCLRProjectionHead(self.backbone.num_features, 512, 128, batch_norm=False)
        self.criterion = NTXentLoss(0.1)

    def forward(self, batch: Batch) -> Tensor:
        """The loss."""
        return self.criterion(*(self.head(self.backbone(view).flatten(start_dim=1)) for view in batch["views"][:2]))


class LightlyMAE(nn.Module):
    """A masked autoencoder: 75 % hidden, eight decoder blocks of 512."""

    def __init__(self, case: Case, shared: bool) -> None:
        super().__init__()
        made = network(case.network, case.size, shared)
        vit = made.backbone.network if shared else made
        self.patch = vit.patch_embed.patch_size[0]
        self.encoder = MaskedVisionTransformerTIMM(vit=vit)
        self.embed = nn.Linear(vit.embed_dim, 512)
        self.decoder = MaskedVisionTransformerDecoderTIMM(vit.patch_embed.num_patches, 512, depth=8, num_heads=16)
        self.predict = nn.Linear(512, self.patch**2)
        self.criterion = nn.MSELoss()

    def forward(self, batch: Batch) -> Tensor:
        """The loss."""
        image = batch["image"]
        size = len(image), self.encoder.sequence_length
        keep, hidden = utils.random_token_mask(size=size, mask_ratio=0.75, device=image.device)
        encoded = self.embed(self.encoder.encode(image, idx_keep=keep))
        whole = utils.repeat_token(self.decoder.mask_token, size)
        whole = utils.set_at_index(whole, keep, encoded.type_as(whole))
        predicted = self.predict(utils.get_at_index(self.decoder(whole), hidden))
        wanted = utils.get_at_index(utils.patchify(image, self.patch), hidden - 1)  # patches have no class token
        return self.criterion(predicted, utils.normalize_mean_var(wanted))
