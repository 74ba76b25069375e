import numpy as np

from xrayssl.data.sampler import EpochSampler


def epoch(sampler, number):
    sampler.set_epoch(number)
    return [row for _, row in sampler]


def test_the_order_is_a_function_of_seed_and_epoch():
    first, second = (EpochSampler(np.arange(50), seed=3) for _ in range(2))
    assert epoch(first, 4) == epoch(second, 4) != epoch(first, 5)
    assert sorted(epoch(first, 4)) == list(range(50))
    assert epoch(EpochSampler(np.arange(50), seed=4), 4) != epoch(first, 4)


def test_a_film_is_asked_for_together_with_its_epoch():
    sampler = EpochSampler(np.array([7, 8]), shuffle=False)
    sampler.set_epoch(2)
    assert list(sampler) == [(2, 7), (2, 8)]


def test_an_interrupted_epoch_goes_on_where_it_was_and_the_next_is_whole():
    sampler, straight = (EpochSampler(np.arange(20)) for _ in range(2))
    sampler.resume(3, 5)
    assert epoch(sampler, 3) == epoch(straight, 3)[5:]
    assert epoch(sampler, 4) == epoch(straight, 4)
    assert len(sampler) == 20
