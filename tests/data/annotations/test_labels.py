from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from xrayssl.data.annotations.labels import COMPETITION, FINDINGS, policies, resolve, vocabulary
from xrayssl.errors import UserError

NAN = float("nan")
UNSURE = {"official": [1, 1, 0], "ones": [1, 1, 1], "zeros": [0, 0, 0], "ignore": [NAN] * 3}


def read(uncertain="official", blank="zeros", classes=("Edema", "Atelectasis", "Cardiomegaly"), **marks):
    table = pd.DataFrame({name: [marks.get(name.replace(" ", "_"), "")] for name in FINDINGS})
    return resolve(table, classes, policies("x", uncertain, blank), blank, Path("t.csv")).iloc[0].tolist()


@pytest.mark.parametrize("uncertain", UNSURE)
def test_each_policy_turns_an_uncertain_mark_into_what_it_says(uncertain):
    found = read(uncertain, Edema="-1.0", Atelectasis="-1", Cardiomegaly="-1.0")
    np.testing.assert_equal(found, UNSURE[uncertain])


def test_a_policy_can_be_given_for_some_findings_and_the_others_follow_the_official_one():
    found = read({"Edema": "zeros", "Cardiomegaly": "ignore"}, Edema="-1", Atelectasis="-1", Cardiomegaly="-1")
    np.testing.assert_equal(found, [0, 1, NAN])


@pytest.mark.parametrize("uncertain", UNSURE)
def test_certain_marks_stay_under_every_policy(uncertain):
    assert read(uncertain, Edema="1.0", Atelectasis="0", Cardiomegaly="1") == [1, 0, 1]


def test_what_is_not_mentioned_is_absent_or_unknown():
    assert read() == [0, 0, 0]
    np.testing.assert_equal(read(blank="ignore", Edema="1.0"), [1, NAN, NAN])


def test_a_film_without_finding_has_none_but_may_show_devices():
    classes = ("No Finding", "Edema", "Support Devices")
    np.testing.assert_equal(read(blank="ignore", classes=classes, No_Finding="1.0"), [1, 0, NAN])
    np.testing.assert_equal(read(blank="ignore", classes=classes, Edema="1.0"), [0, 1, NAN])


def test_a_finding_that_a_table_lacks_is_unknown():
    found = resolve(
        pd.DataFrame({"Edema": ["1"]}), ("Edema", "Fracture"), policies("x", "ones", "zeros"), "zeros", Path()
    )
    np.testing.assert_equal(found.to_numpy(), [[1, NAN]])


@pytest.mark.parametrize("mark", ["2", "yes", "0.5", "-2.0", "nan", "inf"])
def test_a_mark_that_is_none_is_refused_with_its_line(mark):
    with pytest.raises(UserError, match=rf"t\.csv: the finding 'Edema' is '{mark}' in line 2; it must be 1, 0, -1 or"):
        read(Edema=mark)


def test_every_wrong_option_is_named_at_once():
    with pytest.raises(UserError) as caught:
        policies("mimic", {"Edma": "ones", "Edema": "maybe"}, "never")
    texts = ["names the finding 'Edma'", "not 'maybe'", "blank is zeros or ignore, not 'never'"]
    assert all(text in message for text, message in zip(texts, caught.value.messages, strict=True))
    with pytest.raises(UserError, match=r"uncertain is official, ones, zeros, ignore or a mapping .*, not 'u-ones'"):
        policies("mimic", "u-ones", "zeros")


def test_the_vocabulary_is_of_14_or_of_the_5_of_the_competition():
    assert (vocabulary("x", 14), vocabulary("x", 5)) == (FINDINGS, COMPETITION)
    with pytest.raises(UserError, match=r"classes is 5 .* or 14, not 13"):
        vocabulary("x", 13)
