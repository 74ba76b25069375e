import pytest
import torch

from xrayssl.errors import UserError
from xrayssl.methods import RotationProxy


def test_all_four_turns_of_every_film_stand_in_the_batch():
    method, seen = RotationProxy(backbone="resnet18", img_size=32).eval(), []
    method.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    image = torch.randn(3, 1, 32, 32)
    method.losses({"image": image})
    turned = seen[0].reshape(4, 3, 1, 32, 32)
    assert all(torch.equal(turned[k], torch.rot90(image, k, (2, 3))) for k in range(4))


def test_four_quarter_turns_are_the_identity():
    image = torch.randn(2, 1, 8, 8)
    assert torch.equal(image.rot90(1, (2, 3)).rot90(3, (2, 3)), image)


def test_the_loss_is_that_of_a_slow_recomputation():
    method, image = RotationProxy(backbone="resnet18", img_size=32).eval(), torch.randn(2, 1, 32, 32)
    found, terms = method.losses({"image": image}), []
    for turn in range(4):
        for film in image:
            logits = method.head(method.backbone(torch.rot90(film[None], turn, (2, 3))))[0]
            terms.append(-logits.log_softmax(0)[turn])
    assert found["loss"].item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-4)


def test_films_that_are_not_square_are_refused():
    with pytest.raises(UserError, match="square"):
        RotationProxy(backbone="resnet18", img_size=(32, 64))
