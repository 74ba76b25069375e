"""A classifier for those who have no xrayssl: weights for timm, a graph for ONNX, and a model card."""

from xrayssl.export.command import export_command

__all__ = ["export_command"]
