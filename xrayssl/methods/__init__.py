"""Training stages, one per file."""

from xrayssl.methods.base import Method
from xrayssl.methods.finetune import Finetune
from xrayssl.methods.mae import MAEPretrain
from xrayssl.methods.rotation import RotationProxy

__all__ = ["Finetune", "MAEPretrain", "Method", "RotationProxy"]
