import pytest
import torch

from xrayssl.errors import UserError
from xrayssl.finetuning.tta import TTA

FILM = torch.rand(2, 1, 20, 16)


def test_without_augmentation_there_is_no_other_view():
    assert TTA().views(FILM) == []


def test_flips_double_the_views():
    views = TTA(flip=True, crops=(0.9, 0.5)).views(FILM)
    assert [view.shape for view in views] == [FILM.shape] * 5
    assert torch.equal(views[2], FILM.flip(3)) and torch.equal(views[3], views[0].flip(3))


def test_a_crop_shows_the_middle_of_the_film():
    ramp = torch.arange(40.0).expand(1, 1, 40, 40)
    (crop,) = TTA(crops=(0.5,)).views(ramp)
    assert crop.min() >= 10 and crop.max() <= 29
    assert crop.mean().item() == pytest.approx(ramp.mean().item())


def test_a_label_that_tells_a_side_allows_no_flip():
    with pytest.raises(UserError, match="'left shoulder' tells a side"):
        TTA(flip=True).check(["mass", "left shoulder"])
    TTA(crops=(0.9,)).check(["left shoulder"])


def test_every_share_that_is_none_is_named():
    with pytest.raises(UserError) as caught:
        TTA(crops=(0.0, 0.5, 1.5))
    assert len(caught.value.messages) == 2
