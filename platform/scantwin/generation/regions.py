"""Regions to regenerate: random bodies, a part of an organ, a lesion with a ring of tissue around it.

Arrays have axes (z, y, x); a region is True where voxels are regenerated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Region = NDArray[np.bool_]
Spacing = tuple[float, float, float]
"""Voxel size (z, y, x) [mm]."""


def ellipsoid(
    shape: tuple[int, ...],
    spacing: Spacing,
    centre: tuple[int, ...],
    diameters_mm: tuple[float, float],
    random: np.random.Generator,
) -> Region:
    """A rotated, dented ellipsoid around voxel `centre`, each axis between `diameters_mm`."""
    axes = np.exp(random.uniform(np.log(diameters_mm[0]), np.log(diameters_mm[1]), 3)) / 2
    turn = np.linalg.qr(random.standard_normal((3, 3)))[0]
    steps = [(np.arange(n, dtype=np.float32) - c) * s for n, c, s in zip(shape, centre, spacing, strict=True)]
    z, y, x = np.meshgrid(*steps, indexing="ij", sparse=True)
    total = np.zeros(shape, np.float32)
    for row, axis in zip(turn, axes, strict=True):
        total += ((row[0] * z + row[1] * y + row[2] * x) / axis).astype(np.float32) ** 2
    # A wave or two along the surface: no lesion and no organ is an ellipsoid.
    wave = 2 * np.pi * random.uniform(0.7, 1.6) / (2 * axes.mean())
    phase = random.uniform(0, 2 * np.pi, 3)
    dent = np.sin(wave * z + phase[0]) * np.sin(wave * y + phase[1]) * np.sin(wave * x + phase[2])
    return np.asarray(np.sqrt(total) + 0.25 * dent < 1.0, np.bool_)


def with_ring(lesion: Region, spacing: Spacing, ring_mm: float) -> Region:
    """`lesion` and everything within `ring_mm` of it."""
    if ring_mm <= 0 or not lesion.any():
        return lesion.copy()
    reach = [int(np.ceil(ring_mm / s)) + 1 for s in spacing]
    box = tuple(
        slice(max(side.start - r, 0), side.stop + r)
        for side, r in zip(ndimage.find_objects(lesion.astype(np.uint8))[0], reach, strict=True)
    )
    out = np.zeros_like(lesion)
    out[box] = ndimage.distance_transform_edt(~lesion[box], sampling=spacing) <= ring_mm
    return out


def part_at(mask: Region, voxel: tuple[int, ...]) -> Region:
    """The connected part of `mask` that contains `voxel`."""
    parts, _ = ndimage.label(mask)
    return np.asarray((parts == parts[voxel]) & mask, np.bool_)
