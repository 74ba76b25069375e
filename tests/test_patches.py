import torch

from xrayssl.patches import gather, patchify, unpatchify


def test_unpatchify_is_the_inverse_of_patchify():
    image_BCHW = torch.rand(2, 3, 24, 32)
    assert torch.equal(unpatchify(patchify(image_BCHW, (8, 4)), (8, 4), (3, 8)), image_BCHW)


def test_a_patch_has_the_axis_order_of_a_convolution():
    image_BCHW, convolution = torch.rand(2, 3, 8, 12), torch.nn.Conv2d(3, 5, 4, 4)
    ours = patchify(image_BCHW, (4, 4)) @ convolution.weight.flatten(1).T + convolution.bias
    assert torch.allclose(ours, convolution(image_BCHW).flatten(2).transpose(1, 2), atol=1e-6)


def test_gather_takes_what_the_index_names():
    sequence_1LD = torch.arange(6.0).reshape(1, 3, 2)
    assert gather(sequence_1LD, torch.tensor([[2, 0], [1, 1]])).tolist() == [[[4, 5], [0, 1]], [[2, 3], [2, 3]]]
