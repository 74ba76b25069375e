"""A frontal shoulder: native with its findings, or with a prosthesis. Axes of one shoulder: x towards the midline."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from xrayssl.data.phantom.girdle import Fracture, Girdle, broken, clavicle, humerus, scapula
from xrayssl.data.phantom.habitus import JOINT, Habitus, body
from xrayssl.data.phantom.implants import DESIGNS, Fit, resected
from xrayssl.data.phantom.scene import Dice, Scene
from xrayssl.data.phantom.shapes import Frame, Map, Mask, clouds, ellipsoid
from xrayssl.data.phantom.thorax import (
    Breath,
    Thorax,
    abdomen,
    cavity,
    interstitium,
    ribs,
    vessels,
)

FINDINGS = ("Fracture", "Calcification", "Dislocation")
FREQUENCY = {"Fracture": (0.4, 0.0), "Calcification": (0.4, 0.0), "Dislocation": (0.36, 0.15)}  # as in the chest
IMPLANTS = tuple(DESIGNS)


def scene(frame: Frame, dice: Dice, names: Collection[str], without: Collection[str]) -> Scene:
    """Everything in the beam of one shoulder film, findings or implants in `without` left out."""
    build, film = dice.of_patient("build"), dice.of_film("stance")
    thorax, girdle, habitus = Thorax.draw(build), Girdle.draw(build), Habitus.draw(build)
    native = set(names) != set(IMPLANTS)
    course = dice.courses(FREQUENCY, without)
    swing = float(np.clip(film.normal(0.22, 0.2), -0.05, 0.9))
    if native and course["Dislocation"] is not None:
        swing += 0.35
    soft = swing if not native or course["Dislocation"] is None else swing - 0.12  # the flesh follows the bone inwards
    whole, inside = _trunk(frame, dice, thorax, habitus, soft)
    bone = scapula(frame, girdle) + clavicle(frame, girdle, thorax.half_width + 3.0)
    grain = clouds(frame.shape, 0.12 / frame.pixel, dice.of_patient("grain"))
    if native:
        extra, masks = _native(frame, dice, girdle, swing, grain, course)
    else:
        extra, masks = _replaced(frame, dice, girdle, swing, grain, without)
    inside["bone"] += bone + extra.pop("bone")
    joint = (1.2 * girdle.size, 0.4 * girdle.size)
    masks["joint"] = ellipsoid(frame, joint, (3.6 * girdle.size, 3.2 * girdle.size, 1.0)) > 0
    return Scene(whole, inside | extra, masks)


def _trunk(frame: Frame, dice: Dice, thorax: Thorax, habitus: Habitus, swing: float) -> tuple[Map, dict[str, Map]]:
    """The patient's outline, and the corner of the chest that the film takes in."""
    chest = frame.seen_from((thorax.half_width + 4.6, -JOINT))
    film = dice.of_film("breath")
    breath = Breath(film.uniform(0.85, 1.0) * thorax.height, 0.5, film.normal(0, 0.5))
    whole = np.float32(film.uniform(0.55, 0.75)) * frame.fine(body(chest.coarse(), thorax, habitus, (swing, 0.2)))
    depth = np.minimum(cavity(chest, thorax), np.float32(0.8) * whole)
    lung = depth * (1 - abdomen(chest, thorax, breath)) * np.clip(-(chest.x + 2.5), 0, 1)
    vessel = interstitium(chest, vessels(chest, thorax, dice.of_patient("vessels"), sides=[-1.0]))
    bone = ribs(chest, thorax, breath)
    fat = np.float32(habitus.fat) * np.maximum(whole - depth, 0)
    return whole, {"lung": np.maximum(lung - np.minimum(vessel, 0.4 * lung), 0), "bone": bone, "fat": fat}


Part = tuple[dict[str, Map], dict[str, Mask]]


def _replaced(frame: Frame, dice: Dice, girdle: Girdle, swing: float, grain: Map, without: Collection[str]) -> Part:
    """Humerus with a prosthesis of the patient's design."""
    patient = dice.of_patient("implant")
    design = str(patient.choice(IMPLANTS))
    fit = Fit.draw(girdle.size, patient, dice.of_film("implant"))
    if design in without:
        arm = frame.turned(swing)
        return {"bone": humerus(arm, girdle, grain)[0]}, {}
    sits = (0.25 * girdle.size, 2.35 * girdle.size) if design == "Reverse" else (0.25, 0.0)
    arm = frame.seen_from(sits).turned(swing)
    titanium, cobalt = DESIGNS[design](arm, frame, fit)
    metal = titanium + cobalt
    bone = humerus(arm, girdle, grain)[0] * resected(arm, fit, keep=design == "Resurfacing")
    bone = bone * np.clip(1 - metal / np.float32(2.0), 0.25, 1)
    return {"bone": bone, "titanium": titanium, "cobalt": cobalt}, {design: metal > 0.08}


def _native(
    frame: Frame, dice: Dice, girdle: Girdle, swing: float, grain: Map, course: dict[str, float | None]
) -> Part:
    """The patient's own humerus with the findings of this film."""
    masks: dict[str, Mask] = {}
    away = (0.0, 0.0) if course["Dislocation"] is None else _away(course["Dislocation"], girdle.size)
    arm = frame.seen_from(away).turned(swing)
    upper, left, line = arm, np.ones_like(grain), None
    if (severity := course["Fracture"]) is not None:
        arm, left, line = broken(upper, _fracture(severity, girdle.size, dice.of_patient("Fracture")))
    bone, solid = humerus(arm, girdle, grain)
    if line is not None:
        masks["Fracture"] = line & (solid > 0)
    if course["Dislocation"] is not None:
        masks["Dislocation"] = ellipsoid(upper, (0.0, 0.0), (2.35 * girdle.size,) * 3) > 0
    bone = bone * left
    if (severity := course["Calcification"]) is not None:
        deposit = _deposit(upper, severity, girdle.size, dice.of_patient("Calcification"))
        masks["Calcification"] = deposit > 0.05
        bone = bone + deposit
    return {"bone": bone}, masks


def _away(severity: float, size: float) -> tuple[float, float]:
    """Where the head comes to lie in an anterior dislocation: inwards and down, under the coracoid."""
    return (2.2 + 1.2 * severity) * size, (2.0 + 1.4 * severity) * size


def _fracture(severity: float, size: float, rng: np.random.Generator) -> Fracture:
    side = rng.choice([-1.0, 1.0])
    return Fracture(
        rng.uniform(2.4, 5.0) * size,
        rng.normal(0, 0.3),
        side * (0.15 + 0.7 * severity),
        side * rng.uniform(0.0, 0.25) * (0.4 + severity),
        0.12 + 0.22 * severity,
        rng.uniform(0, 6),
    )


def _deposit(arm: Frame, severity: float, size: float, rng: np.random.Generator) -> Map:
    """Calcium in the tendon over the greater tubercle, in cm of bone."""
    total = arm.empty()
    for _ in range(rng.integers(2, 5)):
        x = rng.uniform(-2.0, -0.4)
        spot = (x * size, (-rng.uniform(0.1, 0.45) - (2.35**2 - x * x) ** 0.5) * size)
        long = (0.42 + 0.5 * severity) * rng.uniform(0.7, 1.2)
        total += ellipsoid(arm, spot, (long, 0.5 * long, 0.45 + 0.35 * severity), rng.uniform(-0.2, 0.7))
    return total
