"""From thicknesses to grey values: attenuation, scatter, quantum noise, detector, display.

Mass attenuation coefficients are those of Hubbell and Seltzer, NISTIR 5632 (tables 3 and 4: ICRU-44 tissues,
titanium, and iron in place of cobalt-chromium), densities those of ICRU-44.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from xrayssl.data.phantom.shapes import Map, Mask, blur

ENERGIES = (40.0, 50.0, 60.0, 80.0, 100.0)  # keV
MASS_ATTENUATION = {  # cm^2 / g at ENERGIES
    "soft": (0.2688, 0.2264, 0.2048, 0.1823, 0.1693),
    "fat": (0.2396, 0.2123, 0.1974, 0.1800, 0.1688),
    "lung": (0.2701, 0.2270, 0.2053, 0.1826, 0.1695),
    "bone": (0.6655, 0.4242, 0.3148, 0.2229, 0.1855),
    "air": (0.2485, 0.2080, 0.1875, 0.1662, 0.1541),
    "titanium": (2.214, 1.213, 0.7661, 0.4052, 0.2721),
    "cobalt": (3.629, 1.958, 1.205, 0.5952, 0.3717),
}
DENSITY = {  # g / cm^3; the lung is inflated
    "soft": 1.06,
    "fat": 0.95,
    "lung": 0.26,
    "bone": 1.92,
    "air": 0.0012,
    "titanium": 4.54,
    "cobalt": 8.3,
}


def attenuation(material: str, energy: float) -> float:
    """Linear attenuation coefficient in 1/cm at `energy` keV, log-log between the tabulated energies."""
    table = np.log(MASS_ATTENUATION[material])
    return DENSITY[material] * float(np.exp(np.interp(np.log(energy), np.log(ENERGIES), table)))


def line_integral(body: Map, inside: Mapping[str, Map], energy: float) -> Map:
    """Beer-Lambert exponent of a body of soft tissue in which other materials take the place of some of it.

    Args:
        body: Thickness of the whole body in cm, (H, W).
        inside: Thickness of each other material in cm, (H, W); it displaces soft tissue.
        energy: Effective energy of the beam in keV.

    Returns:
        Dimensionless sum of coefficient times thickness, (H, W), never negative.
    """
    soft = attenuation("soft", energy)
    total = np.float32(soft) * body
    for material, thickness in inside.items():
        total += np.float32(attenuation(material, energy) - soft) * thickness
    return np.maximum(total, np.float32(0))


@dataclass(frozen=True)
class Exposure:
    """How one film was taken.

    Args:
        energy: Effective energy of the beam in keV.
        quanta: Detected quanta per pixel in the open field; fewer are noisier.
        scatter: Scattered over primary signal.
        spread: Width of the scatter in pixels.
        sharpness: Detector blur in pixels.
        latitude: Share of the broad density variation that the display evens out, 0 to 1.
        detail: How much the display lifts fine structure, 0 to about 1.
        grain: Size of that fine structure in pixels.
        white: Share of the patient, in per cent, that the display lets saturate.
        contrast: Steepness of the display curve; 1 is gentle.
        brightness: Shift of the display curve, about -0.15 to 0.15.
    """

    energy: float
    quanta: float
    scatter: float
    spread: float
    sharpness: float
    latitude: float
    detail: float
    grain: float
    white: float
    contrast: float
    brightness: float


def detect(exponent: Map, exposure: Exposure, rng: np.random.Generator) -> Map:
    """Signal of the detector relative to the open field, (H, W).

    Beer-Lambert primary, scatter as a blurred fraction of it, then quantum noise: Poisson in its Gaussian limit
    (variance equal to the mean), which holds above some twenty quanta and costs a tenth of the exact draw.
    """
    primary = np.exp(-exponent)
    signal = primary + np.float32(exposure.scatter) * blur(primary, exposure.spread)
    signal /= np.float32(1 + exposure.scatter)
    quanta = np.float32(exposure.quanta) * signal
    quanta += np.sqrt(quanta) * rng.standard_normal(quanta.shape, dtype=np.float32)
    seen = np.maximum(blur(quanta, exposure.sharpness), 1) / np.float32(exposure.quanta)
    return seen.astype(np.float32, copy=False)


def display(signal: Map, exposure: Exposure, region: Mask) -> Map:
    """Grey values 0 (black, air) to 1 (white, bone) of the film as it is read, (H, W).

    The logarithm of the signal, its broad variation partly evened out and its fine structure lifted as digital
    systems do, windowed by what lies in `region` and passed through a sigmoid, the characteristic curve of film.
    """
    density = -np.log(signal)
    broad = blur(density, min(density.shape) / 7)
    density += np.float32(exposure.detail) * (density - blur(density, exposure.grain))
    density -= np.float32(exposure.latitude) * broad
    seen = density[::3, ::3][region[::3, ::3]]
    low, high = np.percentile(seen if seen.size else density, [1.5, 100 - exposure.white])
    level = (density - np.float32(low)) / np.float32(max(high - low, 1e-3))
    steep, middle = 2.5 * exposure.contrast, 0.52 - exposure.brightness
    curve = 1 / (1 + np.exp(np.float32(-steep) * (level - np.float32(middle))))
    black, white = (float(1 / (1 + np.exp(-steep * (edge - middle)))) for edge in (-0.1, 1.05))
    level = (curve - black) / (white - black)
    return np.minimum(np.maximum(level, 0), 1).astype(np.float32, copy=False)
