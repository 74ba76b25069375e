import pytest
import torch
from layouts import (
    args,
    colours,
    draw,
    grid,
    layer_norm,
    linear,
    norm,
    optimizer,
    resnet,
    same,
    shaken,
    under,
    vit,
    vit_grid,
    vit_tokens,
    written,
)

from xrayssl import handoff
from xrayssl.backbone import Backbone
from xrayssl.errors import UserError

IMAGE = colours()


def pretraining(**options):
    decoder = {"mask_token": draw(1, 1, 512), "decoder_pos_embed": draw(1, 5, 512), **linear("decoder_embed", 192, 512)}
    decoder |= norm("decoder_blocks.0.norm1", 512) | norm("decoder_norm", 512) | linear("decoder_pred", 512, 768)
    state = {"optimizer": optimizer(), "epoch": 799, "scaler": {"scale": 65536.0}, "args": args(**options)}
    return {"model": {**vit(), **decoder}, **state}


def fine_tuned():
    tensors = {name: value for name, value in vit().items() if not name.startswith("norm.")}
    return {"model": {**tensors, **norm("fc_norm", 192), **linear("head", 192, 14)}, "args": args(nb_classes=14)}


def test_a_pretraining_file_gives_the_encoders_features_and_leaves_the_decoder(tmp_path):
    content = pretraining()
    ours, report = grid(content, tmp_path, "vit_tiny_patch16_224", IMAGE)
    assert same(ours, vit_grid(content["model"], IMAGE))
    assert "facebookresearch/mae, pretraining" in report
    assert "150 of 150 backbone tensors" in report and "decoder_embed: 2" in report and "optimizer: 3" in report
    assert "mean 0.485, 0.456, 0.406" in report


def test_medical_mae_is_told_by_its_options_and_brings_its_own_statistics(tmp_path):
    backbone = Backbone("vit_tiny_patch16_224", 32)
    report, _ = handoff.load(backbone, written(tmp_path, pretraining(datasets_names=["chexpert"])))
    assert report.layout == "medical_mae, pretraining"
    assert backbone.mean.tolist() == pytest.approx([0.5056]) and backbone.std.tolist() == pytest.approx([0.252])


def test_a_norm_after_the_pooling_becomes_the_norm_of_every_token_and_the_report_says_so(tmp_path):
    content = fine_tuned()
    ours, report = grid(content, tmp_path, "vit_tiny_patch16_224", IMAGE)
    assert same(ours, vit_grid(content["model"], IMAGE, last="fc_norm"))
    assert "facebookresearch/mae, fine-tuned" in report and "fc_norm taken as norm" in report


def test_pooling_before_or_after_the_norm_is_not_the_same_as_the_report_claims(tmp_path):
    content = fine_tuned()
    ours, report = grid(content, tmp_path, "vit_tiny_patch16_224", IMAGE)
    theirs = layer_norm(content["model"], "fc_norm", vit_tokens(content["model"], IMAGE)[:, 1:].mean(dim=1))
    assert (ours.mean(dim=(2, 3)) - theirs).abs().max() > 1e-2
    assert "are not reproduced exactly" in report


def test_the_encoder_of_a_medical_unet_is_torchvisions_densenet(tmp_path):
    import torchvision

    network = shaken(torchvision.models.densenet121())
    rest = {"model.decoder.blocks.0.conv1.0.weight": draw(4, 4, 3, 3), "model.segmentation_head.0.bias": draw(3)}
    content = {"model": {**under("model.encoder.features.", network.features.state_dict()), **rest}, "args": args()}
    ours, report = grid(content, tmp_path, "densenet121", IMAGE)
    with torch.no_grad():
        assert same(ours, torch.relu(network.features(IMAGE)))
    assert "medical_mae, U-Net pretraining" in report and "mean 0.5056" in report and "decoder: 1" in report


def test_a_densenet_fine_tuned_by_medical_mae_has_torchvisions_names(tmp_path):
    import torchvision

    network = shaken(torchvision.models.densenet121(num_classes=14))
    ours, _ = grid({"model": network.state_dict(), "epoch": 74}, tmp_path, "densenet121", IMAGE)
    with torch.no_grad():
        assert same(ours, torch.relu(network.features(IMAGE)))


def test_the_unets_of_medical_mae_may_have_a_resnet(tmp_path):
    network, features = resnet()
    tensors = under("model.encoder.", {k: v for k, v in network.state_dict().items() if not k.startswith("fc.")})
    content = {"model": {**tensors, "model.decoder.blocks.0.conv1.0.weight": draw(4, 4, 3, 3)}}
    ours, report = grid(content, tmp_path, "resnet18", IMAGE)
    with torch.no_grad():
        assert same(ours, features(IMAGE))
    assert "U-Net" in report


def test_a_fine_tuned_file_does_not_start_a_deeper_network(tmp_path):
    path = written(tmp_path, fine_tuned())
    with pytest.raises(UserError, match=r"fine-tuned.*another shape.*set --model\.backbone vit_tiny_patch16_224"):
        handoff.load(Backbone("vit_small_patch16_224", 32), path)
