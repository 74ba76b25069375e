"""Training stages, one per file."""

from xrayssl.methods.base import Method
from xrayssl.methods.dvae import DVAE
from xrayssl.methods.finetune import Finetune
from xrayssl.methods.mae import MAEPretrain
from xrayssl.methods.masked_cnn import MaskedCNNPretrain
from xrayssl.methods.rotation import RotationProxy

__all__ = ["DVAE", "Finetune", "MAEPretrain", "MaskedCNNPretrain", "Method", "RotationProxy"]
