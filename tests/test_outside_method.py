"""A method from outside the package: the README's own example trains, hands off and resumes."""

import re
import sys
from pathlib import Path

import pytest
from phantoms import small

from xrayssl import cli, handoff

README = Path(__file__).parent.parent / "README.md"
IMPORTS = "import torch\nimport xrayssl.methods\nfrom xrayssl.heads import LinearHead\n\n\n"


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A configuration that names the README's class in a file of its own."""
    code = re.search(r"```python\n(class .*?)```", README.read_text(), re.DOTALL).group(1)
    (tmp_path / "outside.py").write_text(IMPORTS + code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "outside", raising=False)
    path = tmp_path / "outside.yaml"
    path.write_text(
        "# A method from elsewhere\nmodel:\n  class_path: outside.Inversion\n  init_args:\n    backbone: resnet18\n"
        "data:\n  class_path: xrayssl.data.ChestXrayDataModule\n  init_args:\n    img_size: 32\n    batch_size: 4\n"
        f"    num_workers: 0\n    corpora: {small('chest')}\ntrainer:\n  max_epochs: 1\n  accelerator: cpu\n"
    )
    return path


def test_a_method_from_outside_trains_hands_off_and_resumes(config, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert cli.main(["fit", "--config", str(config), "--out", str(first)]) == 0
    assert handoff.describe(first)["method"] == "Inversion"
    resume = ["--ckpt_path", str(first / "checkpoints" / "last.ckpt"), "--trainer.max_epochs", "2"]
    assert cli.main(["fit", "--config", str(config), "--out", str(second), *resume]) == 0
    start = ["--model.backbone", "resnet18", "--model.init_from", str(first), "--data.img_size", "32"]
    quick = ["--data.corpora", str(small("shoulder")).replace("'", '"'), "--trainer.fast_dev_run", "true"]
    words = ["fit", "--config", "probe_shoulder", "--out", str(tmp_path / "third"), *start, *quick]
    assert cli.main([*words, "--data.batch_size", "4", "--trainer.accelerator", "cpu"]) == 0
