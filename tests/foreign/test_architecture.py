import pytest
import timm
import torch

from xrayssl.foreign import NAMINGS
from xrayssl.foreign.architecture import probable
from xrayssl.foreign.file import File


def told(state):
    (found,) = File(None, state, NAMINGS).found
    return probable(found.naming.rename(File(None, state, NAMINGS).below(found.prefix)), found.naming)


@pytest.mark.parametrize(
    "name",
    ["vit_tiny_patch16_224", "vit_base_patch16_224", "vit_base_patch8_224", "vit_large_patch16_224",
     "vit_huge_patch14_224", "vit_base_patch14_dinov2", "vit_small_patch14_reg4_dinov2", "resnet18", "resnet34",
     "resnet50", "resnet101", "wide_resnet50_2", "resnext50_32x4d", "densenet121", "densenet161", "densenet201",
     "convnext_tiny", "convnext_small", "convnext_base", "convnextv2_atto"],
)  # fmt: skip
def test_an_architecture_is_told_by_its_names_and_shapes(name):
    with torch.device("meta"):
        state = timm.create_model(name, num_classes=7, in_chans=1).state_dict()
    assert told(state) == name


def test_a_width_that_nobody_published_has_no_name():
    with torch.device("meta"):
        state = timm.models.VisionTransformer(embed_dim=192, depth=5, num_heads=3).state_dict()
    assert told(state) is None
