import sys
import types

import cv2
import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from xrayssl.errors import UserError
from xrayssl.frozen import projection
from xrayssl.frozen.scatter import COLOURS, Colouring, draw, groups

FEATURES = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5, 1, 1, 3, 1]) + 7


def test_principal_components_are_scikit_learns_and_the_axes_say_how_much_they_explain():
    found, model = projection.pca(FEATURES), PCA(2).fit(FEATURES.numpy())
    expected = model.transform(FEATURES.numpy())
    signs = np.sign((found.point_N2.numpy() * expected).sum(0))
    np.testing.assert_allclose(found.point_N2.numpy() * signs, expected, atol=1e-4)
    assert f"({model.explained_variance_ratio_[0]:.1%} of the variance)" in found.axes[0]


def test_the_sign_does_not_depend_on_the_order_of_films():
    torch.testing.assert_close(projection.pca(FEATURES.flip(0)).point_N2.flip(0), projection.pca(FEATURES).point_N2)


def test_equal_features_lie_on_one_point():
    assert projection.pca(torch.ones(4, 5)).point_N2.abs().max() < 1e-6


def test_umap_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'xrayssl\[umap\]'"):
        projection.umap(FEATURES)


def test_umap_has_a_fixed_seed_and_no_more_neighbours_than_films(monkeypatch):
    class UMAP:
        def __init__(self, **options):
            self.options = options

        def fit_transform(self, feature_ND):
            assert self.options["n_neighbors"] < len(feature_ND)
            assert self.options["random_state"] == 0
            return feature_ND[:, :2]

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=UMAP))
    monkeypatch.setattr(projection, "check_umap", lambda: None)
    assert projection.umap(FEATURES[:5]).point_N2.shape == (5, 2)
    with pytest.raises(UserError, match="3 films or more"):
        projection.umap(FEATURES[:2])


def test_more_groups_than_colours_are_joined_and_what_is_said_of_nobody_comes_last():
    names = np.array([name for number in range(9) for name in [f"c{number}"] * (20 - number)] + ["none"] * 99)
    found = groups(names)
    assert list(found) == [f"c{number}" for number in range(len(COLOURS))] + ["none", "other"]
    assert found["other"].sum() == 13 + 12
    assert sum(held.sum() for held in found.values()) == len(names)


def test_a_picture_has_a_panel_for_each_colouring_and_is_the_same_every_time(tmp_path):
    colourings = [Colouring("split", np.array(["train", "val"] * 25)), Colouring("label", np.array(["none"] * 50))]
    paths = [draw(tmp_path / f"{n}.png", FEATURES[:, :2].numpy(), ("x", "y"), colourings, "title") for n in (1, 2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    height, width = cv2.imread(str(paths[0])).shape[:2]
    assert width > 1.4 * height
