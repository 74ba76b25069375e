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
