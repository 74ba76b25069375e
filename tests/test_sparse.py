import pytest
import timm
import torch
from torch import nn

from xrayssl.batchnorm import PooledBatchNorm2d, pool_batch_norms
from xrayssl.errors import UserError
from xrayssl.sparse import Cells, SparseForward, check, pyramid

GRID, SIDE = (3, 3), 96
VISIBLE = torch.tensor([[0, 4, 5, 7], [1, 2, 6, 8]])
NETWORKS = ["resnet18", "densenet121", "convnext_atto", "convnextv2_femto", "efficientnet_b0", "resnetv2_50"]


def mask(side, visible=VISIBLE):
    """visible_B1HW, 1 where a cell is visible."""
    mask_B1hw = torch.zeros(2, 9).scatter_(1, visible, 1.0).view(2, 1, 3, 3)
    return mask_B1hw.repeat_interleave(side // 3, 2).repeat_interleave(side // 3, 3)


def make(name, scramble=True):
    """A network whose scales are all different from zero, so that no branch is silent."""
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=0, in_chans=1)
    for parameter in network.parameters():
        if scramble and (parameter.ndim < 2 or not parameter.any()):
            nn.init.uniform_(parameter, 0.5, 1.0)
    return network.train(), SparseForward(network)


def features(network, sparse, image):
    """Maps of the visible cells at every scale, zero elsewhere."""
    cells = Cells(GRID, VISIBLE)
    with sparse.hiding(cells):
        return [cells.unpack(one) for one in pyramid(network, cells.pack(image))]


class Literal(nn.Module):
    """A layer as in the paper: what it gives is masked again; batch norm is over visible positions, one by one."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x_BCHW):
        mask_B1HW = mask(x_BCHW.shape[-1])
        if not isinstance(self.layer, nn.BatchNorm2d):
            out = self.layer(x_BCHW)
            return out * mask(out.shape[-1])
        seen_NC = x_BCHW.permute(0, 2, 3, 1)[mask_B1HW[:, 0] == 1]
        self.mean, self.variance, self.count = seen_NC.mean(0), seen_NC.var(0, correction=0), len(seen_NC)
        scaled = (x_BCHW - self.mean[:, None, None]) / (self.variance[:, None, None] + self.layer.eps).sqrt()
        out = scaled * self.layer.weight[:, None, None] + self.layer.bias[:, None, None]
        return getattr(self.layer, "act", nn.Identity())(out * mask_B1HW)


def literal(network):
    for name, child in network.named_children():
        if isinstance(child, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d | nn.BatchNorm2d):
            setattr(network, name, Literal(child))
        else:
            literal(child)
    return network


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("training", [True, False])
def test_hidden_pixels_change_no_visible_feature_at_any_scale(name, training):
    network, sparse = make(name)
    network.train(training)
    image, other = torch.randn(2, 1, SIDE, SIDE), torch.randn(2, 1, SIDE, SIDE) * 50
    changed = torch.where(mask(SIDE) == 1, image, other)
    with torch.no_grad():
        torch.manual_seed(0)
        before = features(network, sparse, image)
        torch.manual_seed(0)
        after = features(network, sparse, changed)
        whole = [pyramid(network, film)[-1] for film in (image, changed)]
    assert len(before) >= 4
    assert [torch.equal(one, two) for one, two in zip(before, after, strict=True)] == [True] * len(before)
    assert not torch.equal(*whole)


@pytest.mark.parametrize("name", NETWORKS)
def test_no_gradient_flows_from_visible_features_to_hidden_pixels(name):
    network, sparse = make(name)
    image = torch.randn(2, 1, SIDE, SIDE, requires_grad=True)
    sum(one.square().sum() for one in features(network, sparse, image)).backward()
    assert not image.grad[mask(SIDE) == 0].any()
    assert image.grad[mask(SIDE) == 1].ne(0).float().mean() > 0.99


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_packed_cells_are_the_papers_masks_after_every_layer(name):
    (network, sparse), image = make(name), torch.randn(2, 1, SIDE, SIDE)
    slow = pyramid(literal(make(name)[0]), image * mask(SIDE))
    fast = features(network, sparse, image)
    for one, two in zip(slow, fast, strict=True):
        assert torch.allclose(one * mask(one.shape[-1]), two, rtol=1e-4, atol=1e-4 * one.abs().max().item())


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_batch_norm_statistics_are_those_of_visible_positions(name):
    (network, sparse), image = make(name), torch.randn(2, 1, SIDE, SIDE)
    slow = literal(make(name)[0])
    pyramid(slow, image * mask(SIDE))
    features(network, sparse, image)
    norms = {key: layer for key, layer in slow.named_modules() if hasattr(layer, "mean") and isinstance(layer, Literal)}
    assert len(norms) > 15
    for key, layer in norms.items():
        ours = network.get_submodule(key)
        variance = layer.variance * layer.count / (layer.count - 1)
        assert torch.allclose(ours.running_mean, 0.1 * layer.mean, rtol=1e-3, atol=1e-4)
        assert torch.allclose(ours.running_var, 0.9 + 0.1 * variance, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_with_nothing_masked_the_network_is_bitwise_the_plain_one_and_keeps_its_keys(name):
    network, _ = make(name)
    plain = timm.create_model(name, num_classes=0, in_chans=1)
    assert list(network.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(network.state_dict())
    pool_batch_norms(network)
    assert list(network.state_dict()) == list(plain.state_dict())
    image = torch.randn(2, 1, SIDE, SIDE)
    for training in (True, False):
        outputs = []
        for one in (network.train(training), plain.train(training)):
            torch.manual_seed(0)
            outputs.append(one(image))
        assert torch.equal(*outputs)


@pytest.mark.parametrize("name", NETWORKS)
def test_with_every_cell_visible_packed_films_give_what_whole_ones_give(name):
    (network, sparse), image = make(name), torch.randn(2, 1, SIDE, SIDE)
    cells = Cells(GRID, torch.arange(9).expand(2, -1))
    network.eval()
    with sparse.hiding(cells):
        packed = pyramid(network, cells.pack(image))
    for one, two in zip(pyramid(network, image), packed, strict=True):
        assert torch.allclose(one, cells.unpack(two), rtol=1e-3, atol=1e-4 * one.abs().max().item())


def test_squeeze_and_excitation_takes_its_mean_over_visible_positions():
    network, sparse = make("seresnet18")
    gates, cells = [], Cells(GRID, VISIBLE)
    network.layer4[0].se.register_forward_hook(lambda module, args, out: gates.append((args[0], out / args[0])))
    with torch.no_grad():
        features(network, sparse, torch.randn(2, 1, SIDE, SIDE))
    seen, gate = gates[0]
    module, mean_BC11 = network.layer4[0].se, cells.unpack(seen).sum((2, 3), keepdim=True) / 4
    expected = module.gate(module.fc2(module.act(module.bn(module.fc1(mean_BC11)))))
    assert torch.allclose(gate.nan_to_num(0).amax((2, 3), keepdim=True), expected.expand_as(mean_BC11), atol=1e-4)


def test_unpacking_is_the_inverse_of_packing_and_fills_the_rest():
    cells, image = Cells(GRID, VISIBLE), torch.randn(2, 5, 12, 9)
    token = torch.arange(5.0)
    filled = cells.unpack(cells.pack(image), token)
    seen = mask(3).repeat_interleave(4, 2).repeat_interleave(3, 3).bool()
    assert torch.equal(filled, torch.where(seen, image, token[:, None, None]))


@pytest.mark.parametrize(
    "name", ["swin_tiny_patch4_window7_224", "coatnet_nano_rw_224", "mobilevit_xxs", "maxvit_tiny_tf_224"]
)
def test_a_network_that_looks_around_by_other_means_is_refused_by_name(name):
    network = timm.create_model(name, num_classes=0, in_chans=1, depths=(1, 1, 1, 1)) if "swin" in name else None
    network = network or timm.create_model(name, num_classes=0, in_chans=1)
    with pytest.raises(UserError, match=rf"{name} cannot be kept from seeing hidden cells.*--model\.hiding zeros"):
        check(network, SparseForward(network), (1, 224, 224), (7, 7), name)


class Pooling(nn.Module):
    """Looks around by a function that no layer shows."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 1)
        self.scale = nn.Parameter(torch.zeros(1))

    def forward_intermediates(self, x, **kwargs):
        x = self.conv(x)
        return [x + self.scale * nn.functional.avg_pool2d(x, 3, 1, 1)]


def test_a_function_that_looks_around_is_found_even_behind_a_scale_of_zero():
    network = Pooling()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(UserError, match="cannot be kept"):
        check(network, SparseForward(network), (1, 12, 12), GRID, "pooling")
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_the_trial_leaves_weights_statistics_and_randomness_as_they_were():
    network, sparse = make("resnet18", scramble=False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    check(network, sparse, (1, SIDE, SIDE), GRID, "resnet18")
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert network.training


def _two(rank, folder, image, momentum):
    """One of two processes: half of the batch through a pooled norm, its gradients and statistics to a file."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    norm = PooledBatchNorm2d(nn.BatchNorm2d(3, momentum=momentum))
    part = (image[:3] if rank == 0 else image[3:]).clone().requires_grad_()
    out = norm(part)
    out.sin().sum().backward()
    torch.distributed.all_reduce(norm.weight.grad)
    torch.save((out.detach(), part.grad, norm.weight.grad, norm.state_dict()), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process with threads
@pytest.mark.parametrize("momentum", [0.1, None])
def test_two_processes_normalise_as_one_even_with_unequal_parts(tmp_path, momentum):
    image = torch.randn(5, 3, 4, 4) * 3 + 1
    torch.multiprocessing.start_processes(_two, (str(tmp_path), image, momentum), nprocs=2, start_method="fork")
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    whole, norm = image.clone().requires_grad_(), nn.BatchNorm2d(3, momentum=momentum)
    out = norm(whole)
    out.sin().sum().backward()
    assert torch.allclose(torch.cat([parts[0][0], parts[1][0]]), out, atol=1e-5)
    assert torch.allclose(torch.cat([parts[0][1], parts[1][1]]), whole.grad, atol=1e-5)
    for _, _, grad, state in parts:
        assert torch.allclose(grad, norm.weight.grad, atol=1e-4)
        assert all(torch.allclose(state[key], value, atol=1e-5) for key, value in norm.state_dict().items())
