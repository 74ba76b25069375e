"""What the tests share: small phantoms, quiet loggers, one thread per process."""

import os
import tempfile
from pathlib import Path

import pytest
from phantoms import small

CACHE = Path(tempfile.gettempdir()) / f"xrayssl-tests-{os.getuid()}"
os.environ["XDG_CACHE_HOME"] = str(CACHE)
os.environ["WANDB_MODE"] = "disabled"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.pop("PL_GLOBAL_SEED", None)


@pytest.fixture(autouse=True)
def _forget_the_run(monkeypatch):
    """Keeps what one test's run leaves in the environment away from the next."""
    import torch

    torch.set_num_threads(1)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    monkeypatch.delenv("XRAYSSL_RUN", raising=False)


@pytest.fixture
def shoulder():
    """A data module of 24 small shoulder phantoms."""
    from xrayssl.data import ShoulderXrayDataModule

    return ShoulderXrayDataModule(small("shoulder"), img_size=32, batch_size=4, num_workers=0)


@pytest.fixture
def chest():
    """A data module of 24 small chest phantoms."""
    from xrayssl.data import ChestXrayDataModule

    return ChestXrayDataModule(small("chest"), img_size=32, batch_size=4, num_workers=0)
