"""From a file's affine to a `Volume` with right-angled directions, or resampled to a right-angled grid."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from scantwin.imaging.reasons import reject
from scantwin.imaging.resampling import Interpolation, to_spacing
from scantwin.imaging.volume import Volume
from scantwin.units import AIR_HU, Unit

LPS_RAS: Final = np.diag([-1.0, -1.0, 1.0])
"""Turns a RAS vector (NIfTI) into LPS (DICOM) and back."""

_RIGHT_ANGLE: Final = 2e-3
"""Largest cosine between two axes (0.1 degrees) that still counts as rounding of the header."""


def volume_from_affine(
    array: NDArray[np.generic], affine: NDArray[np.float64], unit: Unit, shown: str
) -> Volume:
    """A volume from an array (k, j, i) = (z, y, x) and a 4 x 4 affine (i, j, k) -> LPS [mm].

    Axes that are not at right angles (a tilted gantry, a sheared sform) stay so: see `axis_aligned`.
    """
    columns = affine[:3, 2::-1]  # world steps of the array axes k, j, i
    spacing = np.linalg.norm(columns, axis=0)
    if not np.isfinite(affine).all() or (spacing < 1e-6).any() or (spacing > 1e4).any():
        raise reject("geometry.bad", found=f"voxel sizes {spacing.round(6).tolist()} mm in {shown}")
    direction = columns / spacing
    if abs(np.linalg.det(direction)) < 0.1:
        raise reject("geometry.bad", found=f"the axes of {shown} lie in one plane")
    volume = Volume(array, tuple(spacing.tolist()), tuple(affine[:3, 3].tolist()), direction, unit)
    if skew(volume) <= _RIGHT_ANGLE:
        u, _, v = np.linalg.svd(direction)  # the nearest right-angled directions
        volume = Volume(array, volume.spacing, volume.origin, u @ v, unit)
    return volume


def skew(volume: Volume) -> float:
    """Largest cosine between two array axes; 0 for right angles."""
    gram = volume.direction.T @ volume.direction
    return float(np.abs(gram - np.diag(np.diag(gram))).max())


def outside_of(unit: Unit) -> float:
    """The value where a volume of this unit has no voxels: air for a CT, 0 for the rest."""
    return AIR_HU if unit == "HU" else 0.0


def axis_aligned(volume: Volume) -> Volume:
    """The volume, canonical and along the world's axes; resampled only if it was oblique or sheared."""
    volume = volume.canonical()
    if volume.is_canonical:
        return volume
    how: Interpolation = "nearest" if volume.unit == "label" else "linear"
    return to_spacing(volume, volume.spacing, how=how, outside=outside_of(volume.unit))
