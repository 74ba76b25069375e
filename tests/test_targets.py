import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from tokenizers import untrained

from xrayssl import tokenizer
from xrayssl.backbone import Backbone
from xrayssl.errors import UserError
from xrayssl.patches import patchify, unpatchify
from xrayssl.targets import NormPixels, PrincipalComponents, Target, Tokens

PATCH = (4, 4)
HIDDEN = torch.tensor([[0, 3], [5, 6]])


def films(count=2, size=16):
    torch.manual_seed(0)
    return torch.randn(count, 1, size, size).cumsum(2).cumsum(3) / size


def fitted(components=5):
    target = PrincipalComponents(PATCH, components=components)
    target.fit(films(12).split(3))
    return target


def test_pixels_are_the_patches_themselves():
    image = films()
    target = Target(PATCH)
    assert torch.equal(target(image, HIDDEN)[1, 0], image[1, 0, 4:8, 4:8].flatten())
    assert torch.equal(target.picture(target(image, HIDDEN), image, HIDDEN), target(image, HIDDEN))


def test_standardised_pixels_have_no_mean_and_unit_variance_and_come_back():
    image, target = films(), NormPixels(PATCH)
    value_BMP = target(image, HIDDEN)
    torch.testing.assert_close(value_BMP.var(-1), torch.ones(2, 2), atol=1e-2, rtol=0)
    torch.testing.assert_close(target.picture(value_BMP, image, HIDDEN), Target(PATCH)(image, HIDDEN))


def test_a_flat_patch_has_finite_standardised_pixels():
    assert (NormPixels(PATCH)(torch.full((2, 1, 16, 16), 3.0), HIDDEN) == 0).all()


def test_streamed_components_are_those_of_all_patches_at_once():
    target, patches_NP = fitted(), patchify(films(12), PATCH).flatten(0, 1).numpy()
    reference = PCA(5, svd_solver="full").fit(patches_NP.astype(np.float64))
    overlap = np.abs(reference.components_ @ target.axes_PK.numpy())
    np.testing.assert_allclose(overlap, np.eye(5), atol=1e-4)
    np.testing.assert_allclose(target.mean_P, reference.mean_, atol=1e-5)


def test_components_do_not_depend_on_how_films_are_batched_or_shared_out():
    target, halves = fitted(), PrincipalComponents(PATCH, components=5)
    first, second = films(12).split(6)
    sums = []
    PrincipalComponents(PATCH, components=5).fit([second], lambda value: sums.append(value) or value)
    halves.fit([first], lambda value: value + sums[0])
    torch.testing.assert_close(halves.axes_PK, target.axes_PK, atol=1e-4, rtol=0)


def test_all_components_give_the_pixels_back_and_few_give_an_approximation():
    image = films(12)[:2]
    errors = [
        (target.picture(target(image, HIDDEN), image, HIDDEN) - Target(PATCH)(image, HIDDEN)).abs().max()
        for target in (fitted(16), fitted(3))
    ]
    assert errors[0] < 1e-4 < errors[1]


def test_components_that_were_never_fitted_are_refused():
    with pytest.raises(RuntimeError, match="not fitted"):
        PrincipalComponents(PATCH, components=5)(films(), HIDDEN)


@pytest.mark.parametrize("components", [0, 17])
def test_more_components_than_pixels_are_refused(components):
    with pytest.raises(UserError, match="has 1 to 16 components"):
        PrincipalComponents(PATCH, components=components)


def test_fitted_components_travel_in_the_state():
    other = PrincipalComponents(PATCH, components=5)
    other.load_state_dict(fitted().state_dict())
    assert torch.equal(other(films(), HIDDEN), fitted()(films(), HIDDEN))


@pytest.fixture
def tokens(tmp_path):
    """A target over an untrained tokenizer's codes, and the method that made them."""
    method, path = untrained(tmp_path / "dvae.ckpt")
    return Tokens((16, 16), tokenizer.load(path), Backbone("vit_tiny_patch16_224", 32, mean=0.4, std=0.3)), method


def test_tokens_are_the_tokenizers_codes_whatever_normalises_the_films_here(tokens):
    target, method = tokens
    torch.manual_seed(0)
    grey = torch.rand(3, 1, 32, 32)
    expected = method.codes.logits(method.backbone(method.backbone.normalize(grey))).argmax(1).flatten(1)
    hidden = torch.tensor([[0, 2], [1, 3], [2, 3]])
    assert torch.equal(target(target._films[0].normalize(grey), hidden), expected.gather(1, hidden))
    assert len(expected.unique()) > 1


def test_the_loss_over_tokens_is_the_cross_entropy(tokens):
    target, _ = tokens
    prediction, code = torch.randn(2, 3, 12), torch.randint(0, 12, (2, 3))
    slow = -prediction.log_softmax(-1).gather(2, code[..., None]).mean()
    torch.testing.assert_close(target.loss(prediction, code), slow)


def test_a_picture_of_right_tokens_is_what_the_autoencoder_paints(tokens):
    target, method = tokens
    grey = torch.rand(2, 1, 32, 32)
    image = target._films[0].normalize(grey)
    hidden = torch.arange(4).expand(2, 4)
    right = torch.nn.functional.one_hot(target(image, hidden), 12).float()
    painted, _ = method.reconstruct(method.backbone.normalize(grey))
    shown = unpatchify(target.picture(right, image, hidden), (16, 16), (2, 2)) * 0.3 + 0.4
    torch.testing.assert_close(shown, painted * 0.25 + 0.5, atol=1e-5, rtol=0)


def test_the_tokenizer_stays_as_it_is(tokens):
    target, _ = tokens
    assert not target.train().tokenizer.backbone.training
    assert [name for name, value in target.named_parameters() if value.requires_grad] == []
    assert all(name.startswith("tokenizer.") for name in target.state_dict())


@pytest.mark.parametrize(("size", "said"), [(64, "64 x 64 px"), ((32, 64), "32 x 64 px")])
def test_a_tokenizer_for_other_films_is_refused(tmp_path, size, said):
    _, path = untrained(tmp_path / "dvae.ckpt", size=size)
    with pytest.raises(UserError, match=rf"works on films of {said}.*the model on films of 32 x 32 px"):
        Tokens((16, 16), tokenizer.load(path), Backbone("vit_tiny_patch16_224", 32))


def test_a_tokenizer_with_another_grid_is_refused(tmp_path):
    _, path = untrained(tmp_path / "dvae.ckpt")
    with pytest.raises(UserError, match="a grid of 2 x 2, the model on a grid of 1 x 1"):
        Tokens((32, 32), tokenizer.load(path), Backbone("resnet18", 32))


class Code:
    def __reduce__(self):
        return (print, ("executed",))


def test_code_in_a_tokenizer_is_never_executed(tmp_path, capsys):
    torch.save({"state_dict": Code()}, tmp_path / "evil.ckpt")
    with pytest.raises(UserError, match="never executed"):
        tokenizer.load(tmp_path / "evil.ckpt")
    assert "executed" not in capsys.readouterr().out


def damaged(path, change):
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


@pytest.mark.parametrize(("change", "said"), [
    (lambda c: c.pop("xrayssl"), "no tokenizer"),
    (lambda c: c["state_dict"].pop("codes.logits.weight"), "no tokenizer"),
    (lambda c: c["state_dict"].pop("codes.pixels.bias"), "do not fit together"),
    (lambda c: c["xrayssl"]["backbone"].update(img_size=[48, 32]), "do not fit together"),
    (lambda c: c["xrayssl"]["backbone"].pop("architecture"), "do not fit together"),
])  # fmt: skip
def test_a_tokenizer_that_is_none_is_refused_by_name(tmp_path, change, said):
    _, path = untrained(tmp_path / "dvae.ckpt")
    damaged(path, change)
    with pytest.raises(UserError, match=rf"dvae\.ckpt: .*{said}"):
        tokenizer.load(path)


def test_a_run_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        tokenizer.load(tmp_path)
