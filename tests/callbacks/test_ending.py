"""A run that is killed between its last checkpoint and its end."""

import pytest
import torch

from xrayssl import handoff
from xrayssl.cli import main

CONFIG = """# Tiny
model:
  class_path: METHOD
data:
  class_path: ChestXrayDataModule
  init_args: {img_size: 64, batch_size: 4, num_workers: 0, corpora: {phantom: {films: 24, size: 64}}}
trainer: {max_epochs: 2, enable_progress_bar: false, accelerator: cpu, precision: 32-true}
wandb: {mode: disabled}
"""
AVERAGED = """MAEPretrain
  init_args: {backbone: test_vit, ema: 0.9, masking: {ratio: 0.5}, decoder_width: 32, decoder_depth: 1,
              decoder_heads: 2, optim: {lr: 1.0e-2, warmup_epochs: 0}}"""
WHOLE_FILMS_AT_THE_END = """MaskedCNNPretrain
  init_args: {backbone: resnet18, target: pixels, masking: {ratio: 0.6}, decoder_width: 64,
              optim: {lr: 1.0e-3, warmup_epochs: 0}}"""
CHOSEN = "Finetune\n  init_args: {backbone: test_vit, optim: {lr: 1.0e-3, warmup_epochs: 0}}"


@pytest.mark.parametrize("method", [AVERAGED, WHOLE_FILMS_AT_THE_END, CHOSEN], ids=["mae", "masked cnn", "finetune"])
def test_what_goes_on_from_the_last_step_ends_as_the_training_would_have(method, tmp_path):
    (tmp_path / "tiny.yaml").write_text(CONFIG.replace("METHOD", method))
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    assert main(["fit", "--config", str(tmp_path / "tiny.yaml"), "--out", str(straight)]) == 0
    last = straight / "checkpoints" / "last.ckpt"
    words = ["--config", str(straight / "config.yaml"), "--ckpt_path", str(last)]
    assert main(["fit", *words, "--out", str(resumed)]) == 0
    one, other = (handoff.read(run) for run in (straight, resumed))
    assert {name for name, value in one.tensors.items() if not torch.equal(value, other.tensors[name])} == set()
    assert (resumed / "metrics.json").read_bytes() == (straight / "metrics.json").read_bytes()
    assert (resumed / "checkpoints" / "last.ckpt").read_bytes() == last.read_bytes()
