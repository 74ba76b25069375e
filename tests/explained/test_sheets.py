import numpy as np
import pandas as pd

from xrayssl.explained.collection import Collection
from xrayssl.explained.sheets import GROUPS, choose


def collection(patients, right):
    count = len(patients)
    table = pd.DataFrame({"row": range(count), "patient": patients, "class": "a", "label": 1.0, "right": right,
                          "probability": np.linspace(0.1, 0.9, count)})  # fmt: skip
    return Collection(table, np.ones((count, 2, 2)), {}, {})


def test_right_and_missed_ones_come_first_and_a_patient_once_as_long_as_there_are_others():
    made = collection(["p", "p", "q", "r", "s", "t"], [0, 1, 0, 1, np.nan, np.nan])
    found = choose(made, 4)
    groups = {one.place: one.group for one in found}
    assert groups[3] == GROUPS[0] and groups[1] == GROUPS[0] and groups[2] == GROUPS[1] and len(found) == 4
    assert len({made.patients[place] for place in groups}) == 4


def test_where_there_is_one_patient_its_other_films_are_shown():
    assert len(choose(collection(["p"] * 6, [1.0] * 6), 4)) == 4
