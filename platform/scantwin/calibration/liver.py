"""The liver as a calibration sample: mean SUV of a 3 cm sphere in its right lobe.

Livers vary by 22 % between patients, so it takes 35-50 of them to see a drift of 10 %: a second opinion
beside the phantoms, on a chart of its own. No command measures it yet: a liver is one patient's data, and it
is still to be decided what of it may leave a site.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scantwin.calibration.measure import Measurement
from scantwin.errors import InputError
from scantwin.imaging.body import body_mask
from scantwin.imaging.resampling import grid_over, resample_like
from scantwin.imaging.volume import Volume
from scantwin.units import AIR_HU

LIVER_SUV: Final = 2.1
"""Mean over patients [g/ml] (2.0-2.2, sources.md, 8)."""
ACCEPTED_SUV: Final = (1.3, 3.0)
"""Accepted range of liver SUVmean (sources.md, 8)."""
SPHERE_MM: Final = 30.0
"""Diameter of the sphere (EANM, PERCIST)."""

_VOXEL_MM: Final = 5.0
_LUNG_HU: Final = (-930.0, -400.0)
_SOFT_HU: Final = (15.0, 190.0)
"""Range of the liver with and without contrast, once averaged over 5 mm [HU]."""


def measure_liver(pet: Volume, ct: Volume) -> Measurement:
    """SUVmean [g/ml] of the 3 cm sphere deepest in the right lobe; the bias is relative to 2.1.

    The lobe is the thickest soft tissue on the patient's right that is hotter than the body's soft tissue,
    9 cm above to 11 cm below the lower end of the right lung. Raises `InputError` where there is none.
    """
    ct, pet = ct.canonical(), pet.canonical()
    grid = grid_over(ct, (_VOXEL_MM, _VOXEL_MM, _VOXEL_MM))
    body = np.asarray(resample_like(ct.with_array(body_mask(ct), "label"), grid, how="nearest").array) > 0
    hu = np.asarray(resample_like(ct, grid, how="area", outside=AIR_HU).array, np.float32)
    suv = np.asarray(resample_like(pet, grid, how="area").array, np.float32)
    if not body.any():
        raise InputError("There is no patient in this CT.", hint="Give the CT of the same study.")
    lobe = _right_lobe(hu, suv, body)
    depth = np.zeros(lobe.shape)
    where = ndimage.find_objects(lobe.astype(np.uint8))
    if where:
        part = np.pad(lobe[where[0]], 1)  # its box only: most of the cost is in empty space
        depth[where[0]] = ndimage.distance_transform_edt(part, sampling=_VOXEL_MM)[1:-1, 1:-1, 1:-1]
    centre = np.unravel_index(int(np.argmax(depth)), depth.shape)
    if depth[centre] < SPHERE_MM / 2:
        raise InputError(
            "No liver is found in this study.", hint="Use a scan that shows the whole right lobe."
        )
    world = grid.world(np.array(centre))
    z, y, x = (o + np.arange(n) * s for o, n, s in zip(pet.origin[::-1], pet.shape, pet.spacing, strict=True))
    away2 = (
        (z[:, None, None] - world[2]) ** 2
        + (y[None, :, None] - world[1]) ** 2
        + (x[None, None, :] - world[0]) ** 2
    )
    values = pet.array[away2 <= (SPHERE_MM / 2) ** 2].astype(np.float64)
    mean = float(values.mean())
    detail = {
        "mean_suv": mean,
        "centre_mm": [round(float(v), 1) for v in world],
        "accepted": ACCEPTED_SUV[0] <= mean <= ACCEPTED_SUV[1],
    }
    sd = float(values.std(ddof=1) / LIVER_SUV)
    return Measurement("liver", mean / LIVER_SUV - 1, sd, len(values), len(values), detail)


def _right_lobe(
    hu: NDArray[np.float32], suv: NDArray[np.float32], body: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Voxels that may be the right lobe of the liver."""
    middle = float(np.argwhere(body)[:, 2].mean())
    right = np.arange(body.shape[2])[None, None, :] < middle  # +x is the patient's left
    lung = ndimage.binary_opening((hu > _LUNG_HU[0]) & (hu < _LUNG_HU[1]) & body & right, iterations=1)
    labels, count = ndimage.label(lung)
    if count == 0:
        raise InputError("No lung is found in this CT.", hint="Use a scan that shows the lower chest.")
    largest = labels == int(np.argmax(np.bincount(labels.ravel())[1:])) + 1
    levels = np.flatnonzero(largest.any(axis=(1, 2)))
    # The dome reaches up into the lung.
    high, low = levels[0] + round(90 / _VOXEL_MM), levels[0] - round(110 / _VOXEL_MM)
    near = np.zeros_like(body)
    near[max(low, 0) : high] = True
    soft = (hu > _SOFT_HU[0]) & (hu < _SOFT_HU[1]) & body & ~lung
    warm = ndimage.gaussian_filter(suv, 1.0)
    usual = float(np.median(warm[soft]))
    lobe = soft & right & near & (warm > 1.35 * usual) & (warm < 12 * usual)
    return np.asarray(ndimage.binary_opening(lobe, iterations=2), bool)
