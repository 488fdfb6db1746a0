"""The CT: partial volume, HU shift, noise by dose and thickness, table, truncation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from scipy.sparse import csr_matrix

from scantwin.imaging.volume import Volume
from scantwin.phantoms.canvas import Grid
from scantwin.phantoms.pet import axes_of
from scantwin.phantoms.separable import apply, axis_weights
from scantwin.phantoms.shapes import Array
from scantwin.units import AIR_HU, HU_RANGE

if TYPE_CHECKING:
    from scantwin.phantoms.scanner import ScannerSpec

NOISE_HU = 11.0
"""SD in the liver of a diagnostic CT with 3 mm slices and a soft kernel [HU]; 10-12 assumed."""
REFERENCE_DIAMETER_MM = 300.0
"""Water-equivalent diameter at which the SD is NOISE_HU [mm]; assumed."""
DOUBLING_MM = 80.0
"""Thickness of water that doubles the SD [mm]: 4 cm halve the photons (assumed), so the variance doubles."""
_SLAB = 48
"""Slices that are processed at a time."""
KERNEL_SD_MM = {"soft": 0.535, "sharp": 0.312}
"""SD of the Gaussian with the same MTF50: sqrt(ln 2 / 2) / (pi f), f = 0.35 and 0.6 /mm (assumed)."""
KERNEL_NOISE = {"soft": 1.0, "sharp": 1.9}
"""SD of the noise relative to the soft kernel; assumed."""


def image_ct(
    hu: Volume, scanner: ScannerSpec, grid: Grid, rng: np.random.Generator,
    *, table_y: float | None = None, metal: tuple[float, float, float] | None = None,
) -> Volume:  # fmt: skip
    """The CT [HU], int16, of the true `hu` [HU] on `grid`; `table_y` is the top of the table [mm], `metal`
    the centre of a prosthesis (x, y, z) [mm]."""
    z, y, x = (
        axis_weights(a, b, KERNEL_SD_MM[scanner.kernel], s)
        for a, b, s in zip(axes_of(hu), (grid.z, grid.y, grid.x), scanner.ct_spacing_mm, strict=True)
    )
    # Shifted so that air is zero: the zeros outside the phantom's grid are then air.
    dense = hu.array.astype(np.float32) - np.float32(AIR_HU)
    sd = _noise_sd(dense, hu, z, scanner)
    table = _table(grid, table_y) if scanner.table and table_y is not None else None
    outside = grid.x[None, :] ** 2 + (grid.y[:, None] - 10.0) ** 2 > 250.0**2
    array = np.empty(grid.shape, np.int16)
    # Slab by slab: a whole body with 1 mm pixels is 300 million voxels.
    for first in range(0, len(grid.z), _SLAB):
        slab = slice(first, min(first + _SLAB, len(grid.z)))
        ct = apply(dense, (z[slab], y, x)) + np.float32(AIR_HU)
        if table is not None:
            np.maximum(ct, table, out=ct)
        if metal is not None:
            _add_metal(ct, replace(grid, z=grid.z[slab]), metal)
        ct += _noise(ct.shape, scanner, rng) * sd[slab, None, None]
        ct += np.float32(scanner.hu_shift)
        if scanner.truncate_arms:
            ct[:, outside] = HU_RANGE[0]
        array[slab] = np.rint(np.clip(ct, *HU_RANGE))
    origin = (float(grid.x[0]), float(grid.y[0]), float(grid.z[0]))
    return Volume(array, scanner.ct_spacing_mm, origin, unit="HU")


def _noise_sd(dense: Array, hu: Volume, z: csr_matrix, scanner: ScannerSpec) -> Array:
    """SD of the noise [HU] in every slice, from dose, slice thickness and the patient's thickness there.
    `dense` is HU above air."""
    water = np.maximum(dense, 0).sum(axis=(1, 2)) / 1000 * np.prod(hu.spacing[1:])
    diameter = gaussian_filter1d(2 * np.sqrt(np.maximum(z @ water, 0) / np.pi), 3.0)
    sd = NOISE_HU * KERNEL_NOISE[scanner.kernel] * np.sqrt(3.0 / scanner.ct_spacing_mm[0] / scanner.ct_dose)
    return np.asarray(
        sd * np.clip(2 ** ((diameter - REFERENCE_DIAMETER_MM) / DOUBLING_MM), 0.25, 3.0), np.float32
    )


def _noise(shape: tuple[int, ...], scanner: ScannerSpec, rng: np.random.Generator) -> Array:
    """Noise of unit variance, correlated within the slice over about 2 mm."""
    sigma = (0.0, *(max(0.4, 0.9 / s) for s in scanner.ct_spacing_mm[1:]))
    noise = gaussian_filter(rng.standard_normal(shape, np.float32), sigma, mode="wrap", truncate=3.0)
    return np.asarray(noise / noise.std(), np.float32)


def _table(grid: Grid, top: float) -> Array:
    """A curved carbon table (y, x) [HU]: foam in a shell. In the middle it lies some 8 mm below `top`: of the
    mattress there is only its place."""
    x, y = grid.x[None, :], grid.y[:, None]
    surface = top + 8.0 - 18.0 * (x / 210.0) ** 2
    profile = np.full((len(grid.y), len(grid.x)), AIR_HU, np.float32)
    inside = np.abs(x) <= 215.0
    profile[inside & (y > surface) & (y < surface + 45)] = -930.0
    shell = (np.abs(y - surface - 1.5) < 2.5) | (np.abs(y - surface - 45) < 2.5)
    profile[inside & shell] = -60.0
    return profile


def _add_metal(ct: Array, grid: Grid, centre: tuple[float, float, float]) -> None:
    """A hip prosthesis (head and stem) with dark and bright streaks; strengths assumed."""
    x, y = grid.x[None, :] - centre[0], grid.y[:, None] - centre[1]
    r, turn = np.hypot(x, y), np.arctan2(y, x)
    streaks = np.exp(-r / 75.0) * (260 * np.cos(7 * turn) * (r > 14) - 380 * np.cos(turn) ** 12)
    for k, z in enumerate(grid.z - centre[2]):
        if not -120 < z < 30:
            continue
        if z > -20:
            metal = r**2 + z**2 < 24.0**2
        else:
            metal = np.hypot(x - min(36.0, -0.9 * (z + 12)) * np.sign(centre[0]), y) < 8.0
        present = float(
            np.clip(metal.sum() * np.prod([grid.y[1] - grid.y[0], grid.x[1] - grid.x[0]]) / 600, 0, 1)
        )
        ct[k] += (present * streaks * (ct[k] > -900)).astype(np.float32)
        ct[k][metal] = HU_RANGE[1]
