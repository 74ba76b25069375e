import json

import pytest
from classifiers import fitted, measured

from xrayssl.cli import main


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A tested classifier of chest phantoms."""
    return measured(fitted(tmp_path_factory.mktemp("explained")))


@pytest.fixture(scope="session")
def explained(run, tmp_path_factory):
    """Its explanation."""
    out = tmp_path_factory.mktemp("out") / "explain"
    few = ["--sheets", "3", "--random_weights", "2", "--faithful", "4", "--cascade", "4"]
    words = ["explain", "--run", str(run), "--out", str(out), *few, "--class", "Effusion", "Nodule"]
    assert main(words) == 0
    return out, json.loads((out / "explain.json").read_text())
