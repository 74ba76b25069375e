import numpy as np
import pytest

from xrayssl.errors import UserError
from xrayssl.explained.targets import checked, chosen, right

CLASSES = ["a", "b", "c"]
LABEL = np.array([[1, 0, 1], [0, 1, np.nan]], np.float32)
PROBABILITY = np.array([[0.6, 0.2, 0.1], [0.3, 0.4, 0.9]], np.float32)


def asked(rule, task="multilabel", **threshold):
    return chosen(rule, CLASSES, task, LABEL, PROBABILITY, threshold).tolist()


def test_by_label_it_is_every_finding_that_is_there():
    assert asked(["label"]) == [[True, False, True], [False, True, False]]


def test_by_prediction_it_is_the_most_probable_class_or_every_finding_that_reaches_its_threshold():
    assert asked(["prediction"], "multiclass") == [[True, False, False], [False, False, True]]
    assert asked(["prediction"], a=0.5, c=0.05) == [[True, False, True], [False, False, True]]


def test_findings_without_thresholds_are_never_guessed_by_their_maximum():
    with pytest.raises(UserError, match="no thresholds"):
        asked(["prediction"])


def test_a_named_class_is_explained_in_every_film():
    assert asked(["b", "c"]) == [[False, True, True]] * 2


def test_right_is_what_is_there_and_predicted():
    assert right(CLASSES, "multiclass", LABEL, PROBABILITY, {}).tolist() == [[True, False, False], [False] * 3]


@pytest.mark.parametrize(
    ("rule", "told"), [(["lable"], "Did you mean label"), (["label", "a"], "alone"), (["z"], "a, b, c")]
)
def test_what_is_no_class_is_told(rule, told):
    with pytest.raises(UserError, match=told):
        checked(rule, CLASSES)
