import pytest
import timm
import torch

from xrayssl.backbone import Backbone
from xrayssl.errors import UserError
from xrayssl.features import check_pool, pooled
from xrayssl.frozen.sources import labels, opened

FILMS = torch.randint(0, 256, (3, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_the_class_token_is_timms_and_the_mean_is_that_of_the_patches():
    backbone = Backbone("test_vit", 32).eval()
    tokens_BSD = backbone.network.forward_features(backbone.normalize(FILMS))
    torch.testing.assert_close(pooled(backbone, FILMS, "class"), tokens_BSD[:, 0])
    torch.testing.assert_close(pooled(backbone, FILMS), tokens_BSD[:, 1:].mean(1))


def test_a_cnn_has_no_class_token():
    with pytest.raises(UserError, match="resnet18 has no class token"):
        check_pool(Backbone("resnet18", 32), "class")


def test_names_are_short_and_differ(tmp_path):
    run = tmp_path / "mae_chest/2026-11-23_12-10-17"
    (run / "checkpoints").mkdir(parents=True)
    given = [
        str(run),
        f"{run}/checkpoints/last.ckpt",
        f"{tmp_path}/m0/backbone.safetensors",
        f"{tmp_path}/mae.pth",
        "random:1",
    ]
    assert labels(given) == [
        "mae_chest-2026-11-23_12-10-17", "mae_chest-2026-11-23_12-10-17-2", "m0", "mae", "random-1"]  # fmt: skip


def test_a_seed_gives_the_same_weights_and_draws_nothing_from_the_callers_numbers():
    before, problems = torch.get_rng_state(), []
    one, other, again = (opened([each], "test_vit", 32, problems)[0] for each in ("random:1", "random:2", "random:1"))
    assert problems == []
    assert one.fingerprint == again.fingerprint != other.fingerprint
    assert torch.equal(torch.get_rng_state(), before)
    assert not one.backbone.training


def test_timms_weights_that_cannot_be_had_are_told_in_the_words_of_the_verb(monkeypatch):
    original = timm.create_model

    def offline(*args, pretrained=False, **options):
        if pretrained:
            raise OSError("no route to host")
        return original(*args, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    problems = []
    assert opened(["timm"], "resnet18", 32, problems) == []
    assert "no route to host" in problems[0]
    assert "--backbone FILE" in problems[0]


def test_weights_of_another_program_are_taken_with_the_network_they_tell(tmp_path):
    theirs = timm.create_model("resnet18", num_classes=3)
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in theirs.state_dict().items()}}, tmp_path / "a.pth"
    )
    problems = []
    given = [str(tmp_path / "a.pth"), "random"]
    found, random = opened(given, None, 32, problems)
    assert problems == []
    assert found.backbone.architecture == random.backbone.architecture == "resnet18"
    assert torch.equal(found.backbone.network.layer1[0].conv1.weight, theirs.layer1[0].conv1.weight)
