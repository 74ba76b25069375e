"""The decoders of masked autoencoders."""

import pytest
import torch

from xrayssl.decoders import CrossDecoder, MaskedDecoder, mistakes
from xrayssl.errors import UserError

KINDS = [MaskedDecoder, CrossDecoder]
GRID = (4, 4)


def decoder(kind, **kwargs):
    torch.manual_seed(0)
    return kind(24, GRID, 5, **{"decoder_width": 16, "depth": 2, "heads": 4, **kwargs})


def question(visible=6, prefix=1):
    torch.manual_seed(1)
    order_BL = torch.stack([torch.randperm(16) for _ in range(3)])
    return torch.randn(3, prefix + visible, 24), order_BL[:, :visible], order_BL[:, visible:]


@pytest.mark.parametrize("kind", KINDS)
def test_a_decoder_predicts_what_it_is_asked_for_in_that_order(kind):
    encoded_BSD, visible_BV, hidden_BM = question()
    net = decoder(kind)
    prediction_BMP = net(encoded_BSD, visible_BV, hidden_BM)
    assert prediction_BMP.shape == (3, 10, 5)
    torch.testing.assert_close(net(encoded_BSD, visible_BV, hidden_BM.flip(1)), prediction_BMP.flip(1))


def test_a_part_of_the_hidden_patches_is_predicted_by_the_cross_decoder_as_all_of_them_are():
    encoded_BSD, visible_BV, hidden_BM = question()
    net = decoder(CrossDecoder)
    part_BMP = net(encoded_BSD, visible_BV, hidden_BM[:, 2:5])
    torch.testing.assert_close(part_BMP, net(encoded_BSD, visible_BV, hidden_BM)[:, 2:5])


@pytest.mark.parametrize("kind", KINDS)
def test_a_prediction_follows_the_visible_tokens(kind):
    encoded_BSD, visible_BV, hidden_BM = question()
    net = decoder(kind)
    other_BSD = encoded_BSD.clone()
    other_BSD[:, -1] += torch.randn(24)  # a shift by one constant would be undone by a norm
    assert (net(encoded_BSD, visible_BV, hidden_BM) - net(other_BSD, visible_BV, hidden_BM)).abs().amin() > 1e-7


WRONG = [
    ({"depth": 0}, "1 to 12"),
    ({"depth": 13}, "1 to 12"),
    ({"depth": 13}, r"--model\.decoder_depth: .*not 13"),
    ({"heads": 3}, r"--model\.decoder_width: .* 16 .* 3 heads .*; set 12 or 24, or other --model\.decoder_heads"),
    ({"heads": 0}, r"--model\.decoder_heads: .*not 0"),
    ({"decoder_width": 18, "heads": 2}, "by 4; set 16 or 20"),
    ({"decoder_width": 3, "heads": 2}, "by 4; set 4,"),
    ({"decoder_width": 0, "heads": 2}, "by 4; set 4,"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("wrong", "said"), WRONG)
def test_sizes_that_do_not_fit_are_refused(kind, wrong, said):
    with pytest.raises(UserError, match=said):
        decoder(kind, **wrong)


def test_every_size_that_cannot_be_is_told_at_once():
    assert [sentence.split(":")[0] for sentence in mistakes(100, 13, 16)] == [
        "--model.decoder_depth", "--model.decoder_width"
    ]  # fmt: skip
    assert mistakes(512, 8, 16) == []


def test_the_cross_decoder_equals_a_slow_recomputation():
    encoded_BSD, visible_BV, hidden_BM = question()
    net = decoder(CrossDecoder, depth=1)
    (block,) = net.blocks
    asked = net.mask_token[0, 0] + net.position_1LE[0, hidden_BM[2, 3]]
    query = block.query(block.norm1(asked))
    keys, values = block.key_value(encoded_BSD[2]).chunk(2, dim=1)
    mixed = torch.cat([
        ((keys[:, part] @ query[part]) / 4**0.5).softmax(0) @ values[:, part]
        for part in (slice(4 * head, 4 * head + 4) for head in range(4))
    ])  # fmt: skip
    asked = asked + block.project(mixed)
    expected = net.predict(net.norm(asked + block.mlp(block.norm2(asked))))
    torch.testing.assert_close(net(encoded_BSD, visible_BV, hidden_BM)[2, 3], expected, rtol=1e-5, atol=1e-5)


def test_the_masked_decoder_equals_blocks_that_work_on_every_token():
    encoded_BSD, visible_BV, hidden_BM = question()
    net = decoder(MaskedDecoder)
    places = net.position_1LE.expand(3, -1, -1)
    take = lambda index: places.gather(1, index[..., None].expand(-1, -1, 16))  # noqa: E731
    seen = net.embed(encoded_BSD) + torch.cat([torch.zeros(3, 1, 16), take(visible_BV)], dim=1)
    whole = net.blocks(torch.cat([seen, net.mask_token + take(hidden_BM)], dim=1))
    expected = net.predict(net.norm(whole[:, 7:]))
    torch.testing.assert_close(net(encoded_BSD, visible_BV, hidden_BM), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_training_and_evaluation_predict_the_same(kind):
    encoded_BSD, visible_BV, hidden_BM = question()
    net = decoder(kind)
    trained = net(encoded_BSD, visible_BV, hidden_BM)
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(encoded_BSD, visible_BV, hidden_BM), trained, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_of_a_decoder_learns(kind):
    net = decoder(kind)
    net(*question()).pow(2).sum().backward()
    assert [name for name, weight in net.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_fused_layers_equal_a_slow_recomputation():
    maps, (_, visible_BV, hidden_BM) = [torch.randn(3, 7, 24) for _ in range(4)], question()
    net = decoder(CrossDecoder, layers=4)
    torch.nn.init.normal_(net.mix_NO)
    asked_BME = net._ask(hidden_BM)
    for number, block in enumerate(net.blocks):
        mixed_BSD = sum(weight * map_BSD for weight, map_BSD in zip(net.mix_NO[:, number], maps, strict=True))
        asked_BME = block(asked_BME, torch.nn.functional.layer_norm(mixed_BSD, (24,), eps=1e-6))
    expected_BMP = net.predict(net.norm(asked_BME))
    torch.testing.assert_close(net(maps, visible_BV, hidden_BM), expected_BMP, rtol=1e-5, atol=1e-5)
