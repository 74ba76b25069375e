"""Any timm network as one thing: a film goes in, a grid of features comes out, for CNN and ViT alike."""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.layers import PatchEmbed
from timm.models import checkpoint_seq
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xrayssl.attention import quicken
from xrayssl.errors import UserError
from xrayssl.patches import gather, patchify


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
        self.network = _create(architecture, self.img_size, in_chans, drop_path, pretrained)
        self.grid = nn.Identity()
        if pretrained:
            mean, std = _grey_statistics(self.network)
        self.register_buffer("mean", torch.full((in_chans,), mean), persistent=False)
        self.register_buffer("std", torch.full((in_chans,), std), persistent=False)
        self.width, self.grid_size = self._observe()

    def normalize(self, image_BCHW: Tensor) -> Tensor:
        """uint8 grey values 0-255 to floats of about zero mean and unit variance; floats are taken as 0-1."""
        white = 255 if image_BCHW.dtype == torch.uint8 else 1
        mean, std = self.mean[:, None, None], self.std[:, None, None]
        return (image_BCHW * (1 / (white * std))).sub_(mean / std)  # two passes over the batch, not four

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """The last feature map of normalised films, after the network's final norm: grid_BDhw."""
        (grid_BDhw,) = self.network.forward_intermediates(
            image_BCHW, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return self.grid(grid_BDhw)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Runs `forward` and the encoding of patches through torch.compile; names and weights stay as they are."""
        super().compile(*args, **kwargs)
        self.encode_visible = torch.compile(self.encode_visible, *args, **kwargs)  # type: ignore[method-assign]
        self.encode_masked = torch.compile(self.encode_masked, *args, **kwargs)  # type: ignore[method-assign]
        self.encode_layers = torch.compile(self.encode_layers, *args, **kwargs)  # type: ignore[method-assign]

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
        vit = self._vit()
        proj = vit.patch_embed.proj
        patches_BVP = gather(patchify(image_BCHW, self.patch_size), visible_BV)
        tokens_BVD = nn.functional.linear(patches_BVP, proj.weight.flatten(1), proj.bias)
        return vit.patch_embed.norm(tokens_BVD) + gather(self._positions(vit)[1], visible_BV)

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


def _create(
    architecture: str, img_size: tuple[int, int], in_chans: int, drop_path: float, pretrained: bool
) -> nn.Module:
    _check_known(architecture)
    config = timm.get_pretrained_cfg(architecture)
    options: dict[str, Any] = {"img_size": img_size} if config is not None and config.fixed_input_size else {}
    if not 0 <= drop_path < 1:
        raise UserError(f"model.drop_path is a rate from 0 to below 1, not {drop_path}.")
    if drop_path:
        options["drop_path_rate"] = drop_path
    try:
        network = timm.create_model(architecture, pretrained=pretrained, num_classes=0, in_chans=in_chans, **options)
    except Exception as error:  # the hub, its cache and the network fail each in their own way
        if "drop_path_rate" in str(error):
            raise UserError(f"{architecture} has no stochastic depth; set --model.drop_path 0.") from None
        if not pretrained:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"timm's weights for {architecture} cannot be had ({reason}); they are downloaded once, so go online "
            "for that, or start from a file: --model.init_from PATH."
        ) from None
    _check(architecture, img_size, network)
    quicken(network)
    return network


def _prefix(vit: VisionTransformer) -> Tensor:
    """Class and register tokens (1, T, D)."""
    tokens = [token for token in (vit.cls_token, vit.reg_token) if token is not None]
    return torch.cat(tokens, dim=1) if tokens else vit.pos_embed[:, :0]


def _check(architecture: str, img_size: tuple[int, int], network: Any) -> None:
    if not hasattr(network, "forward_intermediates"):
        raise UserError(f"The network {architecture!r} gives no feature maps; choose another timm network.")
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", (1, 1))
    if any(side % step for side, step in zip(img_size, patch, strict=True)):
        sides, steps = (" x ".join(map(str, pair)) for pair in (img_size, patch))
        raise UserError(
            f"Films of {sides} px cannot be cut into the {steps} patches of {architecture}; set --data.img_size."
        )


def _check_known(architecture: str) -> None:
    import difflib

    if timm.is_model(architecture):
        return
    close = difflib.get_close_matches(architecture, timm.list_models(), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UserError(f"timm knows no network {architecture!r}.{hint}")


def _grey_statistics(network: Any) -> tuple[float, float]:
    config = network.pretrained_cfg
    return sum(config["mean"]) / len(config["mean"]), sum(config["std"]) / len(config["std"])
