"""A frontal chest: one patient's build, how the patient stood, and what is in the beam."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from xrayssl.data.phantom.disease import consolidation, effusion, nodules
from xrayssl.data.phantom.girdle import Girdle, clavicle, humerus, scapula
from xrayssl.data.phantom.habitus import JOINT, Habitus, body
from xrayssl.data.phantom.mediastinum import great_vessels, heart
from xrayssl.data.phantom.scene import Dice, Scene
from xrayssl.data.phantom.shapes import Frame, Map, blend, ellipsoid
from xrayssl.data.phantom.thorax import (
    Breath,
    Thorax,
    abdomen,
    airways,
    cavity,
    interstitium,
    parenchyma,
    ribs,
    spine,
    vessels,
)

FINDINGS = ("Nodule", "Effusion", "Consolidation", "Cardiomegaly")
# share of patients who have it, and of their later films on which it has resolved
FREQUENCY = {"Nodule": (0.34, 0.0), "Effusion": (0.36, 0.2), "Consolidation": (0.34, 0.25), "Cardiomegaly": (0.30, 0.0)}


@dataclass(frozen=True)
class Stance:
    """How the patient stood for one film: breath, arms (radians from the body), and turn."""

    breath: Breath
    arms: tuple[float, float]

    @classmethod
    def draw(cls, thorax: Thorax, rng: np.random.Generator, supine: bool) -> Stance:
        """A film at random; the lying patient breathes in less."""
        depth = rng.uniform(0.80, 0.92) if supine else rng.uniform(0.90, 1.03)
        swing = np.clip(rng.normal(0.25, 0.12) + rng.normal(0, 0.05, 2), 0.03, 0.7)
        breath = Breath(depth * thorax.height, rng.uniform(0.3, 1.8), rng.normal(0, 0.5))
        return cls(breath, (float(swing[0]), float(swing[1])))


def gas(frame: Frame, breath: Breath, rng: np.random.Generator) -> Map:
    """Gas along the beam in stomach and colon below the left dome, in cm."""
    total = frame.empty()
    spots = [(rng.uniform(4, 8), breath.dome + breath.lift + rng.uniform(1.8, 3.2), rng.uniform(1.2, 2.8))]
    spots += [(rng.uniform(-9, 10), breath.dome + rng.uniform(6, 11), rng.uniform(0.5, 1.3)) for _ in range(3)]
    for x, y, size in spots:
        total += ellipsoid(frame, (x, y), (size * rng.uniform(1, 1.5), size * 0.8, size * 0.9), rng.normal(0, 0.3))
    return np.float32(rng.uniform(0.2, 1.0)) * total


def shoulders(frame: Frame, thorax: Thorax, girdle: Girdle, stance: Stance, rolled: bool) -> Map:
    """Bone of both shoulder girdles along the beam in cm; rolled forwards, the blades clear the lungs."""
    blade = replace(girdle, blade=girdle.blade - 0.30) if rolled else girdle
    total = frame.empty()
    joint = thorax.half_width + 4.6
    for mirror, swing in ((False, stance.arms[0]), (True, stance.arms[1])):
        local = frame.seen_from((joint if mirror else -joint, JOINT), mirror)
        window = local.window((-9.0, -6.0), (9.8, 30.0), 0.0)
        part = local.crop(window)
        if part.x.size:  # else outside the film
            total[window] += humerus(part.turned(swing), girdle, part.empty())[0]
            total[window] += scapula(part.seen_from((-0.9 if rolled else 0.0, 0.0)), blade)
        length = joint - 1.6 + (-0.6 if mirror else 0.6) * stance.breath.turn
        total += np.float32(1.15) * clavicle(local, girdle, length)
    return total


def scene(frame: Frame, dice: Dice, view: str, without: Collection[str]) -> Scene:
    """Everything in the beam of one chest film, findings in `without` left out."""
    build = dice.of_patient("build")
    thorax, girdle, habitus = Thorax.draw(build), Girdle.draw(build), Habitus.draw(build)
    stance = Stance.draw(thorax, dice.of_film("stance"), view == "AP")
    course = dice.courses(FREQUENCY, without)

    normal, enlarged, axis = build.uniform(0.39, 0.47), course["Cardiomegaly"], build.uniform(0.45, 0.85)
    ratio = normal if enlarged is None else 0.54 + 0.12 * enlarged
    core, floor = heart(frame, thorax, stance.breath, ratio, axis)
    middle, chest = frame.column(7.5), cavity(frame, thorax)
    centre = blend(core, floor)
    centre[middle] = blend(centre[middle], great_vessels(frame.crop(middle), thorax))
    lung = np.maximum(chest * (1 - abdomen(frame, thorax, stance.breath)) - centre, 0)
    masks = {"lungs": lung > 1.0, "heart": (core > 0.5) & (chest > 0)}
    if enlarged is not None:
        masks["Cardiomegaly"] = masks["heart"]
    inside = _inside(frame, dice, thorax, stance, lung)
    for name, draw in (("Consolidation", consolidation), ("Nodule", nodules), ("Effusion", effusion)):
        if (severity := course[name]) is not None:
            fill, masks[name] = draw(frame, thorax, stance.breath, lung, severity, dice.of_patient(name))
            inside["lung"] = np.maximum(inside["lung"] - fill, 0)
    inside["bone"] += shoulders(frame, thorax, girdle, stance, view == "PA")
    whole = frame.fine(body(frame.coarse(), thorax, habitus, stance.arms))
    inside["fat"] = np.float32(habitus.fat) * np.maximum(whole - chest, 0)
    return Scene(np.maximum(whole, chest + np.float32(2)) * (whole > 0), inside, masks)


def _inside(frame: Frame, dice: Dice, thorax: Thorax, stance: Stance, lung: Map) -> dict[str, Map]:
    """Lung with its vessels, bone of the cage, and gas."""
    vessel = interstitium(frame, vessels(frame, thorax, dice.of_patient("vessels")))
    texture = parenchyma(frame, dice.of_patient("parenchyma"))
    # Denser lung is less of the air-filled material: the texture stands for what the coefficient averages over.
    airy = lung * (1 - np.float32(0.35) * (texture - 1)) - np.minimum(vessel, np.float32(0.45) * lung)
    bone, middle = ribs(frame, thorax, stance.breath), frame.column(4.5)
    bone[middle] += spine(frame.crop(middle), thorax)
    air = frame.fine(airways(frame.coarse(), thorax)) + gas(frame, stance.breath, dice.of_film("gas"))
    return {"lung": np.maximum(airy, 0), "bone": bone, "air": air}
