"""Predictions are gathered once per film, whatever the number of processes or the precision."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing

from xrayssl.metrics import Predictions


def test_predictions_come_back_once_each_and_in_order():
    metric = Predictions()
    metric.update(torch.tensor([3, 1]), torch.tensor([[0.3], [0.1]]), torch.tensor([[1.0], [torch.nan]]))
    metric.update(torch.tensor([1, 0]), torch.tensor([[0.1], [0.0]]), torch.tensor([[torch.nan], [0.0]]))
    found = metric.compute()
    assert found.index.tolist() == [0, 1, 3]
    assert found.probability[:, 0] == pytest.approx([0.0, 0.1, 0.3])
    assert found.label[:, 0] == pytest.approx([0, np.nan, 1], nan_ok=True)


def test_half_precision_becomes_float32():
    metric = Predictions()
    metric.update(torch.tensor([0]), torch.tensor([[0.5]], dtype=torch.bfloat16), torch.ones(1, 1))
    assert metric.compute().probability.dtype == np.float32


def test_reset_forgets_every_film():
    metric = Predictions()
    metric.update(torch.tensor([0]), torch.ones(1, 2), torch.ones(1, 2))
    metric.reset()
    metric.update(torch.tensor([5]), torch.ones(1, 2), torch.ones(1, 2))
    assert metric.compute().index.tolist() == [5]


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        Predictions().update(torch.tensor([0, 1]), torch.ones(2, 3), torch.ones(2, 2))


def _gather(process: int, folder: str) -> None:
    torch.set_num_threads(1)
    meet = f"file://{folder}/meet"
    torch.distributed.init_process_group("gloo", init_method=meet, rank=process, world_size=2)
    metric = Predictions()
    # 5 films on 2 processes, unevenly: 0 2 4 on the first, 1 3 and a repeated 0 in two batches on the second.
    for rows in ([[0, 2, 4]], [[1, 3], [0]])[process]:
        index = torch.tensor(rows)
        metric.update(index, index[:, None] / 10, (index[:, None] % 2).float())
    if process == 0:
        metric.update(torch.tensor([7]), torch.tensor([[0.7]]), torch.tensor([[1.0]]))
    np.savez(f"{folder}/{process}.npz", **asdict(metric.compute()))
    torch.distributed.destroy_process_group()


def test_two_processes_see_the_films_of_both_without_repeats(tmp_path):
    torch.multiprocessing.start_processes(_gather, (str(tmp_path),), nprocs=2, start_method="fork")
    for process in range(2):
        with np.load(tmp_path / f"{process}.npz") as found:
            assert found["index"].tolist() == [0, 1, 2, 3, 4, 7]
            assert found["probability"][:, 0] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.7])
