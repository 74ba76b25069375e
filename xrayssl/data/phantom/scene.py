"""What stands in the beam for one film, and the random streams that every part of it is drawn from."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from xrayssl.data.phantom.shapes import Map, Mask


@dataclass
class Scene:
    """Thicknesses along the beam, and what is where.

    Args:
        body: Thickness of the whole patient in cm, (H, W).
        inside: Thickness in cm of each material that takes the place of soft tissue, (H, W).
        masks: Outlines of anatomy and of the findings that are there, boolean (H, W).
    """

    body: Map
    inside: dict[str, Map]
    masks: dict[str, Mask] = field(default_factory=dict)


@dataclass(frozen=True)
class Dice:
    """Independent random streams of one film, so that leaving one thing out changes nothing else.

    Args:
        seed: Seed of the corpus.
        body: Part of the body.
        patient: Number of the patient.
        film: Number of the film within the patient.
    """

    seed: int
    body: str
    patient: int
    film: int

    def of_patient(self, name: str) -> np.random.Generator:
        """The stream `name`, the same for all films of the patient."""
        return np.random.default_rng([self.seed, zlib.crc32(f"{self.body}/{name}".encode()), self.patient])

    def of_film(self, name: str) -> np.random.Generator:
        """The stream `name` of this film alone."""
        key = zlib.crc32(f"{self.body}/{name}".encode())
        return np.random.default_rng([self.seed, key, self.patient, self.film + 1])

    def courses(
        self, frequency: Mapping[str, tuple[float, float]], without: Collection[str]
    ) -> dict[str, float | None]:
        """Severity of every finding on this film, None where absent or left out; see `course`."""
        return {name: None if name in without else self.course(name, *odds) for name, odds in frequency.items()}

    def course(self, finding: str, prevalence: float, resolves: float) -> float | None:
        """Severity 0 to 1 of a finding on this film, or None: it drifts between films and may resolve."""
        patient, film = self.of_patient(f"course/{finding}"), self.of_film(f"course/{finding}")
        present, severity = patient.random() < prevalence, patient.uniform(0.1, 0.9)
        gone = self.film > 0 and film.random() < resolves
        if not present or gone:
            return None
        return float(np.clip(severity + self.film * film.uniform(-0.25, 0.25), 0, 1))
