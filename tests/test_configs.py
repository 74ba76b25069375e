"""Every packaged configuration runs, hands off what it should, and says what it is."""

import json
from pathlib import Path

import pytest
import yaml
from phantoms import small
from tokenizers import untrained

from xrayssl import cli, recipes

CONFIGS = sorted(recipes.packaged().values())
SIZES = {"vit_small_patch16_224": "vit_tiny_patch16_224"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_trains_a_batch_on_phantoms(path, tmp_path):
    content = yaml.safe_load(path.read_text())
    body = "shoulder" if "Shoulder" in content["data"]["class_path"] else "chest"
    backbone = content["model"]["init_args"]["backbone"]
    films = 2 * max(2, content["model"]["init_args"].get("splits", 1))  # batch norms need two films in each part
    changes = {"data.corpora": json.dumps(small(body)), "data.img_size": "64", "data.batch_size": str(films),
               "data.num_workers": "0", "model.backbone": SIZES.get(backbone, backbone),
               "trainer.fast_dev_run": "true", "trainer.accelerator": "cpu"}  # fmt: skip
    if "tokenizer" in content["model"]["init_args"]:
        changes["model.tokenizer"] = untrained(tmp_path / "dvae.ckpt", size=64)[1]
    words = [word for name, value in changes.items() for word in (f"--{name}", value)]
    assert cli.main(["fit", "--config", path.stem, "--out", str(tmp_path / "run"), *words]) == 0


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_describes_itself_in_one_line(path):
    assert 20 < len(recipes.describe(path)) < 120


def test_there_is_a_configuration_for_every_method():
    used = {yaml.safe_load(path.read_text())["model"]["class_path"].rpartition(".")[2] for path in CONFIGS}
    from xrayssl import methods

    assert used == set(methods.__all__) - {"Method"}


def test_the_configurations_of_a_checkout_are_those_of_the_wheel():
    folder = Path(__file__).parent.parent / "configs"
    assert {path.name for path in folder.glob("*.yaml")} == {path.name for path in CONFIGS}
