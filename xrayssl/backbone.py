"""Any timm network as one thing: a film goes in, a grid of features comes out, for CNN and ViT alike."""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.layers import PatchEmbed, resample_abs_pos_embed
from timm.models import checkpoint_seq
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xrayssl import networks
from xrayssl.errors import UserError
from xrayssl.patches import gather, patchify

ENCODINGS = ("encode_visible", "encode_masked", "encode_layers")  # what masked methods call beside `forward`


class Backbone(nn.Module):
    """A timm network whose last feature map is its output.

    Args:
        architecture: Name of a timm model.
        img_size: Height and width in pixels; an int means a square.
        in_chans: Channels of a film; timm folds the weights of RGB networks into one channel.
        drop_path: Rate of stochastic depth (Huang et al. 2016), 0-1.
        pretrained: Take timm's weights, and its mean and standard deviation (goes online, or to the local cache).
        mean: Of the grey values scaled to 0-1, subtracted by `normalize`.
        std: Of the grey values scaled to 0-1.

    Raises:
        UserError: If timm knows no such network, or it has no `forward_intermediates`.
    """

    network: Any
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        architecture: str,
        img_size: int | tuple[int, int] = 224,
        in_chans: int = 1,
        drop_path: float = 0.0,
        pretrained: bool = False,
        mean: float = 0.5,
        std: float = 0.25,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.in_chans = in_chans
        self.img_size = (img_size, img_size) if isinstance(img_size, int) else (img_size[0], img_size[1])
        self.network = networks.create(architecture, self.img_size, in_chans, drop_path, pretrained)
        if not self.is_vit:
            self.network.to(memory_format=torch.channels_last)  # convolutions are 1.3 times as fast, on GPUs too
        self.grid = nn.Identity()
        if pretrained:
            mean, std = networks.grey_statistics(self.network)
        self.register_buffer("mean", torch.full((in_chans,), mean), persistent=False)
        self.register_buffer("std", torch.full((in_chans,), std), persistent=False)
        self.width, self.grid_size = self._observe()

    def normalize(self, image_BCHW: Tensor) -> Tensor:
        """uint8 grey values 0-255 to floats of about zero mean and unit variance; floats are taken as 0-1."""
        white = 255 if image_BCHW.dtype == torch.uint8 else 1
        mean, std = self.mean[:, None, None], self.std[:, None, None]
        return (image_BCHW * (1 / (white * std))).sub_(mean / std)  # two passes over the batch, not four

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """The last feature map of normalised films, after the network's final norm: grid_BDhw.

        Films may have another size than `img_size` where `check_size` says nothing against it: a ViT's positions are
        resampled (Dosovitskiy et al. 2020, arXiv:2010.11929, section 3.2).
        """
        if self.is_vit and image_BCHW.shape[-2:] != self.img_size:
            return self.grid(self._resampled(image_BCHW))
        (grid_BDhw,) = self.network.forward_intermediates(
            image_BCHW, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return self.grid(grid_BDhw)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Runs `forward` and the encoding of patches through torch.compile; names and weights stay as they are."""
        super().compile(*args, **kwargs)
        for name in ENCODINGS:
            setattr(self, name, torch.compile(getattr(self, name), *args, **kwargs))

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out what is compiled, which belongs to this network: a copy would run this one's weights."""
        return {name: value for name, value in super().__getstate__().items() if name not in ENCODINGS}

    @property
    def tag(self) -> str:
        """Name of the network with the tag of timm's pretrained weights."""
        config = self.network.pretrained_cfg
        return f"{self.architecture}.{config['tag']}" if config.get("tag") else self.architecture

    @property
    def is_vit(self) -> bool:
        """Whether the network can encode a part of its patches."""
        vit = self.network
        plain = isinstance(vit, VisionTransformer) and vit.pos_embed is not None and type(vit.patch_embed) is PatchEmbed
        return plain and vit.num_prefix_tokens == _prefix(vit).shape[1]

    @property
    def patch_size(self) -> tuple[int, int]:
        """Height and width of a ViT's patch in pixels.

        Raises:
            ValueError: If the network is no ViT.
        """
        height, width = self._vit().patch_embed.patch_size
        return int(height), int(width)

    def check_size(self, name: str, size: tuple[int, int]) -> None:
        """Whether the network can see films, tiles or crops of a size, in pixels, beside those of `img_size`.

        Args:
            name: What the error calls them, such as "Tiles".
            size: Height and width in pixels.

        Raises:
            UserError: If it cannot.
        """
        if not self.is_vit and getattr(timm.get_pretrained_cfg(self.architecture), "fixed_input_size", False):
            raise UserError(
                f"{self.architecture} sees films of one size only, so {name.lower()} of {size[0]} x {size[1]} px are "
                "none for it; take a plain ViT such as vit_small_patch16_224, or a CNN."
            )
        if size != self.img_size:
            networks.check(self.architecture, size, self.network, name)

    def encode_visible(self, image_BCHW: Tensor, visible_BV: Tensor) -> Tensor:
        """Encodes only some patches; the others are never embedded (He et al. 2021, arXiv:2111.06377, section 3).

        Args:
            image_BCHW: Normalised films.
            visible_BV: Numbers of the patches to encode, in raster order.

        Returns:
            tokens_BSD after the final norm: class and register tokens first, S = T + V.

        Raises:
            ValueError: If the network is no ViT with learned or fixed positions.
        """
        return self._encode(self._embed(image_BCHW, visible_BV))

    def encode_layers(self, image_BCHW: Tensor, visible_BV: Tensor) -> list[Tensor]:
        """What goes into the first block and comes out of each; the last is what `encode_visible` gives.

        See `encode_visible` for the arguments, the shape of each map, and the error.
        """
        vit, maps = self._vit(), [self._sequence(self._embed(image_BCHW, visible_BV))]
        again = vit.grad_checkpointing and torch.is_grad_enabled()
        for block in vit.blocks:
            maps.append(checkpoint(block, maps[-1], use_reentrant=False) if again else block(maps[-1]))
        return [*maps[:-1], vit.norm(maps[-1])]

    def encode_masked(
        self, image_BCHW: Tensor, visible_BV: Tensor, hidden_BM: Tensor, mask_token_11D: Tensor
    ) -> Tensor:
        """Encodes all patches, a learned token in place of each hidden one (He et al. 2021, table 1c).

        Args:
            image_BCHW: Normalised films.
            visible_BV: Numbers of the patches to see, in raster order.
            hidden_BM: Numbers of the others.
            mask_token_11D: Stands for a hidden patch; its position is added.

        Returns:
            tokens_BSD after the final norm: class and register tokens, visible patches, then hidden ones.

        Raises:
            ValueError: If the network is no ViT with learned or fixed positions.
        """
        seen_BVD = self._embed(image_BCHW, visible_BV)
        _, position_1LD = self._positions(self._vit())
        unseen_BMD = (mask_token_11D + gather(position_1LD, hidden_BM)).to(seen_BVD.dtype)
        return self._encode(torch.cat([seen_BVD, unseen_BMD], dim=1))

    def _embed(self, image_BCHW: Tensor, visible_BV: Tensor) -> Tensor:
        """The visible patches, embedded, with their positions: tokens_BVD."""
        patches_BVP = gather(patchify(image_BCHW, self.patch_size), visible_BV)
        return self._project(patches_BVP) + gather(self._positions(self._vit())[1], visible_BV)

    def _project(self, patches_BVP: Tensor) -> Tensor:
        """Patches as tokens, without positions."""
        embed = self._vit().patch_embed
        return embed.norm(nn.functional.linear(patches_BVP, embed.proj.weight.flatten(1), embed.proj.bias))

    def _resampled(self, image_BCHW: Tensor) -> Tensor:
        """The grid of films of another size."""
        vit, patch = self._vit(), self.patch_size
        rows, columns = image_BCHW.shape[-2] // patch[0], image_BCHW.shape[-1] // patch[1]
        position_1LD = resample_abs_pos_embed(
            self._positions(vit)[1], [rows, columns], list(vit.patch_embed.grid_size), num_prefix_tokens=0
        )
        tokens_BLD = self._project(patchify(image_BCHW, patch)) + position_1LD
        encoded_BSD = self._encode(tokens_BLD)
        return encoded_BSD[:, -rows * columns :].transpose(1, 2).unflatten(2, (rows, columns))

    def _encode(self, tokens_BVD: Tensor) -> Tensor:
        """Puts class and register tokens first, and runs the blocks."""
        vit, sequence_BSD = self._vit(), self._sequence(tokens_BVD)
        again = vit.grad_checkpointing and torch.is_grad_enabled()
        return vit.norm(checkpoint_seq(vit.blocks, sequence_BSD) if again else vit.blocks(sequence_BSD))

    def _sequence(self, tokens_BVD: Tensor) -> Tensor:
        vit = self._vit()
        prefix_1TD = self._positions(vit)[0].expand(len(tokens_BVD), -1, -1).to(tokens_BVD.dtype)
        return vit.norm_pre(vit.pos_drop(torch.cat([prefix_1TD, tokens_BVD], dim=1)))

    def _vit(self) -> VisionTransformer:
        if not self.is_vit:
            raise ValueError(
                f"{self.architecture} cannot encode single patches; take a ViT, such as --model.backbone "
                "vit_small_patch16_224, or for a CNN the method MaskedCNNPretrain (--config spark_chest)."
            )
        return self.network

    @staticmethod
    def _positions(vit: VisionTransformer) -> tuple[Tensor, Tensor]:
        """Class and register tokens with their positions (1, T, D), and the positions of the patches (1, L, D)."""
        prefix_1TD = _prefix(vit)
        count = prefix_1TD.shape[1]
        if vit.no_embed_class or not count:
            return prefix_1TD, vit.pos_embed
        return prefix_1TD + vit.pos_embed[:, :count], vit.pos_embed[:, count:]

    @torch.enable_grad()
    def _observe(self) -> tuple[int, tuple[int, int]]:
        """Width and grid as they come out (EfficientNet-B0 gives 320 here while timm's num_features says 1280).

        What the grid does not pass through, such as a norm before a classifier, is not trained: training on several
        devices waits for the gradient of every parameter that is.
        """
        training, trained = self.training, [one for one in self.parameters() if one.requires_grad]
        grid_1Dhw = self.eval()(torch.zeros(1, self.in_chans, *self.img_size))
        self.train(training)
        gradients = torch.autograd.grad(grid_1Dhw.sum(), trained, allow_unused=True)
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.requires_grad_(gradient is not None)
        return int(grid_1Dhw.shape[1]), (int(grid_1Dhw.shape[2]), int(grid_1Dhw.shape[3]))


def _prefix(vit: VisionTransformer) -> Tensor:
    """Class and register tokens (1, T, D)."""
    tokens = [token for token in (vit.cls_token, vit.reg_token) if token is not None]
    return torch.cat(tokens, dim=1) if tokens else vit.pos_embed[:, :0]
