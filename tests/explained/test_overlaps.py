import numpy as np
import pandas as pd
import pytest

from xrayssl.explained.collection import Collection
from xrayssl.explained.overlaps import overlaps


def boxes(count, seed=0):
    """Boxes of 3 x 3 cells anywhere on a grid of 10."""
    region = np.zeros((count, 10, 10))
    for one, (y, x) in zip(region, np.random.default_rng(seed).integers(0, 8, (count, 2)), strict=True):
        one[y : y + 3, x : x + 3] = 1
    return region


def collection(maps, region):
    count = len(maps)
    table = pd.DataFrame({"row": range(count), "film": [f"a/{n}.png" for n in range(count)], "class": "Nodule",
                          "patient": [str(n) for n in range(count)]})  # fmt: skip
    return Collection(table, maps, {"box": region}, {})


def test_maps_that_find_the_box_overlap_more_than_every_null():
    region, noise = boxes(40), np.random.default_rng(1)
    found = overlaps(collection(region + 0.2 * noise.random(region.shape), region), list(noise.random((4, 40, 10, 10))))
    for overlap in ("iou", "iobb"):
        one = found["box"][overlap]
        assert one["value"] == pytest.approx(1.0)
        assert {*one["nulls"]} == {"uniform", "centred_gaussian", "other_patients", "random_weights"}
        assert all(null["low"] > 0 and null["p_holm"] < 0.01 for null in one["nulls"].values())


def test_maps_that_know_nothing_are_not_told_from_others():
    noise, region = np.random.default_rng(2), boxes(60)
    found = overlaps(collection(noise.random(region.shape), region), list(noise.random((4, 60, 10, 10))))["box"]
    for name in ("other_patients", "random_weights"):
        assert found["iou"]["nulls"][name]["p_holm"] > 0.05


def test_a_uniform_map_has_the_share_of_the_area():
    region = boxes(20)
    null = overlaps(collection(region, region))["box"]["iou"]["nulls"]["uniform"]
    assert null["difference"] == pytest.approx(1 - 0.09)


def test_every_null_is_cut_where_it_serves_best_on_others():
    """The box is the middle: a Gaussian that is cut well has it, where the network's own uniform map has its area."""
    region = np.zeros((12, 10, 10))
    region[:, 3:7, 3:7] = 1
    found = overlaps(collection(np.ones_like(region), region))["box"]["iou"]
    assert found["value"] == pytest.approx(0.16) and found["nulls"]["centred_gaussian"]["difference"] < -0.7


def test_regions_of_one_patient_have_none():
    region = boxes(3)
    one = collection(region, region)
    one.table["patient"] = "P1"
    assert overlaps(one) == {}


def test_random_networks_that_say_nothing_are_no_null():
    region = boxes(6)
    found = overlaps(collection(region, region), [np.zeros_like(region)])
    assert "random_weights" not in found["box"]["iou"]["nulls"]
