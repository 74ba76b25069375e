"""Training stages, one per file."""

from xrayssl.methods.base import Method
from xrayssl.methods.byol import BYOL
from xrayssl.methods.dvae import DVAE
from xrayssl.methods.exemplar import Exemplar
from xrayssl.methods.finetune import Finetune
from xrayssl.methods.jigsaw import Jigsaw
from xrayssl.methods.mae import MAEPretrain
from xrayssl.methods.masked_cnn import MaskedCNNPretrain
from xrayssl.methods.moco import MoCo
from xrayssl.methods.relative_patch import RelativePatch
from xrayssl.methods.rotation import RotationProxy
from xrayssl.methods.swav import SwAV

__all__ = [
    "BYOL",
    "DVAE",
    "Exemplar",
    "Finetune",
    "Jigsaw",
    "MAEPretrain",
    "MaskedCNNPretrain",
    "Method",
    "MoCo",
    "RelativePatch",
    "RotationProxy",
    "SwAV",
]
