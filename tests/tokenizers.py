"""A tokenizer that nobody has trained, for tests of what reads one."""

import torch

from xrayssl.methods import DVAE


def untrained(path, size=32, codes=12, **kwargs):
    """Writes the checkpoint of a fresh `DVAE`, and gives the method and the path."""
    torch.manual_seed(11)
    method = DVAE(backbone="vit_tiny_patch16_224", img_size=size, codes=codes, code_width=8, **kwargs).eval()
    checkpoint = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return method, str(path)
