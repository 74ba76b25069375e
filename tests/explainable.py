"""Small classifiers whose logits differ clearly, and films for them."""

import torch
from torch import nn

from xrayssl.methods import Finetune


def network(backbone="resnet18", size=64, **kwargs):
    torch.manual_seed(0)
    method = Finetune(classes=["a", "b", "c"], task="multilabel", backbone=backbone, img_size=size, **kwargs)
    nn.init.normal_(method.head.linear.weight, std=0.5)
    return method.eval()


def films(count=3, size=64):
    height, width = (size, size) if isinstance(size, int) else size
    return torch.randn(count, 1, height, width, generator=torch.Generator().manual_seed(1))
