import pytest
import torch
from sklearn.metrics import roc_auc_score

from xrayssl.errors import UserError
from xrayssl.frozen.settings import Labelled, select, unlearnable
from xrayssl.probing import knn, linear

NAN = float("nan")


def films(count, seed, classes=2):
    draw = torch.Generator().manual_seed(seed)
    feature = torch.randn(count, 8, generator=draw)
    return Labelled(feature, (feature[:, :classes] + torch.randn(count, classes, generator=draw) > 0).float())


def test_the_penalty_with_the_highest_validation_auroc_is_chosen():
    train, val = films(40, 0), films(60, 1)
    found = select("linear", train, val, "multilabel", ["a", "b"], [0.001, 0.1, 10.0])
    expected = {}
    for penalty in (0.001, 0.1, 10.0):
        score = linear(train.feature_ND, train.label_NK, val.feature_ND, "multilabel", penalty)
        expected[penalty] = roc_auc_score(val.label_NK, score)
    assert found.tried == pytest.approx(expected, abs=2e-3)
    assert found.setting == max(expected, key=expected.get)


def test_the_number_of_neighbours_with_the_highest_validation_auroc_is_chosen():
    train, val = films(40, 0), films(60, 1)
    found = select("knn", train, val, "multilabel", ["a", "b"])
    expected = {
        k: roc_auc_score(val.label_NK, knn(train.feature_ND, train.label_NK, val.feature_ND, k)) for k in (1, 5, 10, 20)
    }
    assert found.tried == pytest.approx(expected)
    assert found.setting == max(expected, key=expected.get)
    torch.testing.assert_close(
        found.predict(val.feature_ND), knn(train.feature_ND, train.label_NK, val.feature_ND, int(found.setting))
    )


def test_of_equal_settings_the_smoother_is_kept():
    train = Labelled(torch.eye(4).repeat(10, 1), torch.tensor([[0.0], [0.0], [1.0], [1.0]]).repeat(10, 1))
    assert select("linear", train, train, "multilabel", ["a"], [0.01, 1.0]).setting == 1.0
    assert select("knn", train, train, "multilabel", ["a"], [1, 5]).setting == 5


def test_classes_that_one_side_lacks_have_no_part_in_the_choice():
    train, val = films(40, 0, 3), films(60, 1, 3)
    train.label_NK[:, 1], val.label_NK[:, 2] = 0.0, NAN
    assert select("knn", train, val, "multilabel", ["a", "b", "c"]).undefined == ["b", "c"]


@pytest.mark.parametrize(("kind", "value", "even"), [("knn", 0.0, 0.0), ("linear", 1.0, 1.0), ("knn", NAN, 0.5)])
def test_what_cannot_be_learned_has_the_same_probability_everywhere(kind, value, even):
    train, val = films(40, 0), films(60, 1)
    train.label_NK[:, 1] = value
    assert unlearnable(train.label_NK, "multilabel").tolist() == [False, True]
    found = select(kind, train, val, "multilabel", ["a", "b"]).predict(val.feature_ND)
    assert found[:, 1].unique().tolist() == [even]
    assert len(found[:, 0].unique()) > 10


def test_films_that_tell_no_setting_from_another_are_refused():
    train, val = films(40, 0, 1), films(60, 1, 1)
    val.label_NK[:] = 0
    with pytest.raises(UserError, match="Nothing can be chosen"):
        select("knn", train, val, "multilabel", ["a"])


def test_features_of_a_diverged_network_are_refused():
    train, val = films(40, 0), films(60, 1)
    train.feature_ND[0, 0] = NAN
    with pytest.raises(UserError, match="not finite"):
        select("linear", train, val, "multilabel", ["a", "b"])
