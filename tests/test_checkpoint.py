import argparse
import os

import numpy as np
import pytest
import torch

from xrayssl import checkpoint
from xrayssl.checkpoint import AtomicCheckpointIO
from xrayssl.errors import UserError


def test_a_failed_write_leaves_the_old_checkpoint_and_nothing_else(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"state_dict": {"a": torch.ones(2)}}, path)
    with pytest.raises((AttributeError, TypeError), match="pickle"):
        AtomicCheckpointIO().save_checkpoint({"state_dict": {}, "bad": lambda: 0}, path)
    assert checkpoint.load(path)["state_dict"]["a"].tolist() == [1, 1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("content", [b"", b"junk", None])
def test_what_is_no_checkpoint_is_refused_by_name(tmp_path, content):
    path = tmp_path / "last.ckpt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"last\.ckpt"):
        checkpoint.load(path)


def test_bare_weights_are_pointed_to_init_from(tmp_path):
    torch.save({"weight": torch.ones(1)}, tmp_path / "weights.ckpt")
    with pytest.raises(UserError, match=r"--model\.init_from"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "weights.ckpt")


def test_the_command_line_and_numbers_of_numpy_are_data(tmp_path):
    content = {"args": argparse.Namespace(lr=1e-3), "best": np.float64(0.7), "steps": np.int64(3), "curve": np.ones(2)}
    torch.save(content, tmp_path / "x.pth")
    read = checkpoint.load(tmp_path / "x.pth")
    assert read["args"].lr == 1e-3 and read["best"] == 0.7 and read["curve"].tolist() == [1, 1]


def test_numbers_of_numpy_before_version_2_are_read(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"best": np.float64(0.7)}, path, _use_new_zipfile_serialization=False)
    assert b"numpy._core.multiarray" in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert checkpoint.load(path)["best"] == 0.7


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return os.mkdir, (str(self.flag),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_named_and_not_executed(tmp_path, zipped):
    content = {"model": {"a": torch.ones(1)}, "args": Evil(tmp_path / "flag")}
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"has code in it \(posix\.mkdir\), which is never executed") as caught:
        checkpoint.load(tmp_path / "x.pth")
    assert len(caught.value.messages) == 1
    assert not (tmp_path / "flag").exists()


def test_the_allowance_ends_with_the_read(tmp_path):
    torch.save({"args": argparse.Namespace(lr=1)}, tmp_path / "x.pth")
    checkpoint.load(tmp_path / "x.pth")
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_checkpoint_is_not_taken_for_code(tmp_path, zipped):
    path = tmp_path / "x.pth"
    torch.save({"a": torch.ones(5000)}, path, _use_new_zipfile_serialization=zipped)
    for share in (0.05, 0.5, 0.99):
        (tmp_path / "y.pth").write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        with pytest.raises(UserError, match="truncated or of another program"):
            checkpoint.load(tmp_path / "y.pth")
