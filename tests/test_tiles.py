import pytest
import torch

from xrayssl.backbone import Backbone
from xrayssl.errors import UserError
from xrayssl.tiles import Tiles, encode, standardized

CNN, VIT = "resnet18", "vit_tiny_patch16_224"


def numbered(side, films=5):
    """Films whose every pixel says where it is and in which film."""
    rows, columns = side if isinstance(side, tuple) else (side, side)
    return torch.arange(films * rows * columns, dtype=torch.float64).view(films, 1, rows, columns)


def origins(tiles_BTCHW, image_BCHW):
    """Row and column of the upper left pixel of each tile of numbered films, (B, T, 2)."""
    place_BT = tiles_BTCHW[:, :, 0, 0, 0].long() % image_BCHW[0].numel()
    return torch.stack([place_BT // image_BCHW.shape[-1], place_BT % image_BCHW.shape[-1]], dim=2)


@pytest.mark.parametrize("side", [48, 50, (48, 67)])
def test_every_tile_is_a_part_of_its_film_as_it_is(side):
    image, tiles = numbered(side), Tiles(Backbone(CNN, side), tile=11)
    cut_BTCHW = tiles.cut(image)
    assert cut_BTCHW.shape == (5, 9, 1, 11, 11)
    for film, tile in torch.cartesian_prod(torch.arange(5), torch.arange(9)).tolist():
        top, left = origins(cut_BTCHW, image)[film, tile].tolist()
        assert torch.equal(cut_BTCHW[film, tile], image[film, :, top : top + 11, left : left + 11])


def test_several_channels_stay_in_their_order():
    image = torch.stack([numbered(24)[:, 0], -numbered(24)[:, 0]], dim=1)
    cut_BTCHW = Tiles(Backbone(CNN, 24, in_chans=2)).cut(image)
    assert torch.equal(cut_BTCHW[:, :, 0], -cut_BTCHW[:, :, 1])


@pytest.mark.parametrize("side", [48, (50, 67)])
@pytest.mark.parametrize("jitter", [None, 0, 1, 3])
def test_a_tile_lies_in_its_own_cell_within_its_free_play(side, jitter):
    tiles = Tiles(Backbone(CNN, side), tile=11, jitter=jitter)
    image = numbered(side, films=200)
    place_BT2 = origins(tiles.cut(image), image)
    for tile in range(9):
        for axis, cell in enumerate((tile // 3, tile % 3)):
            span = tiles.cell[axis] - 11
            start = (tiles.film[axis] - 3 * tiles.cell[axis]) // 2 + cell * tiles.cell[axis]
            first = start + (span - tiles.jitter) // 2
            assert sorted({*place_BT2[:, tile, axis].tolist()}) == list(range(first, first + tiles.jitter + 1))
            assert start <= first <= first + tiles.jitter <= start + span


def test_free_play_is_all_that_the_cell_leaves_unless_told():
    assert (Tiles(Backbone(CNN, 48), tile=11).jitter, Tiles(Backbone(CNN, (48, 67)), tile=11).jitter) == (5, 5)


def test_every_tile_of_every_film_is_drawn_on_its_own_down_and_across():
    image = numbered(48, films=400)
    place_BT2 = origins(Tiles(Backbone(CNN, 48), tile=11).cut(image), image).flatten(1).double()
    together = torch.corrcoef(place_BT2.T)
    assert (together - torch.eye(len(together))).abs().max() < 0.25


def test_places_follow_torchs_seed():
    tiles, image = Tiles(Backbone(CNN, 48)), torch.randn(2, 1, 48, 48)
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(tiles(image))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_brightness_and_contrast_of_a_tile_tell_nothing():
    tiles = torch.randn(2, 9, 1, 8, 8)
    torch.testing.assert_close(
        standardized(tiles * torch.rand(9)[:, None, None, None].add(0.5) + 3), standardized(tiles)
    )
    assert standardized(tiles).mean(dim=(3, 4)).abs().max() < 1e-6


def test_the_noise_of_an_empty_tile_is_not_blown_up():
    empty = -2 + 0.016 * torch.randn(1, 9, 1, 16, 16)  # a grey value of 256
    assert standardized(empty).std() < 0.3
    assert torch.equal(standardized(torch.full((1, 9, 1, 8, 8), -2.0)), torch.zeros(1, 9, 1, 8, 8))


@pytest.mark.parametrize(("network", "side", "tile"), [(VIT, 224, 64), (VIT, 64, 16), (CNN, 224, 64), (CNN, 96, 28)])
def test_tiles_fill_most_of_a_cell_and_patches_divide_them(network, side, tile):
    assert Tiles(Backbone(network, side)).tile == tile


@pytest.mark.parametrize("network", [CNN, VIT])
def test_each_tile_passes_the_network_by_itself(network):
    backbone, tiles = Backbone(network, 64).eval(), torch.randn(2, 9, 1, 16, 16)
    pooled_BTD = encode(backbone, tiles)
    one_D = backbone(tiles[1, 4][None]).mean(dim=(2, 3))[0]
    torch.testing.assert_close(pooled_BTD[1, 4], one_D, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("network", "side", "options", "sentence"),
    [
        (CNN, 48, {"cells": 1}, "model.cells must be 2 or more"),
        (CNN, 48, {"tile": 17}, "room for tiles of 6-16 px, not 17"),
        (CNN, 48, {"tile": 0}, "room for tiles of 6-16 px, not 0"),
        (CNN, 48, {"tile": 12, "jitter": 5}, "model.jitter must be 0-4"),
        (CNN, 2, {}, "no room for tiles"),
        (VIT, 32, {}, r"no room for tiles of 16 px; enlarge --data.img_size"),
        (VIT, 64, {"tile": 20}, r"Tiles of 20 px cannot be cut.*--model\.tile to a multiple of 16, 21 at most"),
    ],
)
def test_tiles_that_do_not_fit_are_refused(network, side, options, sentence):
    with pytest.raises(UserError, match=sentence):
        Tiles(Backbone(network, max(side, 32)) if side > 2 else tiny(), **options)


def tiny():
    """A network for films of 2 px, without building one."""
    backbone = Backbone(CNN, 32)
    backbone.img_size = (2, 2)
    return backbone
