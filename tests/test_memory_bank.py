from collections import deque

import pytest
import torch

from xrayssl.memory_bank import MemoryBank


def test_the_newest_embeddings_take_the_place_of_the_oldest():
    bank, line, film = MemoryBank(5, 2), deque(maxlen=5), 0
    for count in (2, 2, 4, 1, 9):
        embedding, films = torch.randn(count, 2), torch.arange(film, film := film + count)
        bank.enqueue(embedding, films)
        line.extend(zip(films.tolist(), embedding.tolist(), strict=True))
        held = dict(zip(bank.film_N.tolist(), bank.embedding_NE.tolist(), strict=True))
        assert {number: row for number, row in held.items() if number >= 0} == dict(line)
        assert bank.filled == len(line)


def test_it_starts_with_random_directions_that_every_process_has():
    torch.manual_seed(1)
    one = MemoryBank(500, 8)
    torch.manual_seed(2)
    assert torch.equal(one.embedding_NE, MemoryBank(500, 8).embedding_NE)
    assert torch.allclose(one.embedding_NE.norm(dim=1), torch.ones(500))
    assert one.embedding_NE.mean(dim=0).norm() < 0.15  # about 1 / sqrt(500)


def test_another_bank_goes_on_from_its_state():
    bank, other = MemoryBank(5, 2), MemoryBank(5, 2)
    bank.enqueue(torch.randn(3, 2), torch.arange(3))
    other.load_state_dict(bank.state_dict())
    row = torch.randn(4, 2)
    for one in (bank, other):
        one.enqueue(row, torch.arange(3, 7))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in bank.state_dict().items())
    assert bank.film_N.tolist() == [5, 6, 2, 3, 4]


def test_what_it_holds_has_no_gradient():
    bank = MemoryBank(4, 2)
    bank.enqueue(torch.randn(2, 2, requires_grad=True))
    assert not bank.embedding_NE.requires_grad
    assert bank.film_N.tolist() == [-1] * 4


@pytest.mark.parametrize("size", [3, 9])
def test_a_shortened_bank_holds_so_many_at_most(size):
    bank = MemoryBank(5, 2)
    bank.shorten(size)
    bank.enqueue(torch.ones(7, 2), torch.arange(7))
    assert [len(bank), bank.embedding_NE.shape[0], bank.filled] == [min(5, size)] * 3
    assert set(bank.state_dict()) == {"embedding_NE", "film_N", "count"}
