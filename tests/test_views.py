from dataclasses import replace

import pytest
import torch

from xrayssl.backbone import Backbone
from xrayssl.errors import UserError
from xrayssl.views import check_views, features, pair


def test_features_of_views_are_those_of_each_view_alone():
    backbone = Backbone("vit_tiny_patch16_224", 32).eval()
    views = [torch.randn(2, 1, side, side) for side in (32, 32, 16, 16, 32)]
    alone = [backbone(view).mean(dim=(2, 3)) for view in views]
    together = features(backbone, views)
    assert all(torch.allclose(one, two, atol=1e-5) for one, two in zip(together, alone, strict=True))


def test_views_of_one_size_pass_together():
    backbone, sizes = Backbone("resnet18", 32).eval(), []
    backbone.register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0].shape[::2]))
    features(backbone, [torch.randn(2, 1, side, side) for side in (32, 32, 64)])
    assert sizes == [(4, 32), (2, 64)]


@pytest.mark.parametrize("views", [[], [32], [32, 16]])
def test_without_two_views_of_one_size_the_key_is_named(views):
    with pytest.raises(UserError, match=r"^MoCo .*--data\.augment\.views 2"):
        pair("MoCo", {"views": [torch.zeros(1, 1, side, side) for side in views]})


def test_data_in_one_view_are_refused_and_data_that_do_not_say_are_believed(shoulder):
    with pytest.raises(UserError, match=r"^MoCo .*--data\.augment\.views 2"):
        check_views("MoCo", shoulder)
    shoulder.augment = replace(shoulder.augment, views=2)
    check_views("MoCo", shoulder)
    check_views("MoCo", None)
