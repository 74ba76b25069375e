"""Radiographs rendered from physics, with exact labels, boxes and outlines."""

from xrayssl.data.phantom.film import RENDERER_VERSION, Film, classes, render

__all__ = ["RENDERER_VERSION", "Film", "classes", "render"]
