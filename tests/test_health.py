"""Figures of a representation equal slow recomputations, and tell a collapse from a sound one in words."""

import math

import pytest
import torch

from xrayssl.health import FEW, Health, alignment, effective_rank, health, judge, spread, uniformity

N, D = 60, 16


@pytest.fixture
def cloud():
    return torch.randn(N, D, generator=torch.Generator().manual_seed(0)) + 0.5


@pytest.fixture
def moved(cloud):
    return cloud + 0.3 * torch.randn(N, D, generator=torch.Generator().manual_seed(1))


def units(cloud):
    return [[value / math.sqrt(sum(v * v for v in row)) for value in row] for row in cloud.double().tolist()]


def test_the_spread_is_the_mean_deviation_of_unit_vectors_feature_by_feature(cloud):
    columns = list(zip(*units(cloud), strict=True))
    means = [sum(column) / N for column in columns]
    deviations = [math.sqrt(sum((v - m) ** 2 for v in c) / N) for c, m in zip(columns, means, strict=True)]
    assert spread(cloud) == pytest.approx(math.sqrt(D) * sum(deviations) / D, rel=1e-12)


def test_the_rank_is_the_exponential_of_the_entropy_of_the_singular_values(cloud):
    eigenvalues = torch.linalg.eigvalsh(cloud.double().T @ cloud.double()).tolist()
    values = [math.sqrt(value) for value in eigenvalues]
    shares = [value / sum(values) for value in values]
    assert effective_rank(cloud) == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)), rel=1e-6)


def test_the_alignment_is_the_mean_squared_distance_of_two_views(cloud, moved):
    pairs = zip(units(cloud), units(moved), strict=True)
    squares = [sum((a - b) ** 2 for a, b in zip(one, two, strict=True)) for one, two in pairs]
    assert alignment(cloud, moved) == pytest.approx(sum(squares) / N, rel=1e-12)


def test_the_uniformity_is_the_logarithm_of_the_mean_potential_of_all_pairs(cloud):
    rows = units(cloud)
    potentials = [
        math.exp(-2 * sum((a - b) ** 2 for a, b in zip(rows[i], rows[j], strict=True)))
        for i in range(N) for j in range(i)
    ]  # fmt: skip
    assert uniformity(cloud) == pytest.approx(math.log(sum(potentials) / len(potentials)), rel=1e-12)


def test_films_on_one_point_have_no_spread_rank_one_and_the_worst_uniformity():
    point = torch.ones(N, D) * torch.arange(1, D + 1)
    figures = health(point, point, point)
    assert (figures.std, figures.alignment, figures.uniformity) == pytest.approx((0, 0, 0), abs=1e-9)
    assert figures.rank == pytest.approx(1, abs=1e-6)


def test_films_on_a_line_have_rank_one_though_they_are_spread():
    line = torch.linspace(-1, 1, N)[:, None] * torch.ones(D)
    assert effective_rank(line) == pytest.approx(1, abs=1e-5)
    assert spread(line) == pytest.approx(1, abs=1e-6)


def test_evenly_spread_films_have_spread_one_full_rank_and_the_best_uniformity():
    even = torch.randn(1500, D, generator=torch.Generator().manual_seed(0))
    assert spread(even) == pytest.approx(1, abs=0.01)
    assert effective_rank(even) == pytest.approx(D, rel=0.01)
    other = torch.nn.functional.normalize(torch.randn(20_000, D, generator=torch.Generator().manual_seed(3)))
    potential = torch.exp(-4 * (1 - other[:, 0])).mean()  # of a fixed film and any other, at 2 - 2 cos
    assert uniformity(even) == pytest.approx(potential.log().item(), abs=0.03)


def test_no_figure_depends_on_the_length_of_a_unit(cloud, moved):
    one, other = health(cloud, cloud, moved), health(100 * cloud, 100 * cloud, 0.01 * moved)
    assert [one.std, one.alignment, one.uniformity] == pytest.approx([other.std, other.alignment, other.uniformity])


def test_a_dead_network_is_a_point_and_not_an_error():
    dead = torch.zeros(N, D)
    assert health(dead, dead, dead) == Health(0.0, 1.0, 0.0, 0.0)
    assert judge({0: sound(), 1: health(dead, dead, dead), 2: health(dead, dead, dead)}).state == "point"


def test_features_that_are_not_finite_have_no_figures_and_a_verdict(cloud):
    spoilt = cloud.clone()
    spoilt[3, 2] = math.inf
    figures = health(spoilt, cloud, cloud)
    assert not figures.finite and math.isnan(figures.std)
    assert judge({0: sound(), 5: figures}).state == "broken"
    assert not health(cloud, cloud, cloud, spoilt).finite


def sound(std=0.7, rank=30.0, embedding=None):
    return Health(std, rank, 0.5, -1.0, embedding)


def test_the_verdict_names_the_figure_and_since_when():
    history = {0: sound(), 5: sound(0.4, 8), 10: sound(0.05, 2.5), 15: sound(0.02, 1.4)}
    verdict = judge(history)
    assert verdict.collapsed
    assert verdict.words.startswith("The representation has collapsed to a point since epoch 10: health/std is 0.02")
    assert "0.7 before the training" in verdict.words


def test_a_collapse_that_has_passed_is_none():
    assert judge({0: sound(), 5: sound(0.01, 1.1), 10: sound(0.5, 9)}).state == "sound"


def test_a_network_that_starts_with_little_spread_has_not_collapsed():
    assert judge({0: sound(0.08, 8)}).state == "sound"  # DenseNet-121 with random weights on chest films
    assert judge({0: sound(0.08, 8), 5: sound(0.06, 6)}).state == "sound"


def twice(figures):
    return judge({0: sound(embedding=0.6), 5: figures, 10: figures})


def test_a_line_is_told_from_a_point():
    assert twice(sound(0.7, 1.2)).state == "line"
    assert twice(sound(0.01, 1.2)).state == "point"


def test_one_measurement_is_no_verdict_and_the_next_one_is():
    once = judge({0: sound(), 5: sound(0.01, 1.2)})
    assert once.state == "doubtful" and not once.collapsed
    assert "standard deviation 0.01, 0.7 before the training" in once.words and "may pass" in once.words
    assert judge({0: sound(), 5: sound(0.01, 1.2), 10: sound(0.5, 1.2)}).state == "line"
    assert judge({0: sound(), 5: sound(0.01, 1.2), 10: sound(), 15: sound(0.01, 1.2)}).state == "doubtful"


def test_at_the_end_of_a_training_nothing_is_left_to_the_next_measurement():
    ended = judge({0: sound(), 2: sound(0.01, 1.2)}, ended=True)
    assert ended.state == "doubtful" and "The training ended so" in ended.words and "may pass" not in ended.words


def test_much_less_than_before_the_training_is_doubtful_and_no_collapse():
    faded = {0: sound(0.73, 29.7), 5: sound(0.14, 3.6)}
    assert judge(faded).state == judge({**faded, 10: sound(0.14, 3.6)}).state == "doubtful"
    assert "0.14, 0.73 before the training (rank 29.7)" in judge(faded).words
    assert "may pass." in judge(faded).words and "collapse" not in judge(faded).words
    assert judge({0: sound(0.73, 29.7), 5: sound(0.14, 8.0)}).state == "sound"
    assert judge({0: sound(0.73, 29.7), 5: sound(0.3, 3.6)}).state == "sound"


def test_what_was_measured_before_the_training_is_not_compared_with_itself():
    assert "before the training" not in judge({0: sound()}).words


def test_a_head_that_has_collapsed_before_a_sound_backbone_is_named():
    verdict = twice(sound(embedding=0.01))
    assert verdict.state == "head" and "health/embedding_std is 0.01" in verdict.words
    assert twice(sound(embedding=0.5)).state == "sound"


def test_of_few_films_or_none_nothing_is_concluded():
    gone = {0: sound(), 5: sound(0.0, 1.0), 10: sound(0.0, 1.0)}
    assert judge({}).state == judge(gone, FEW - 1).state == "unknown"
    assert judge(gone, FEW).state == "point"
    assert not judge({}).collapsed
