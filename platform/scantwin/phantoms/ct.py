"""The CT: partial volume, HU shift, noise by dose and thickness, the table, truncation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from scantwin.imaging.volume import Volume
from scantwin.phantoms.canvas import Grid
from scantwin.phantoms.pet import axes_of
from scantwin.phantoms.separable import apply, axis_weights
from scantwin.phantoms.shapes import Array
from scantwin.units import AIR_HU, HU_RANGE

if TYPE_CHECKING:
    from scantwin.phantoms.scanner import ScannerSpec

NOISE_HU = 11.0
"""SD in the liver of a diagnostic CT of 3 mm slices, soft kernel [HU]; 10-12 assumed."""
REFERENCE_DIAMETER_MM = 300.0
"""Water-equivalent diameter to which NOISE_HU belongs [mm]; assumed."""
DOUBLING_MM = 80.0
"""Water that doubles the SD [mm]: the photons halve per 4 cm (assumed), so the variance doubles."""
KERNEL_SD_MM = {"soft": 0.535, "sharp": 0.312}
"""Gaussian of the same MTF50: sqrt(ln 2 / 2) / (pi f), f = 0.35 and 0.6 /mm (assumed)."""
KERNEL_NOISE = {"soft": 1.0, "sharp": 1.9}
"""SD against the soft kernel; assumed."""


def image_ct(
    hu: Volume, scanner: ScannerSpec, grid: Grid, rng: np.random.Generator,
    *, table_y: float | None = None, metal: tuple[float, float, float] | None = None,
) -> Volume:  # fmt: skip
    """The CT [HU], int16, of the true `hu` [HU] on `grid`; `table_y` is the table's top [mm], `metal` the
    centre of a prosthesis (x, y, z) [mm]."""
    weights = [
        axis_weights(a, b, KERNEL_SD_MM[scanner.kernel], s)
        for a, b, s in zip(axes_of(hu), (grid.z, grid.y, grid.x), scanner.ct_spacing_mm, strict=True)
    ]
    # Air is zero here, so that nothing outside the phantom's grid is air.
    ct = apply(hu.array.astype(np.float32) - np.float32(AIR_HU), (weights[0], weights[1], weights[2]))
    ct += np.float32(AIR_HU)
    if scanner.table and table_y is not None:
        _add_table(ct, grid, table_y)
    if metal is not None:
        _add_metal(ct, grid, metal)
    ct += _noise(ct, scanner, rng)
    ct += np.float32(scanner.hu_shift)
    if scanner.truncate_arms:
        outside = grid.x[None, :] ** 2 + (grid.y[:, None] - 10.0) ** 2 > 250.0**2
        ct[:, outside] = HU_RANGE[0]
    array = np.rint(np.clip(ct, *HU_RANGE)).astype(np.int16)
    origin = (float(grid.x[0]), float(grid.y[0]), float(grid.z[0]))
    return Volume(array, scanner.ct_spacing_mm, origin, unit="HU")


def _noise(ct: Array, scanner: ScannerSpec, rng: np.random.Generator) -> Array:
    """Noise [HU], SD by dose, slice thickness and the patient's thickness slice by slice."""
    area = np.prod(scanner.ct_spacing_mm[1:])
    water = np.maximum(ct + 1000, 0).sum(axis=(1, 2)) / 1000 * area
    diameter = gaussian_filter1d(2 * np.sqrt(water / np.pi), 3.0)
    sd = NOISE_HU * KERNEL_NOISE[scanner.kernel] * np.sqrt(3.0 / scanner.ct_spacing_mm[0] / scanner.ct_dose)
    by_slice = sd * np.clip(2 ** ((diameter - REFERENCE_DIAMETER_MM) / DOUBLING_MM), 0.25, 3.0)
    sigma = (0.0, *(max(0.4, 0.9 / s) for s in scanner.ct_spacing_mm[1:]))
    noise = gaussian_filter(rng.standard_normal(ct.shape, np.float32), sigma, mode="wrap", truncate=3.0)
    noise *= (by_slice / noise.std()).astype(np.float32)[:, None, None]
    return np.asarray(noise, np.float32)


def _add_table(ct: Array, grid: Grid, top: float) -> None:
    """A curved carbon table with a foam core and a thin mattress, wherever there is air."""
    x, y = grid.x[None, :], grid.y[:, None]
    surface = top + 8.0 - 18.0 * (x / 210.0) ** 2
    profile = np.full((len(grid.y), len(grid.x)), AIR_HU, np.float32)
    inside = np.abs(x) <= 215.0
    profile[inside & (y > surface) & (y < surface + 45)] = -930.0
    shell = (np.abs(y - surface - 1.5) < 2.5) | (np.abs(y - surface - 45) < 2.5)
    profile[inside & shell] = -60.0
    np.maximum(ct, profile[None], out=ct)


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
