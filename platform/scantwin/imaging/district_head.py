"""The brain in its skull, and the top of the head, on the blocks of a scene."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scantwin.imaging.district_scene import Mask, Scene, mean_row, slices_of

BRAIN_HU: Final = (0.0, 70.0)
"""Mean HU inside a skull: white matter 27, grey matter 37, with contrast +5 (sources.md)."""
BRAIN_ML: Final = 250.0
"""A brain cut by the field of view still has this volume [ml]; a whole one about 1,300."""
BRAIN_CM2: Final = 40.0
"""Smallest cross-section [cm2] of the inside of a head that is examined; a neck has less inside its rim."""
SCALP_SKULL_MM: Final = 16.0
"""Scalp and skull together [mm], with half a block to spare."""
SKULL_AROUND: Final = 0.8
"""Share of directions with bone: a skull has it all around, except where averaging loses thin bone."""
SKULL_CROWN: Final = 0.2
"""The same near the crown, where a thin skull fills too little of its blocks."""


def find_brain(scene: Scene) -> Mask | None:
    """The inside of the skull: soft, even tissue with bone all around it under the skin; or None."""
    near = np.abs(scene.lateral) < 110.0
    inner = (scene.depth > SCALP_SKULL_MM) & near
    soft = inner & (scene.hu > BRAIN_HU[0] - 60) & (scene.hu < BRAIN_HU[1] + 60)
    unlike = inner & ~soft & ~scene.bone  # fat, air: the base of the skull, or no head at all
    cm2 = scene.spacing[1] * scene.spacing[2] / 100.0
    area = soft.sum(axis=(1, 2))
    mean = np.where(soft, scene.hu, 0).sum(axis=(1, 2)) / np.maximum(area, 1)
    even = (mean > BRAIN_HU[0]) & (mean < BRAIN_HU[1])
    even &= (unlike.sum(axis=(1, 2)) < 0.15 * area) & (area > 0.5 * inner.sum(axis=(1, 2)))
    shell = scene.bone & near & (scene.depth <= SCALP_SKULL_MM + 4)
    around = _around(scene, inner, shell)
    skull = even & (area * cm2 > BRAIN_CM2) & (around > SKULL_AROUND)
    runs, found = ndimage.label(ndimage.binary_closing(np.pad(skull, 4), np.ones(3))[4:-4])
    volume = [soft[runs == k].sum() * float(np.prod(scene.spacing)) / 1000 for k in range(1, found + 1)]
    if not volume or max(volume) < BRAIN_ML:
        return None
    brain = np.zeros_like(soft)
    slices = runs == int(np.argmax(volume)) + 1
    # Under the crown the skull is oblique, thin and further from the skin: it is followed up from below.
    crown = even & (area * cm2 > BRAIN_CM2 / 4) & (around > SKULL_CROWN)
    for z in range(int(np.flatnonzero(slices)[-1]) + 1, len(slices)):
        if not crown[z] or area[z] > 1.1 * area[z - 1]:
            break
        slices[z] = True
    brain[slices] = soft[slices]
    return brain


def head_top(scene: Scene, brain: Mask) -> int:
    """The last slice of the head: what is connected to the brain from slice to slice, for at most 80 mm."""
    last = slices_of(brain)[1]
    under = brain[last]
    for z in range(last + 1, min(last + 1 + round(80 / scene.spacing[0]), scene.body.shape[0])):
        labels, _ = ndimage.label(scene.body[z] & (np.abs(scene.lateral[z]) < 110.0))
        hit = np.bincount(labels[under], minlength=1)
        hit[0] = 0
        if not hit.any():
            return z - 1
        on = labels == int(np.argmax(hit))
        # The head gets smaller towards the vertex; hands on top of it would not.
        if on.sum() > 1.2 * under.sum() and z > last + round(20 / scene.spacing[0]):
            return z - 1
        under = on
    return last + round(20 / scene.spacing[0])


def _around(scene: Scene, inner: Mask, shell: Mask) -> NDArray[np.float64]:
    """Per slice, the share of 24 directions from the middle of `inner` in which there is `shell`."""
    row, column = mean_row(inner), mean_row(inner.transpose(0, 2, 1))
    z, y, x = np.nonzero(shell)
    angle = np.arctan2((y - row[z]) * scene.spacing[1], (x - column[z]) * scene.spacing[2])
    sector = ((angle + np.pi) / (2 * np.pi) * 24).astype(int) % 24
    seen = np.zeros((shell.shape[0], 24), bool)
    seen[z, sector] = True
    return np.asarray(seen.mean(axis=1))
