"""The landmarks in a CT that distinguish the districts: brain, lungs, spine, neck, crotch.

All of them are looked for on the blocks of a scene (`district_scene`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scantwin.imaging.district_head import find_brain
from scantwin.imaging.district_scene import IN_SLICE, Mask, Scene, mean_row, slices_of

LUNG_HU: Final = (-960.0, -500.0)
"""HU of lung; bowel gas lies below, and its edges are thin."""
LUNG_ML: Final = 300.0
"""Smallest volume [ml] of all lung in the field of view: the tips in a neck CT do not count."""
NECK_WIDE_MM: Final = 170.0
"""No neck is wider than this [mm]: a field of view without anything narrower ends in the shoulders."""
APEX_TO_NECK_MM: Final = 10.0
"""From the top of the lung to the plane C7/T1: the apex lies at the neck of the first rib (assumed)."""
WIDER_NECK: Final = 1.42
"""The shoulders begin where the neck is this many times as wide as at its narrowest (phantoms)."""
NECK_SLACK_MM: Final = 20.0
"""The width may place C7/T1 this far from where the lung does [mm]; beyond, it is that of something else."""
THIN: Final = 0.84
"""Thickness on the middle line relative to the thighs, below which a slice shows two legs: above the crotch
it is 0.96 or more, below it 0.8 or less, even where the thighs touch (phantoms of BMI 17 to 38)."""
BRAIN_TO_CROTCH_MM: Final = 400.0
"""Even in the smallest adult, the crotch lies further below the brain than this [mm]."""
HANGING_MM: Final = 10.0
"""What lies between the thighs hangs this far below the crotch [mm] before the tissue there thins out."""
SPINE_MM: Final = 60.0
"""Anything shorter than two vertebrae and their discs [mm] is not called a spine."""


@dataclass(frozen=True, eq=False)
class Landmarks:
    """The landmarks of a scene. Slices are indices of the scene; None means that it was not found."""

    brain: Mask | None
    brain_slices: tuple[int, int] | None
    """First and last slice of the brain."""
    lung_slices: tuple[int, int] | None
    """First and last slice of the lungs."""
    spine: NDArray[np.bool_]
    """Per slice: bone on the middle line at the back of one large piece, as in the trunk."""
    neck: int | None
    """First slice of the head: C7/T1. None when the field of view ends below it."""
    crotch: int | None
    """First slice of the trunk. None when the field of view ends above it."""


def find_landmarks(scene: Scene, axial: Mask) -> Landmarks:
    """The landmarks of a scene; `axial` is the body without what was taken for arms."""
    brain = find_brain(scene)
    brain_slices = None if brain is None else slices_of(brain)
    lungs = find_lungs(scene)
    spine = spine_slices(scene, axial)
    neck = find_neck(scene, axial, brain_slices, lungs)
    crotch = find_crotch(scene, axial, spine, brain_slices, lungs)
    return Landmarks(brain, brain_slices, lungs, spine, neck, crotch)


def find_lungs(scene: Scene) -> tuple[int, int] | None:
    """First and last slice of the lungs, or None."""
    air = scene.body & (scene.hu > LUNG_HU[0]) & (scene.hu < LUNG_HU[1])
    air = ndimage.binary_opening(air, IN_SLICE)
    labels, count = ndimage.label(air)
    if not count:
        return None
    size = np.bincount(labels.ravel()) * float(np.prod(scene.spacing)) / 1000
    size[0] = 0
    large = size > max(LUNG_ML / 4, 0.2 * size.max())  # gas in the bowel is not lung
    if size[large].sum() < LUNG_ML:
        return None
    return slices_of(large[labels])


def spine_slices(scene: Scene, axial: Mask) -> NDArray[np.bool_]:
    """Per slice, whether there is a spine: bone on the middle line, in the back half of one large piece."""
    cm2 = scene.spacing[1] * scene.spacing[2] / 100.0
    bone = scene.bone & axial & (np.abs(scene.lateral) < 30.0)
    middle = np.abs(scene.lateral[:, 0]) < 12.0
    crossed = (axial.any(axis=1) & middle).sum(axis=1) >= 0.9 * middle.sum(axis=1)
    large = axial.sum(axis=(1, 2)) * cm2 > 180.0
    # Knees that touch have bone near the middle too, but not at the back.
    back = mean_row(bone) > mean_row(axial)
    found = (bone.sum(axis=(1, 2)) * cm2 > 1.0) & crossed & large & back
    # A disc between two vertebrae does not end the spine; a few slices do not make one.
    found = ndimage.binary_closing(np.pad(found, 8), np.ones(7))[8:-8]
    runs, _ = ndimage.label(found)
    long = np.bincount(runs) * scene.spacing[0] >= SPINE_MM
    long[0] = False
    return np.asarray(long[runs])


def find_neck(
    scene: Scene, axial: Mask, brain: tuple[int, int] | None, lungs: tuple[int, int] | None
) -> int | None:
    """First slice of the head: by the width of the neck where there is a head, else by the lung."""
    count = axial.shape[0]
    dz = scene.spacing[0]
    by_lung = None if lungs is None else lungs[1] + 1 + APEX_TO_NECK_MM / dz
    if by_lung is not None and lungs is not None and lungs[1] >= count - 2:
        by_lung = None  # the lung goes on above the field of view
    width = _width(scene, axial)
    if brain is None:
        return None if by_lung is None or by_lung >= count - 1 else _neck_above(width, by_lung, dz)
    # The neck is narrowest within 180 mm below the brain; from there down it widens to the shoulders.
    low = max(0, brain[0] - round(180 / dz))
    stretch = width[low : brain[0] + 1]
    if len(stretch) < 3:
        return 0
    thin = low + int(np.argmin(stretch))
    by_width = _widens(width[: thin + 1], WIDER_NECK * width[thin])
    if by_width is None:
        return 0 if by_lung is None else round(by_lung)
    if by_lung is None:
        return round(by_width)
    slack = NECK_SLACK_MM / dz
    return round((by_lung + float(np.clip(by_width, by_lung - slack, by_lung + slack))) / 2)


def _neck_above(width: NDArray[np.float64], by_lung: float, dz: float) -> int:
    """First slice of a neck without a head: midway between where the lung and where the width places it."""
    slack = NECK_SLACK_MM / dz
    start = max(0, round(by_lung - slack))
    stretch = width[start:]
    if stretch.min() > NECK_WIDE_MM:
        return round(by_lung)
    # Search down from the narrowest place: above it, the jaw is wide again.
    below = stretch[: int(np.argmin(stretch)) + 1]
    by_width = start + (_widens(below, WIDER_NECK * below[-1]) or 0.0)
    return round((by_lung + min(by_width, by_lung + slack)) / 2)


def _widens(width: NDArray[np.float64], limit: float) -> float | None:
    """Where, from the top down, the width first exceeds `limit`, in slices from the first; or None."""
    wider = np.flatnonzero(width > limit)
    if not len(wider):
        return None
    return int(wider[-1]) + _crossing(width, int(wider[-1]), limit)


def _crossing(values: NDArray[np.float64], k: int, limit: float) -> float:
    """Where `values` cross `limit` between the centres of slices k and k + 1, from the lower edge of k."""
    if k + 1 >= len(values):
        return 1.0
    return 0.5 + float(np.clip((limit - values[k]) / (values[k + 1] - values[k]), 0.0, 1.0))


def find_crotch(
    scene: Scene,
    axial: Mask,
    spine: NDArray[np.bool_],
    brain: tuple[int, int] | None,
    lungs: tuple[int, int] | None,
) -> int | None:
    """First slice of the trunk: below it the tissue between the thighs is thin or gone."""
    ratio = middle_thickness(scene, axial)
    dz = scene.spacing[0]
    top = len(ratio)
    runs, count = ndimage.label(spine)
    if count:  # the crotch is below the longest run of the spine
        longest = int(np.argmax(np.bincount(runs.ravel())[1:])) + 1
        top = int(np.flatnonzero(runs == longest)[0]) + round(60 / dz)
    if lungs is not None:
        top = min(top, lungs[0])
    if brain is not None:
        top = min(top, brain[0] - round(BRAIN_TO_CROTCH_MM / dz))
    thin = ratio < THIN
    # Take the last thin slice below which most slices are thin too (not so for a fold of the belly).
    for k in np.flatnonzero(thin[: max(top, 0)])[::-1]:
        if thin[max(0, k - round(60 / dz)) : k + 1].mean() > 0.8:
            return min(round(int(k) + _crossing(ratio, int(k), THIN) + HANGING_MM / dz), len(ratio))
    return None


def middle_thickness(scene: Scene, axial: Mask) -> NDArray[np.float64]:
    """Front-to-back tissue on the middle line divided by that of the thicker side, per slice."""
    thick = axial.sum(axis=1) * scene.spacing[1]  # (z, x) [mm]
    away = np.abs(scene.lateral[:, 0])
    middle = (thick * (away < 12)).sum(axis=1) / np.maximum((away < 12).sum(axis=1), 1)
    side = np.where((away > 45) & (away < 130), thick, 0).max(axis=1)
    return np.asarray(middle / np.maximum(side, 1.0))


def _width(scene: Scene, axial: Mask) -> NDArray[np.float64]:
    """Left-to-right extent [mm] of the piece on the middle line, per slice."""
    any_row: Mask = np.asarray(axial.any(axis=1))
    width = np.zeros(len(any_row))
    for z, row in enumerate(any_row):
        runs, count = ndimage.label(row)
        if count:
            middle = int(np.clip(round(float(scene.x0[z])), 0, len(row) - 1))
            run = runs[middle] or runs[np.argmin(np.where(row, np.abs(np.arange(len(row)) - middle), 10**6))]
            width[z] = (runs == run).sum() * scene.spacing[2]
    return width
