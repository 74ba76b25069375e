"""From folders of films to batches."""

from xrayssl.data.datamodule import ChestXrayDataModule, ShoulderXrayDataModule, XrayDataModule
from xrayssl.data.manifest import Manifest

__all__ = ["ChestXrayDataModule", "Manifest", "ShoulderXrayDataModule", "XrayDataModule"]
