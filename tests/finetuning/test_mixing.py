import pytest
import torch

from xrayssl.errors import UserError
from xrayssl.finetuning.mixing import Mixing

NAN = float("nan")
# every film is one grey value that says which it is, and so does its label
IMAGE = torch.arange(1.0, 7.0)[:, None, None, None].expand(6, 1, 16, 12)
LABEL = torch.arange(1.0, 7.0)[:, None] / 10


def test_mixup_is_a_line_between_two_films_and_their_labels():
    torch.manual_seed(0)
    image, label = Mixing(mixup=1.0)(IMAGE, LABEL)
    assert torch.allclose(image.mean(dim=(1, 2, 3)) / 10, label[:, 0])
    assert torch.allclose(image, image[:, :, :1, :1].expand_as(image))
    assert not torch.allclose(image, IMAGE)


def test_cutmix_labels_a_film_by_the_areas_it_shows():
    torch.manual_seed(1)
    cut = 0
    for _ in range(20):
        image, label = Mixing(cutmix=1.0)(IMAGE, LABEL)
        assert torch.allclose(image.mean(dim=(1, 2, 3)) / 10, label[:, 0])
        assert all(len(film.unique()) <= 2 for film in image)
        cut += any(len(film.unique()) == 2 for film in image)
    assert cut > 10


def test_the_share_follows_the_beta_distribution():
    torch.manual_seed(0)
    pair = torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 1, 2, 2)
    drawn = [Mixing(mixup=0.5)(pair, torch.tensor([[0.0], [1.0]]))[1] for _ in range(2000)]
    moved = torch.stack([label.min() for label in drawn if label.sum() > 0])
    mixed = moved[(moved > 0)]  # a film that is its own partner stays what it is
    reference = torch.distributions.Beta(0.5, 0.5).sample((20000,))
    folded = torch.minimum(reference, 1 - reference)
    assert mixed.mean().item() == pytest.approx(folded.mean().item(), abs=0.02)


@pytest.mark.parametrize("mixing", [Mixing(mixup=1.0), Mixing(cutmix=1.0)])
def test_a_label_is_unknown_where_that_of_either_film_is(mixing):
    torch.manual_seed(0)
    image = torch.rand(8, 1, 8, 8)
    label = torch.zeros(8, 2)
    label[:3, 0] = NAN
    mixed = mixing(image, label)[1]
    unknown = mixed[:, 0].isnan()
    assert unknown[:3].all() and unknown.sum() <= 6
    assert not mixed[:, 1].isnan().any()


def test_both_ways_take_turns_and_the_generator_decides():
    image, label = torch.rand(4, 1, 8, 8), torch.eye(4)

    def draw(seed):
        torch.manual_seed(seed)
        return Mixing(mixup=1.0, cutmix=1.0)(image, label)

    kept = [
        ((draw(seed)[0][..., None] == image.permute(1, 2, 3, 0)[None]).any(dim=-1)).all().item() for seed in range(40)
    ]
    assert 5 < sum(kept) < 35  # CutMix alone leaves every pixel one of a film
    assert torch.equal(draw(3)[0], draw(3)[0]) and not torch.equal(draw(3)[0], draw(4)[0])


def test_no_mixing_is_the_default_and_numbers_below_zero_are_refused():
    assert not Mixing()
    with pytest.raises(UserError) as caught:
        Mixing(mixup=-1, cutmix=float("nan"))
    assert len(caught.value.messages) == 2
