import os
import time
from itertools import permutations

import numpy as np
import pytest

from xrayssl import permutations as module
from xrayssl.errors import UserError
from xrayssl.permutations import candidates, choose, distant


@pytest.fixture(autouse=True)
def cached(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "xrayssl" / "permutations"


def distances(orders):
    """Hamming distances of all pairs."""
    return (orders[:, None] != orders[None]).sum(axis=2)[np.triu_indices(len(orders), 1)]


@pytest.mark.parametrize(("count", "length"), [(24, 4), (100, 6), (300, 9), (50, 16)])
def test_every_order_holds_each_tile_once_and_no_order_comes_twice(count, length):
    orders = distant(count, length)
    assert (orders.dtype, orders.shape) == (np.dtype("int64"), (count, length))
    assert (np.sort(orders, axis=1) == np.arange(length)).all()
    assert len({tuple(order) for order in orders.tolist()}) == count


def test_the_candidates_are_all_permutations():
    found = {tuple(order) for order in candidates(5, np.random.default_rng(0)).T.tolist()}
    assert found == set(permutations(range(5)))


def test_the_choice_is_that_of_a_slow_recomputation():
    pool = [tuple(order) for order in candidates(5, np.random.default_rng(3)).T.tolist()]
    chosen = [pool[0]]

    def merit(order):
        apart = [sum(a != b for a, b in zip(order, other, strict=True)) for other in chosen]
        return min(apart), sum(apart)

    while len(chosen) < 40:
        chosen.append(max(pool, key=merit))  # the first of the best
    assert choose(40, 5, seed=3).tolist() == [list(order) for order in chosen]


def test_chosen_orders_are_farther_apart_than_drawn_ones():
    drawn = candidates(9, np.random.default_rng(0))[:, :200].T
    assert distances(choose(200, 9, 0)).min() >= 6 > distances(drawn).min()


def test_another_seed_gives_other_orders():
    assert distant(20, 6).tolist() == distant(20, 6, seed=0).tolist() != distant(20, 6, seed=1).tolist()


def test_a_thousand_of_nine_take_seconds():
    before = time.process_time()
    choose(1000, 9, 0)
    assert time.process_time() - before < 20


def test_they_are_made_once(cached, monkeypatch):
    first = distant(30, 6)
    monkeypatch.setattr(module, "choose", lambda *_: pytest.fail("made again"))
    assert distant(30, 6).tolist() == first.tolist()
    assert len(list(cached.iterdir())) == 1  # and nothing half written beside it


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY nonsense", None])
def test_a_damaged_file_is_made_again(cached, damage):
    first = distant(30, 6)
    (path,) = cached.iterdir()
    if damage is None:
        np.save(path, np.zeros((30, 6), dtype=np.int64))  # whole, but no permutations
    else:
        path.write_bytes(damage)
    assert distant(30, 6).tolist() == first.tolist()
    assert np.load(path).tolist() == first.tolist()


@pytest.mark.skipif(os.name != "posix", reason="a file in the place of a folder")
def test_a_cache_that_cannot_be_written_is_said_and_no_obstacle(cached, caplog):
    cached.parent.mkdir()
    cached.write_text("in the way")
    assert distant(5, 4).shape == (5, 4)
    assert "cannot be kept" in caplog.text


@pytest.mark.parametrize(("count", "length", "most"), [(25, 4, 24), (1, 4, 24), (362881, 9, 362880)])
def test_more_orders_than_there_are_are_refused(count, length, most):
    with pytest.raises(UserError, match=f"model.permutations must be 2-{most} for {length} tiles, not {count}"):
        distant(count, length)
