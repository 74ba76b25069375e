import os

import pandas as pd

from xrayssl.frozen.extraction import digests


def test_films_of_one_name_size_and_time_in_two_patients_folders_are_told_apart(tmp_path):
    paths = [tmp_path / patient / "study1" / "view1.png" for patient in ("p1", "p2")]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"film")
        os.utime(path, (1, 1))
    first, second = digests(pd.DataFrame({"path": [str(path) for path in paths]}), [0, 1])
    assert first != second
    paths[0].write_bytes(b"a larger film")
    assert digests(pd.DataFrame({"path": [str(paths[0])]}), [0])[0] != first
