"""The coarse CT, cut to the body, in which the districts are looked for, and its middle line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scantwin.imaging.body import Coarse, coarsen
from scantwin.imaging.volume import Volume

Mask = NDArray[np.bool_]

BLOCK_MM: Final = (4.5, 6.0, 6.0)
"""Voxel size (z, y, x) [mm] on which landmarks are looked for: a skull and a wrist are still seen."""
BONE_HU: Final = 200.0
"""Above this a voxel is bone (or contrast in a vessel at its peak); enhanced organs stay below 180."""
BONE_SHARE: Final = 0.25
"""Share of bone voxels that makes a block bone: a thin skull fills a quarter of it, noise much less."""
APART_MM: Final = 60.0
"""A cross-section whose centre is further from the middle line than this [mm] is an arm or holds only one."""
IN_SLICE: Final = ndimage.generate_binary_structure(3, 1) & np.array([False, True, False])[:, None, None]
"""Neighbours within an axial slice only."""


@dataclass(frozen=True, eq=False)
class Scene:
    """The coarse CT, cut to the body. Arrays (z, y, x), z towards the head."""

    hu: NDArray[np.float32]
    """[HU]."""
    body: Mask
    depth: NDArray[np.float32]
    """Distance to the skin within the slice [mm]; 0 outside."""
    bone: Mask
    """Blocks with bone, in the body."""
    spacing: tuple[float, float, float]
    """(z, y, x) [mm]."""
    x0: NDArray[np.float64]
    """Column of the body's middle line, per slice [blocks]."""
    inside: tuple[slice, slice, slice]
    """Where the scene lies in the coarse CT."""
    cut_sides: float
    """Share of the body's rim on flat sides: a few percent in a person, more in a crop."""

    @property
    def lateral(self) -> NDArray[np.float32]:
        """Distance of each block (z, 1, x) from the middle line [mm], the patient's left positive."""
        columns = np.arange(self.body.shape[2])
        away = (columns[None, :] - self.x0[:, None]) * self.spacing[2]
        return np.asarray(away[:, None, :], np.float32)

    @property
    def area(self) -> NDArray[np.float64]:
        """Cross-section of the body per slice [cm2]."""
        return np.asarray(self.body.sum(axis=(1, 2)) * (self.spacing[1] * self.spacing[2] / 100.0), float)


def look(ct: Volume, body: Mask) -> tuple[Scene, Coarse] | None:
    """The scene of a canonical CT [HU] with its body mask; None if there is no body."""
    coarse = coarsen(ct, BLOCK_MM)
    inner = coarsen(ct.with_array(body.astype(np.uint8), "label"), BLOCK_MM).hu >= 0.5
    boxes = ndimage.find_objects(inner.astype(np.uint8))
    if not boxes:
        return None
    box: tuple[slice, slice, slice] = boxes[0]
    hu, mask = coarse.hu[box], inner[box]
    apart = (1e6, coarse.spacing[1], coarse.spacing[2])  # slices far apart: distances within the slice
    # A rim of air makes the sides of the field of view count as skin: a slice that is all body has no other.
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)), constant_values=False)
    depth = ndimage.distance_transform_edt(padded, sampling=apart)[:, 1:-1, 1:-1].astype(np.float32)
    hard = coarsen(ct.with_array((np.asarray(ct.array) > BONE_HU).astype(np.uint8), "label"), BLOCK_MM).hu[
        box
    ]
    bone = mask & (hard >= BONE_SHARE)
    middle = _middle_line(mask, coarse.spacing[2])
    return Scene(hu, mask, depth, bone, coarse.spacing, middle, box, _cut_sides(mask)), coarse


def mean_row(mask: Mask) -> NDArray[np.float64]:
    """Mean row of a mask per slice [blocks]; -1 where it is empty."""
    count = mask.sum(axis=(1, 2))
    total = (mask.sum(axis=2) * np.arange(mask.shape[1])).sum(axis=1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), -1.0))


def slices_of(mask: Mask) -> tuple[int, int]:
    """First and last slice of a mask."""
    found = np.flatnonzero(mask.any(axis=(1, 2)))
    return int(found[0]), int(found[-1])


def _middle_line(body: Mask, width_mm: float) -> NDArray[np.float64]:
    """Column of the middle line per slice: a straight line through slices of one piece or two alike."""
    labels, count = ndimage.label(body, IN_SLICE)
    z, _, x = np.nonzero(labels)
    piece = labels[labels > 0]
    size = np.bincount(piece, minlength=count + 1).astype(float)
    column = np.bincount(piece, weights=x, minlength=count + 1) / np.maximum(size, 1)
    slices = np.zeros(count + 1, int)
    slices[piece] = z
    widest = int(np.argmax(body.sum(axis=(1, 2))))  # legs are below it, a head beside a raised arm above
    rows: list[tuple[int, float, float]] = []
    for k in range(body.shape[0]):
        here = np.flatnonzero(slices == k)
        here = here[here > 0][np.argsort(size[here[here > 0]])[::-1]]
        total = size[here].sum()
        if len(here) and size[here[0]] > 0.85 * total:
            rows.append((k, float(column[here[0]]), total))
        elif (
            k <= widest
            and len(here) > 1
            and size[here[1]] > 0.6 * size[here[0]]
            and size[here[:2]].sum() > 0.85 * total
        ):
            rows.append((k, float(column[here[:2]].mean()), total))
    if len(rows) < 5:
        return np.full(body.shape[0], float(x.mean()))
    return _straight(np.array(rows, float), body.shape[0], APART_MM / width_mm)


def _straight(table: NDArray[np.float64], count: int, apart: float) -> NDArray[np.float64]:
    """A line through rows of (slice, column, area), without those that lie more than `apart` columns off.

    A raised arm alone, above the head, gives such rows, and may do so in more slices than the head.
    """
    slices, columns, area = table.T
    order = np.argsort(columns)
    slope, middle = 0.0, float(columns[order][np.searchsorted(area[order].cumsum(), area.sum() / 2)])
    for _ in range(5):
        near = np.abs(columns - slope * slices - middle) < apart
        if not near.any():
            break
        if np.ptp(slices[near]) <= 20:
            middle = float(np.average(columns[near], weights=area[near]))
            break
        slope, middle = np.polyfit(slices[near], columns[near], 1, w=area[near])
    return np.asarray(slope * np.arange(count) + middle)


def _cut_sides(body: Mask) -> float:
    """Share of the in-slice rim of the body that lies on the left, right or front of its own bounding box.

    A person touches it here and there; a crop of a person has flat sides. (The back lies flat on a table.)
    """
    rim = body & ~ndimage.binary_erosion(body, IN_SLICE, border_value=0)
    flat = rim[:, :, 0].sum() + rim[:, :, -1].sum() + rim[:, 0, :].sum()
    return float(flat / max(rim.sum(), 1))
