"""Files in the layouts of other programs, with random weights, and few-line forward passes over those very names."""

import argparse
from pathlib import Path

import torch
from torch.nn import functional as F

from xrayssl import handoff
from xrayssl.backbone import Backbone

SIZE = 32


def draw(*shape, scale=0.05, mean=0.0):
    return mean + scale * torch.randn(*shape)


def vit(width=192, depth=12, patch=16, grid=2, chans=3, classes=1):
    """A ViT with timm's names, as MAE and DINO have them; grid: patches a side, classes: class tokens in pos_embed."""
    torch.manual_seed(0)
    tensors = {
        "cls_token": draw(1, 1, width),
        "pos_embed": draw(1, grid * grid + classes, width, scale=0.5),
        "patch_embed.proj.weight": draw(width, chans, patch, patch),
        "patch_embed.proj.bias": draw(width),
        **norm("norm", width),
    }
    for number in range(depth):
        block = f"blocks.{number}"
        tensors |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width)
        tensors |= linear(f"{block}.attn.qkv", width, 3 * width) | linear(f"{block}.attn.proj", width, width)
        tensors |= linear(f"{block}.mlp.fc1", width, 4 * width) | linear(f"{block}.mlp.fc2", 4 * width, width)
    return tensors


def norm(name, width):
    return {f"{name}.weight": draw(width, mean=1.0), f"{name}.bias": draw(width)}


def linear(name, inputs, outputs):
    return {f"{name}.weight": draw(outputs, inputs), f"{name}.bias": draw(outputs)}


def layer_norm(tensors, name, x):
    return F.layer_norm(x, x.shape[-1:], tensors[f"{name}.weight"], tensors[f"{name}.bias"], 1e-6)


def vit_tokens(tensors, image_BCHW, heads=3):
    """All tokens before the last norm, over MAE's, DINO's and DINOv2's names: tokens_BSD."""

    def dense(name, x):
        return F.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    kernel = tensors["patch_embed.proj.weight"]
    x = F.conv2d(image_BCHW, kernel, tensors["patch_embed.proj.bias"], stride=kernel.shape[-1]).flatten(2).mT
    x = torch.cat([tensors["cls_token"].expand(len(x), -1, -1), x], dim=1) + tensors["pos_embed"]
    if "register_tokens" in tensors:
        x = torch.cat([x[:, :1], tensors["register_tokens"].expand(len(x), -1, -1), x[:, 1:]], dim=1)
    depth = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
    for block in (f"blocks.{number}" for number in range(depth)):
        qkv = dense(f"{block}.attn.qkv", layer_norm(tensors, f"{block}.norm1", x))
        q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        attended = ((q @ k.mT) * q.shape[-1] ** -0.5).softmax(-1) @ v
        x = x + tensors.get(f"{block}.ls1.gamma", 1) * dense(f"{block}.attn.proj", attended.transpose(1, 2).flatten(2))
        hidden = F.gelu(dense(f"{block}.mlp.fc1", layer_norm(tensors, f"{block}.norm2", x)))
        x = x + tensors.get(f"{block}.ls2.gamma", 1) * dense(f"{block}.mlp.fc2", hidden)
    return x


def vit_grid(tensors, image_BCHW, heads=3, last="norm"):
    """The patch tokens after the last norm: grid_BDhw, square."""
    tokens = layer_norm(tensors, last, vit_tokens(tensors, image_BCHW, heads))
    prefix = 1 + tensors.get("register_tokens", tokens[:1, :0]).shape[1]
    tokens = tokens[:, prefix:]
    return tokens.mT.unflatten(2, (int(tokens.shape[1] ** 0.5), -1))


def convnext(widths=(96, 192, 384, 768), depths=(3, 3, 9, 3), version=1):
    """A ConvNeXt under its authors' names, without its last norm, as SparK has it."""
    torch.manual_seed(0)
    tensors, inputs = {}, 3
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        place, side = f"downsample_layers.{stage}", 2 if stage else 4
        tensors |= norm(f"{place}.{0 if stage else 1}", inputs if stage else width)
        tensors[f"{place}.{1 if stage else 0}.weight"] = draw(width, inputs, side, side)
        tensors[f"{place}.{1 if stage else 0}.bias"] = draw(width)
        for block in (f"stages.{stage}.{number}" for number in range(depth)):
            tensors |= {f"{block}.dwconv.weight": draw(width, 1, 7, 7), f"{block}.dwconv.bias": draw(width)}
            tensors |= norm(f"{block}.norm", width)
            tensors |= linear(f"{block}.pwconv1", width, 4 * width) | linear(f"{block}.pwconv2", 4 * width, width)
            if version == 1:
                tensors[f"{block}.gamma"] = draw(width, scale=0.1)
            else:
                tensors |= {f"{block}.grn.{part}": draw(1, 1, 1, 4 * width) for part in ("gamma", "beta")}
        inputs = width
    return tensors


def convnext_grid(tensors, x):
    """The last feature map of a ConvNeXt, over its authors' names: grid_BDhw."""

    def first(name, x):
        return layer_norm(tensors, name, x.movedim(1, -1)).movedim(-1, 1)

    for stage in range(4):
        place = f"downsample_layers.{stage}"
        x = first(f"{place}.0", x) if stage else x
        conv = f"{place}.{1 if stage else 0}"
        x = F.conv2d(x, tensors[f"{conv}.weight"], tensors[f"{conv}.bias"], stride=2 if stage else 4)
        x = x if stage else first(f"{place}.1", x)
        depth = len({name.split(".")[2] for name in tensors if name.startswith(f"stages.{stage}.")})
        for block in (f"stages.{stage}.{number}" for number in range(depth)):
            y = F.conv2d(
                x, tensors[f"{block}.dwconv.weight"], tensors[f"{block}.dwconv.bias"], padding=3, groups=len(x[0])
            )
            y = layer_norm(tensors, f"{block}.norm", y.movedim(1, -1))
            y = F.gelu(F.linear(y, tensors[f"{block}.pwconv1.weight"], tensors[f"{block}.pwconv1.bias"]))
            if f"{block}.grn.gamma" in tensors:
                size = y.norm(dim=(1, 2), keepdim=True)
                scale = size / (size.mean(dim=-1, keepdim=True) + 1e-6)
                y = y + tensors[f"{block}.grn.beta"] + tensors[f"{block}.grn.gamma"] * y * scale
            y = F.linear(y, tensors[f"{block}.pwconv2.weight"], tensors[f"{block}.pwconv2.bias"])
            x = x + (tensors.get(f"{block}.gamma", 1) * y).movedim(-1, 1)
    return x


def shaken(network):
    """A network in eval mode whose batch statistics are no ones and zeros."""
    torch.manual_seed(0)
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(draw(*buffer.shape, scale=0.1))
        elif name.endswith("running_var"):
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    return network.eval()


def resnet():
    """torchvision's ResNet-18, and the function of its last feature map."""
    import torchvision

    network = shaken(torchvision.models.resnet18())
    return network, torch.nn.Sequential(*list(network.children())[:-2])


def under(prefix, tensors):
    return {prefix + name: value for name, value in tensors.items()}


def args(**options):
    return argparse.Namespace(lr=1e-3, output_dir="out", **options)


def optimizer(*parameters):
    """The state of an optimiser after a step, with its numbered tensors."""
    parameters = [torch.nn.Parameter(value.clone()) for value in parameters or [torch.ones(3)]]
    adam = torch.optim.AdamW(parameters)
    sum(parameter.sum() for parameter in parameters).backward()
    adam.step()
    return adam.state_dict()


def written(folder: Path, content):
    """A file whose name tells nothing."""
    torch.save(content, folder / "weights")
    return folder / "weights"


def grid(content, folder, architecture, image_BCHW, **options):
    """What a backbone makes of films once it has read a file: grid_BDhw; and the report."""
    backbone = Backbone(architecture, tuple(image_BCHW.shape[-2:]), in_chans=image_BCHW.shape[1], **options).eval()
    path = content if isinstance(content, Path) else written(folder, content)
    report, _ = handoff.load(backbone, path)
    with torch.no_grad():
        return backbone(image_BCHW), str(report)


def colours(batch=2, size=SIZE):
    """Normalised colour pictures."""
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def same(ours, theirs):
    """Equality to the tolerance that the package promises; False where it would be vacuous."""
    return theirs.std() > 1e-2 and torch.allclose(ours, theirs, atol=1e-5, rtol=1e-5)
