import pytest
import torch
from explainable import films
from torch import nn

from xrayssl.explain.occlusion import occlusion


class Patches(nn.Module):
    """Cells that see 8 x 8 px each, mean pooling and a linear layer: a logit is a sum over cells."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.grid = nn.Sequential(nn.Conv2d(1, 6, 8, 8), nn.ReLU()), nn.Identity()
        self.linear, self.seen = nn.Linear(6, 3), []

    def forward(self, image_BCHW):
        self.seen.append(len(image_BCHW))
        return self.linear(self.grid(self.embed(image_BCHW)).mean(dim=(2, 3)))

    def shares(self, image_BCHW):
        """What each cell adds to each logit."""
        with torch.no_grad():
            grid = self.embed(image_BCHW)
            return torch.einsum("kd,bdhw->bkhw", self.linear.weight, grid) / grid[0, 0].numel()


def grey(image, fill):
    means = image.flatten(1).mean(1)[:, None, None, None] if fill is None else torch.tensor(fill)
    return means.expand_as(image)


@pytest.mark.parametrize("fill", [None, 0.7])
def test_what_hiding_a_cell_costs_is_what_it_added(fill):
    model, image = Patches(), films(2, (32, 48)) + torch.tensor([0.0, 3.0])[:, None, None, None]
    expected = (model.shares(image) - model.shares(grey(image, fill)))[:, [2, 0]]
    found, logit = occlusion(model, model.grid, image, [2, 0], fill=fill)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(logit, model(image)[:, [2, 0]].detach())
    assert found.min() < -1e-3 and found.max() > 1e-3


def test_a_window_costs_what_its_cells_added_and_ends_at_the_edge_of_the_film():
    model, image = Patches(), films(2, (32, 48))
    cost = model.shares(image) - model.shares(grey(image, None))
    expected = nn.functional.avg_pool2d(cost, 3, 1, 1, divisor_override=1)
    found, _ = occlusion(model, model.grid, image, [0, 1, 2], window=3)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("size", [(32, 48), (50, 37)])
def test_the_windows_cover_every_pixel_once(size):
    model = nn.Sequential(nn.AvgPool2d(8, ceil_mode=True), nn.Flatten(), nn.LazyLinear(1))
    image, hidden = films(1, size), []
    model(image)
    model.register_forward_hook(lambda _, inputs, output: hidden.append(inputs[0] == 9.0))
    occlusion(model, model[0], image, [0], fill=9.0, batch_size=5)
    windows = torch.cat(hidden[1:])
    assert (windows.sum(0) == 1).all() and len(windows) == -(-size[0] // 8) * -(-size[1] // 8)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_no_pass_has_more_films_than_asked_and_the_map_is_the_same(batch_size):
    model, image = Patches(), films(2, (32, 48))
    expected = occlusion(model, model.grid, image, [1])[0]
    model.seen.clear()
    torch.testing.assert_close(occlusion(model, model.grid, image, [1], batch_size=batch_size)[0], expected)
    assert max(model.seen[1:]) == min(batch_size, 48) and sum(model.seen[1:]) == 2 * 4 * 6


def test_hiding_matters_where_the_network_looks_and_nowhere_else():
    model, image = Patches(), films(2, (32, 48))
    model.grid.register_forward_hook(lambda _, inputs, grid: grid * (torch.arange(24).view(4, 6) == 8))
    found, _ = occlusion(model, model.grid, image, [0, 1, 2])
    assert found[:, :, 1, 2].abs().min() > 1e-4
    found[:, :, 1, 2] = 0
    assert found.abs().max() < 1e-6


@pytest.mark.parametrize("window", [0, 2, -1])
def test_a_window_without_a_middle_is_refused(window):
    model = Patches()
    with pytest.raises(ValueError, match="odd number of cells"):
        occlusion(model, model.grid, films(1, 32), [0], window=window)
