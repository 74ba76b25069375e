import copy

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from xrayssl.backbone import Backbone
from xrayssl.explain import cam
from xrayssl.explain.nulls import other_patients
from xrayssl.explain.regions import area_mean
from xrayssl.explain.sanity import agreement, cascading, pearson, randomised, repeatability, spearman
from xrayssl.methods import Finetune

MAPS = np.random.default_rng(0).integers(0, 5, (2, 3, 5, 8)).astype(np.float32)  # with ties


def network(backbone="test_resnet", size=64):
    """With weights that no start of a layer has, as after a training."""
    torch.manual_seed(0)
    method = Finetune(classes=list("abcd"), task="multilabel", backbone=backbone, img_size=size).eval()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.mul_(1 + 0.1 * torch.randn_like(parameter)).add_(0.01 * torch.randn_like(parameter))
    return method


def changed(one, other):
    theirs = dict(other.named_parameters())
    return {name for name, value in one.named_parameters() if not torch.equal(value, theirs[name])}


STAGES = {
    "test_resnet": ["head", "stage 4", "stage 3", "stage 2", "stage 1", "stem"],
    "test_vit": ["head", *(f"stage {k}" for k in range(6, 0, -1)), "stem"],
    "test_convnext": ["head", *(f"stage {k}" for k in range(5, 0, -1)), "stem"],
}


@pytest.mark.parametrize("backbone", STAGES)
def test_stage_by_stage_from_the_head_every_weight_is_lost(backbone):
    method, lost = network(backbone), [set()]
    before = copy.deepcopy(method.state_dict())
    for stage, (name, found) in zip(STAGES[backbone], cascading(method), strict=True):
        lost.append(changed(found, method))
        assert name == stage and lost[-1] > lost[-2] and not found.training
    assert lost[1] == {"head.linear.weight", "head.linear.bias"}
    assert lost[-1] == {name for name, _ in method.named_parameters()}
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_a_stage_is_what_the_network_calls_one():
    found = dict(cascading(network()))
    lost = changed(found["stage 4"], found["head"])
    assert lost and all(name.startswith("backbone.network.layer4.") for name in lost)
    norm = found["stage 4"].backbone.network.layer4[0].bn1
    assert (norm.weight == 1).all() and (norm.running_mean == 0).all()


def test_the_last_of_the_cascade_is_the_random_network_and_a_seed_is_one_network():
    method = network("test_vit")
    (*_, (_, last)) = cascading(method, seed=1)
    assert not changed(last, randomised(method, seed=1))
    assert len(changed(randomised(method, 1), randomised(method, 2))) > 20


def test_the_callers_random_numbers_are_left_alone():
    method = network("test_vit")
    before = torch.random.get_rng_state()
    list(cascading(method))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "test_vit4"])
def test_the_random_network_is_one_that_timm_has_just_made(backbone):
    method = network(backbone)
    torch.manual_seed(3)
    new = Backbone(backbone, method.backbone.img_size).state_dict()
    found = randomised(method, seed=3).backbone.state_dict()
    assert found.keys() == new.keys() and all(torch.equal(value, new[name]) for name, value in found.items())


def test_the_heads_entries_are_shuffled():
    method = network("test_vit")
    found, own = randomised(method).head.linear.weight, method.head.linear.weight
    assert torch.equal(found.flatten().sort()[0], own.flatten().sort()[0]) and (found != own).float().mean() > 0.9


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_a_random_network_has_maps_and_they_are_others(backbone):
    method = network(backbone)
    nn.init.normal_(method.head.linear.weight, std=0.5)
    image = torch.randn(6, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    maps, *others = (
        cam.maps(one, one.backbone.grid, image, [0, 1])[0].flatten(0, 1).numpy()
        for one in (method, *(randomised(method, seed) for seed in range(4)))
    )
    assert all(np.isfinite(one).all() for one in others) and np.mean([one.any((1, 2)) for one in others]) > 0.2
    assert np.nanmean([spearman(maps, one) for one in others]) < 0.5


def test_the_correlations_are_scipys():
    one, other = MAPS
    flat = [(a.ravel(), b.ravel()) for a, b in zip(one, other, strict=True)]
    np.testing.assert_allclose(spearman(one, other), [stats.spearmanr(*pair).statistic for pair in flat])
    np.testing.assert_allclose(pearson(one, other), [stats.pearsonr(*pair).statistic for pair in flat], rtol=1e-6)


@pytest.mark.parametrize("similarity", [spearman, pearson])
def test_a_map_is_like_itself_at_any_scale_and_unlike_its_opposite(similarity):
    np.testing.assert_allclose(similarity(MAPS[0], 1e-6 * MAPS[0]), 1)
    np.testing.assert_allclose(similarity(MAPS[0], MAPS[0].max() - MAPS[0]), -1)


@pytest.mark.parametrize("similarity", [spearman, pearson])
def test_constant_and_empty_maps_are_like_none(similarity):
    maps = MAPS[0].copy()
    maps[0], maps[1] = 0.3, 0
    assert np.isnan(similarity(maps, MAPS[1])).tolist() == [True, True, False]
    assert np.isnan(similarity(MAPS[1], maps)).tolist() == [True, True, False]


def test_repeatability_is_the_mean_over_pairs_that_have_maps():
    maps = np.random.default_rng(1).random((3, 4, 5, 5))
    maps[0, 1] = 0
    maps[:2, 2] = 0
    pairs = [spearman(maps[i], maps[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    expected = [np.mean([one[0] for one in pairs]), pairs[2][1], np.nan, np.mean([one[3] for one in pairs])]
    np.testing.assert_allclose(repeatability(maps), expected)
    np.testing.assert_allclose(repeatability(np.stack([maps[2]] * 2), pearson), 1)


def test_maps_that_all_look_at_the_centre_repeat_no_better_than_those_of_other_patients():
    rng, centre = np.random.default_rng(2), np.outer(np.hanning(9), np.hanning(9))
    maps = centre + 0.2 * rng.random((2, 200, 9, 9))
    null = spearman(maps[0], maps[1][other_patients(np.arange(200))])
    assert repeatability(maps).mean() > 0.5 and abs(repeatability(maps).mean() - null.mean()) < 0.02


def test_architectures_agree_at_the_coarser_grid():
    fine = np.random.default_rng(3).random((2, 14, 14))
    means = fine.reshape(2, 7, 2, 7, 2).mean((2, 4))
    np.testing.assert_allclose(agreement(fine, means), 1)
    np.testing.assert_allclose(agreement(means, fine, pearson), 1)
    other = np.random.default_rng(4).random((2, 5, 7))
    np.testing.assert_allclose(agreement(np.kron(other, np.ones((1, 3, 1))), other), 1)


def test_a_constant_map_stays_so_at_another_grid():
    flat, other = np.full((1, 14, 14), 0.1 * 3), np.random.default_rng(0).random((1, 4, 5))
    assert np.ptp(area_mean(flat, (4, 5))) > 0  # by rounding
    assert np.isnan(agreement(flat, other)).all() and np.isnan(agreement(flat, other, pearson)).all()


def test_maps_of_different_grids_are_not_compared_cell_by_cell():
    with pytest.raises(ValueError, match="same films and grid"):
        spearman(np.ones((1, 7, 7)), np.ones((1, 14, 14)))


def test_one_training_repeats_nothing():
    with pytest.raises(ValueError, match="two trainings"):
        repeatability(MAPS[:1])
