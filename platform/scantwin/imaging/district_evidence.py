"""How sure a split is: the share of the body in slices that have a landmark of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scantwin.imaging.district_landmarks import THIN, Landmarks, middle_thickness
from scantwin.imaging.district_scene import Mask, Scene

FIELD_MM: Final = 280.0
"""A field of view narrower than this [mm] is a crop, or a head: a trunk or two thighs do not fit in it."""
FLAT_SIDES: Final = 0.12
"""Share of the body's rim on flat sides above which it was cropped: 0.05 to 0.08 in whole trunks, 0.10 to
0.69 in 28 crops around sarcomas (shared data)."""
TRUNK_WIDE_MM: Final = 230.0
"""A slice of an adult's trunk is wider than this [mm], a thigh is not."""
REACH_MM: Final = 120.0
"""A landmark identifies slices up to this far away [mm]: the soft belly between vertebra and hip."""
PELVIS_MM: Final = 200.0
"""Height of a pelvis [mm]: 0.48 to 0.60 of the body height (sources.md, 2)."""
RUN_MM: Final = 60.0
"""A landmark seen over less than this length [mm] does not count."""


@dataclass(frozen=True)
class Evidence:
    """What a split rests on."""

    confidence: float
    """0 to 1."""
    reason: str
    """One sentence."""


def weigh(scene: Scene, marks: Landmarks, arms: Mask, field_mm: float) -> Evidence:
    """The evidence for a split. `field_mm` is the smaller in-slice side of the field of view [mm]."""
    axial = scene.body & ~arms
    wide = axial.any(axis=1).sum(axis=1) * scene.spacing[2] > TRUNK_WIDE_MM
    cropped = field_mm < FIELD_MM or scene.cut_sides > FLAT_SIDES
    if marks.brain is None and cropped:
        return Evidence(0.0, "The CT is a crop without a brain in it: its districts cannot be told.")
    told = np.zeros(scene.body.shape[0], bool)
    names: list[str] = []
    if marks.brain_slices is not None:
        first = 0 if marks.neck is None else marks.neck
        told[first:] = True
        names.append("brain")
    trunk = np.zeros_like(told)
    bony = np.asarray(scene.bone.any(axis=(1, 2)))
    if marks.lung_slices is not None:
        low, high = marks.lung_slices
        if bony[low : high + 1].mean() > 0.8 and wide[low : high + 1].mean() > 0.5:
            trunk[low : high + 1] = True
            names.append("lungs")
    spine = marks.spine & wide
    if spine.any():
        trunk |= spine
        names.append("spine")
    low = 0 if marks.crotch is None else marks.crotch
    high = len(told) if marks.neck is None else marks.neck
    if trunk.any():
        reach = round(REACH_MM / scene.spacing[0])
        near = ndimage.binary_dilation(trunk, iterations=reach)
        told[low:high] |= near[low:high]
    if marks.crotch is not None:
        legs = leg_slices(scene, axial)
        legs[marks.crotch :] = False
        if _longest(legs) * scene.spacing[0] >= RUN_MM:
            near = ndimage.binary_dilation(legs, iterations=round(REACH_MM / scene.spacing[0]))
            told[: marks.crotch] |= near[: marks.crotch]
            # The crotch is the lower end of a pelvis.
            pelvis = slice(marks.crotch, min(high, marks.crotch + round(PELVIS_MM / scene.spacing[0])))
            told[pelvis] |= wide[pelvis]
            names.append("two legs")
    if not names or _contradictory(marks):
        return Evidence(0.0, "No landmark was found that tells the districts apart.")
    share = float(scene.area[told].sum() / max(scene.area.sum(), 1e-6))
    strength = 1.0 - 0.2 * 0.5 ** (len(names) - 1)
    return Evidence(round(strength * share, 3), f"Told by: {', '.join(names)}.")


def leg_slices(scene: Scene, axial: Mask) -> NDArray[np.bool_]:
    """Per slice, whether two pieces or lobes of similar size lie beside the middle line, each with bone."""
    away = scene.lateral
    area = [(axial & (np.sign(away) == side)).sum(axis=(1, 2)) for side in (-1, 1)]
    bone = [(axial & scene.bone & (np.sign(away) == side)).any(axis=(1, 2)) for side in (-1, 1)]
    alike = np.minimum(*area) > 0.5 * np.maximum(*area)
    return np.asarray(alike & bone[0] & bone[1] & (middle_thickness(scene, axial) < THIN))


def _contradictory(marks: Landmarks) -> bool:
    """Whether the landmarks are in an order that no person has."""
    order = [
        marks.crotch,
        marks.lung_slices and marks.lung_slices[0],
        marks.neck,
        marks.brain_slices and marks.brain_slices[0],
    ]
    known = [k for k in order if k is not None]
    return known != sorted(known)


def _longest(slices: NDArray[np.bool_]) -> int:
    """The longest run of true slices."""
    labels, count = ndimage.label(slices)
    return int(np.bincount(labels)[1:].max()) if count else 0
