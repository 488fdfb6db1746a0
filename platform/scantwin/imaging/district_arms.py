"""Arms: pieces beside the middle of the body, found in slices, then followed to the shoulder in 3D."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from scantwin.imaging.district_scene import IN_SLICE, Mask, Scene

SHRINK_MM: Final = (0.0, 8.0, 16.0, 24.0)
"""Depths [mm] at which slices are examined: an arm that lies against the body separates at one of them."""
MIDDLE_MM: Final = 25.0
"""A piece that comes nearer to the middle line than this [mm] is trunk, neck or head."""
ARM_DEPTH_MM: Final = 75.0
"""No arm is thicker than twice this [mm]."""
ARM_ML: Final = 80.0
"""A hand in the field of view has this volume [ml]; a part of half of it or less is not called an arm."""


@dataclass(frozen=True, eq=False)
class Pieces:
    """The pieces of all slices at one depth."""

    labels: NDArray[np.int32]
    """0 none, 1.. pieces; a piece lies in one slice."""
    slices: NDArray[np.int64]
    """The slice of each piece; index 0 is unused in all these arrays."""
    area: NDArray[np.float64]
    """Size [blocks]."""
    lateral: NDArray[np.float64]
    """Distance of the centre from the middle line [mm], the patient's left positive."""
    nearest: NDArray[np.float64]
    """Distance of the nearest block from the middle line [mm]."""
    deepest: NDArray[np.float64]
    """Distance of the deepest block to the skin [mm]."""


def pieces_at(scene: Scene, shrink_mm: float) -> Pieces:
    """The pieces of each slice once `shrink_mm` have been taken off the skin."""
    labels, count = ndimage.label(scene.depth > shrink_mm, IN_SLICE)
    z, y, x = np.nonzero(labels)
    piece = labels[z, y, x]
    away = scene.lateral[z, 0, x]
    area = np.bincount(piece, minlength=count + 1).astype(float)
    lateral = np.bincount(piece, weights=away, minlength=count + 1) / np.maximum(area, 1)
    nearest = np.full(count + 1, 1e6, np.float32)
    np.minimum.at(nearest, piece, np.abs(away))
    deepest = np.zeros(count + 1, np.float32)
    np.maximum.at(deepest, piece, scene.depth[z, y, x])
    slices = np.zeros(count + 1, int)
    slices[piece] = z
    return Pieces(labels, slices, area, lateral, nearest.astype(float), deepest.astype(float))


def sort_pieces(pieces: Pieces, slices: int, top: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which pieces are arms, and which the rest of the body; `top` is the last slice of the head."""
    count = len(pieces.area)
    arms, rest = np.zeros(count, bool), np.zeros(count, bool)
    order = np.argsort(pieces.slices[1:], kind="stable") + 1
    for here in np.split(order, np.searchsorted(pieces.slices[order], np.arange(1, slices))):
        if not len(here):
            continue
        middle = pieces.nearest[here] < MIDDLE_MM
        pair = _legs(pieces, here)
        if pieces.slices[here[0]] > top:
            arms[here] = True
        elif pair is None and middle.any():
            rest[here[middle]] = True
            arms[here[~middle & (pieces.deepest[here] < ARM_DEPTH_MM)]] = True
        else:
            legs = here if pair is None else pair
            rest[legs] = True
            for leg in legs:
                beside = pieces.lateral[here] * np.sign(pieces.lateral[leg]) > abs(pieces.lateral[leg]) + 40
                arms[here[beside & (pieces.area[here] < 0.7 * pieces.area[leg])]] = True
            rest &= ~arms
    arms[0] = rest[0] = False
    return arms, rest


def _legs(pieces: Pieces, here: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """The two pieces of a slice that form a pair of legs, one of which may cross the middle line."""
    sides = [here[np.sign(pieces.lateral[here]) == side] for side in (-1, 1)]
    if not all(len(side) for side in sides):
        return None
    pair = np.array([side[np.argmax(pieces.area[side])] for side in sides])
    small, large = np.sort(pieces.area[pair])
    apart = np.abs(pieces.lateral[pair]).min() > 35.0
    between = (pieces.nearest[here] < MIDDLE_MM) & ~np.isin(here, pair)
    return pair if small > 0.5 * large and apart and not between.any() else None


def find_arms(scene: Scene, top: int) -> tuple[Mask, Mask]:
    """The arms with their shoulders, and the part of them that lies free of the body in its slice."""
    sure_arm = np.zeros(scene.body.shape, bool)
    sure_rest = np.zeros(scene.body.shape, bool)
    free = np.zeros(scene.body.shape, bool)
    for shrink in SHRINK_MM:
        pieces = pieces_at(scene, shrink)
        arms, rest = sort_pieces(pieces, scene.body.shape[0], top)
        found = arms[pieces.labels]
        if shrink == 0.0:
            free = found
        sure_arm |= found  # what is an arm at one depth is one
        if shrink in (0.0, SHRINK_MM[-1]):
            sure_rest |= rest[pieces.labels] & (scene.depth > SHRINK_MM[-1])
    sure_rest &= ~sure_arm
    sure_arm = _with_bone(scene, sure_arm)
    if not sure_arm.any():
        return sure_arm, sure_arm
    whole = _flood(scene, sure_arm, sure_rest)
    return whole, free & whole


def _with_bone(scene: Scene, arms: Mask) -> Mask:
    """Leaves out parts without bone along them: a breast, a fold, a bag."""
    labels, count = ndimage.label(arms, np.ones((3, 3, 3)))
    keep = np.zeros(count + 1, bool)
    ml = float(np.prod(scene.spacing)) / 1000
    for k, box in enumerate(ndimage.find_objects(labels), 1):
        part = labels[box] == k
        slices = part.any(axis=(1, 2))
        bony = (part & scene.bone[box]).any(axis=(1, 2))
        long = slices.sum() * scene.spacing[0] >= 40
        keep[k] = part.sum() * ml > ARM_ML / 2 and long and bony[slices].mean() > 0.5
    return np.asarray(keep[labels])


def _flood(scene: Scene, arms: Mask, rest: Mask) -> Mask:
    """Assigns every block of the body to the arms or the rest, along the valleys between them."""
    markers = np.where(scene.body, 0, 3).astype(np.uint8)
    markers[rest] = 2
    markers[arms] = 1
    height, start = sitk.GetImageFromArray(-scene.depth), sitk.GetImageFromArray(markers)
    flooded = sitk.MorphologicalWatershedFromMarkers(height, start, False, False)
    return np.asarray(sitk.GetArrayFromImage(flooded) == 1) & scene.body
