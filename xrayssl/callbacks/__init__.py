"""What happens beside the training step."""

from xrayssl.callbacks.export import BackboneExport
from xrayssl.callbacks.health import RepresentationHealth
from xrayssl.callbacks.online_probe import OnlineProbe
from xrayssl.callbacks.published import Published
from xrayssl.callbacks.reconstructions import Reconstructions

__all__ = ["BackboneExport", "OnlineProbe", "Published", "Reconstructions", "RepresentationHealth"]
