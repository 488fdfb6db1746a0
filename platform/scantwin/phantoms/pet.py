"""The PET camera: finite resolution, breathing, and noise that grows with the local mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from scantwin.imaging.volume import Volume
from scantwin.phantoms.canvas import Grid
from scantwin.phantoms.separable import apply, axis_weights
from scantwin.phantoms.shapes import Array
from scantwin.units import FWHM_TO_SD

if TYPE_CHECKING:
    from scantwin.phantoms.scanner import ScannerSpec

LIVER_COV = 0.10
"""SD over mean in the liver at normal counts: 9 % digital, 11.5 % conventional (PMC7560684)."""


def axes_of(volume: Volume) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """World z, y, x [mm] of the voxel centres of a canonical volume."""
    z, y, x = (
        np.asarray(o + np.arange(n) * s, np.float64)
        for o, n, s in zip(volume.origin[::-1], volume.shape, volume.spacing, strict=True)
    )
    return z, y, x


def image_pet(
    suv: Volume, scanner: ScannerSpec, grid: Grid, rng: np.random.Generator, *, dome_z: float | None = None
) -> Volume:
    """The PET [g/ml] of the true uptake `suv` [g/ml], without any calibration error."""
    weights = []
    for k, (source, target) in enumerate(zip(axes_of(suv), (grid.z, grid.y, grid.x), strict=True)):
        variance = (scanner.pet_fwhm_mm * FWHM_TO_SD) ** 2
        # The phantom's own voxels blur twice: partial volume when painted, boxes when read. Subtract that.
        variance = max(variance - 2 * suv.spacing[k] ** 2 / 12, 0.05 * suv.spacing[k] ** 2)
        sd: float | NDArray[np.float64] = np.sqrt(variance)
        if k == 0 and dome_z is not None and scanner.breathing_mm > 0:
            near = np.exp(-(((target - dome_z) / 70.0) ** 2))
            sd = np.sqrt(variance + near * (scanner.breathing_mm * FWHM_TO_SD) ** 2)
        weights.append(axis_weights(source, target, sd))
    clean = apply(suv.array.astype(np.float32), (weights[0], weights[1], weights[2]))
    cov = LIVER_COV / np.sqrt(scanner.pet_counts)
    noisy = clean * (1 + np.float32(cov) * _noise(clean.shape, scanner, rng))
    origin = (float(grid.x[0]), float(grid.y[0]), float(grid.z[0]))
    return Volume(np.maximum(noisy, 0).astype(np.float32), scanner.pet_spacing_mm, origin, unit="SUV")


def _noise(shape: tuple[int, ...], scanner: ScannerSpec, rng: np.random.Generator) -> Array:
    """Noise of unit variance, correlated over about one FWHM."""
    sigma = [scanner.pet_fwhm_mm * FWHM_TO_SD / s / np.sqrt(2) for s in scanner.pet_spacing_mm]
    noise = gaussian_filter(rng.standard_normal(shape, np.float32), sigma, mode="wrap", truncate=3.0)
    return np.asarray(noise / noise.std(), np.float32)
