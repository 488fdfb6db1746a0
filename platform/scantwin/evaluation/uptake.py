"""Uptake metrics: SUVmean, SUVmax, SUVpeak of regions. Definitions: METRICS.md, Uptake metrics."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal import fftconvolve

from scantwin.evaluation.held_out import Case

PEAK_RADIUS_MM: Final = 6.20
"""Radius of a sphere of 1 ml [mm]."""

REAL_CHANGE: Final = (-0.25, 0.33)
"""A relative change outside these limits is real, inside it is test-retest variability (METRICS.md)."""


def suv_peak(
    suv: NDArray[np.float32], mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> float:
    """Mean of `suv` [g/ml] in a 1 ml sphere placed in `mask` to maximise it. Axes (z, y, x)."""
    reach = [int(np.ceil(PEAK_RADIUS_MM / s)) for s in spacing_mm]
    axes = np.meshgrid(
        *[np.arange(-r, r + 1) * s for r, s in zip(reach, spacing_mm, strict=True)], indexing="ij"
    )
    distance = np.sqrt(sum(a**2 for a in axes))
    # A voxel that the sphere's surface cuts counts in part, so that coarse grids do not jump.
    edge = min(spacing_mm)
    kernel = np.clip((PEAK_RADIUS_MM - distance) / edge + 0.5, 0.0, 1.0)
    box = ndimage.find_objects(mask.view(np.uint8))[0]
    around = tuple(slice(max(b.start - r, 0), b.stop + r) for b, r in zip(box, reach, strict=True))
    part = suv[around].astype(np.float64)
    weight = fftconvolve(np.ones_like(part), kernel, mode="same")
    means = fftconvolve(part, kernel, mode="same") / np.maximum(weight, 1e-9)
    return float(means[mask[around]].max())


def lesion_figures(predicted: NDArray[np.float32], case: Case) -> list[dict[str, float]]:
    """For each 18-connected lesion: errors of SUVmean, SUVmax, SUVpeak [g/ml]; 1 if inside the limits."""
    if case.lesions is None:
        return []
    labels, count = ndimage.label(case.lesions & case.body, ndimage.generate_binary_structure(3, 2))
    figures = []
    for label in range(1, count + 1):
        mask = labels == label
        said, true = predicted[mask], case.true[mask]
        peak = suv_peak(predicted, mask, case.grid.spacing), suv_peak(case.true, mask, case.grid.spacing)
        mean = float(said.mean()), float(true.mean())
        figures.append({
            "mae": float(np.abs(said - true).mean()),
            "suvmax_error": abs(float(said.max()) - float(true.max())),
            "suvpeak_error": abs(peak[0] - peak[1]),
            "suvmean_bias": mean[0] - mean[1],
            "inside_limits": float(_inside(*peak) and _inside(*mean)),
            "suvmean_inside": float(_inside(*mean)),
            "suvpeak_inside": float(_inside(*peak)),
        })  # fmt: skip
    return figures


def _inside(said: float, true: float) -> bool:
    return true > 0 and REAL_CHANGE[0] <= said / true - 1 <= REAL_CHANGE[1]
