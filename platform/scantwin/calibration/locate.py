"""Finds a QC object in its images without being told where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scantwin.errors import InputError
from scantwin.imaging.resampling import resample_like
from scantwin.imaging.volume import Volume
from scantwin.units import AIR_HU

_WATER_FROM_HU: Final = -300.0
"""Threshold between a table's foam or air and water [HU]; assumed."""


@dataclass(frozen=True, eq=False)
class Cylinder:
    """Where a cylinder stands in a PET: its axis, radius and ends."""

    centre_x: NDArray[np.float64]
    """World x of the axis at every slice [mm]."""
    centre_y: NDArray[np.float64]
    """World y of the axis at every slice [mm]."""
    radius_mm: float
    bottom_mm: float
    """World z of the lower end [mm]."""
    top_mm: float


def find_object(pet: Volume, ct: Volume | None) -> NDArray[np.bool_]:
    """The largest solid object on the grid of `pet` (z, y, x): by CT if there is one, else by activity."""
    if ct is not None:
        moved = resample_like(ct.canonical(), pet, how="area", outside=AIR_HU)
        on_pet = np.asarray(moved.array, np.float32)
        mask = ndimage.binary_opening(on_pet > _WATER_FROM_HU, iterations=2)
        if not mask.any():
            mask = on_pet > _WATER_FROM_HU
    else:
        smooth = ndimage.gaussian_filter(pet.array.astype(np.float32), [6.0 / s for s in pet.spacing])
        # Half the level of the bulk: hot spheres are a small part of the volume.
        bulk = float(np.median(smooth[smooth > 0.2 * np.percentile(smooth, 99)])) if smooth.max() > 0 else 0.0
        mask = smooth > 0.5 * bulk if bulk > 0 else np.zeros(smooth.shape, bool)
    labels, count = ndimage.label(mask)
    if count == 0:
        raise InputError("There is no object in this scan.", hint="Give the PET of a filled phantom.")
    sizes = np.bincount(labels.ravel())[1:]
    return np.asarray(ndimage.binary_fill_holes(labels == int(np.argmax(sizes)) + 1), bool)


def find_cylinder(pet: Volume, ct: Volume | None) -> Cylinder:
    """The axis (straight, perhaps tilted), radius and ends of the uniform cylinder."""
    mask = find_object(pet, ct)
    areas = mask.sum(axis=(1, 2)) * pet.spacing[1] * pet.spacing[2]
    usual = float(np.median(areas[areas > 0.5 * areas.max()]))
    full = np.flatnonzero((areas > 0.8 * usual) & (areas < 1.25 * usual))
    if len(full) < 4:
        raise InputError(
            "This is not a uniform cylinder: its slices differ.", hint="Give the cylinder's scan."
        )
    rows, columns = np.arange(mask.shape[1])[:, None], np.arange(mask.shape[2])[None, :]
    inside = mask[full].astype(np.float64)
    count = inside.sum(axis=(1, 2))
    centres = np.stack([(inside * c).sum(axis=(1, 2)) / count for c in (columns, rows)], axis=1)
    every = np.arange(mask.shape[0])
    # A straight line through the slices' centres, so that noise in one slice does not move its disc.
    cx, cy = (np.polyval(np.polyfit(full, centres[:, k], 1), every) for k in (0, 1))
    world = pet.world(np.stack([every, cy, cx], 1))
    radius = float(np.sqrt(usual / np.pi))
    low, high = (world[k, 2] for k in (full[0], full[-1]))
    half = pet.spacing[0] / 2
    return Cylinder(world[:, 0], world[:, 1], radius, float(low) - half, float(high) + half)
