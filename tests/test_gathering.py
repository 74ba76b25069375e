"""Gathering in one process; tests/methods/test_contrastive_distributed.py has two."""

import torch

from xrayssl.gathering import before, gather, rank, shuffled, world


def test_one_process_has_its_own_rows_with_a_gradient_where_it_is_asked_for():
    rows = torch.randn(3, 2, requires_grad=True)
    assert torch.equal(gather(rows), rows)
    assert [gather(rows).requires_grad, gather(rows, gradients=True).requires_grad] == [False, True]
    assert [world(), rank(), before(rows)] == [1, 0, 0]


def test_shuffled_rows_pass_in_another_order_and_come_back_in_theirs():
    torch.manual_seed(0)
    rows, seen = torch.arange(20.0).view(10, 2), []
    result = shuffled(lambda dealt: seen.append(dealt) or -dealt, rows)
    assert torch.equal(result, -rows)
    assert not torch.equal(seen[0], rows)
    assert torch.equal(seen[0].sort(dim=0).values, rows)
