"""MAE, PSNR and SSIM inside a mask, in SUV, over a declared range. Definitions: METRICS.md, Image metrics.

All arrays have axes (z, y, x) and are SUV [g/ml]; masks select the voxels that count.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scantwin.units import SUV_RANGE

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

_SSIM_WINDOW: Final = 7
"""Edge of SSIM's uniform window [voxels]."""


def mae(predicted: Array, true: Array, mask: Mask) -> float:
    """Mean absolute error [g/ml] over the mask."""
    return float(np.abs(predicted[mask] - true[mask]).mean(dtype=np.float64))


def bias(predicted: Array, true: Array, mask: Mask) -> float:
    """Mean of predicted - true [g/ml] over the mask."""
    return float((predicted[mask] - true[mask]).mean(dtype=np.float64))


def psnr(predicted: Array, true: Array, mask: Mask, value_range: tuple[float, float] = SUV_RANGE) -> float:
    """Peak signal-to-noise ratio [dB] of the masked voxels, both clipped to `value_range` [g/ml]."""
    low, high = value_range
    error = np.clip(predicted[mask], low, high) - np.clip(true[mask], low, high)
    mean_square = float((error.astype(np.float64) ** 2).mean())
    # Two equal images have no noise: 100 dB stands for that, and keeps means finite.
    return 100.0 if mean_square == 0 else min(100.0, 10.0 * float(np.log10((high - low) ** 2 / mean_square)))


def ssim_map(
    predicted: Array, true: Array, body: Mask, value_range: tuple[float, float] = SUV_RANGE
) -> Array:
    """Structural similarity at each voxel (z, y, x): 7-voxel window, K1 0.01, K2 0.03, sample covariance.

    Outside `body` both images are set to the range's minimum; the outer 3 voxels of the array are NaN.
    """
    low, high = value_range
    x, y = (np.where(body, np.clip(a, low, high), low).astype(np.float64) for a in (predicted, true))
    c1, c2 = (0.01 * (high - low)) ** 2, (0.03 * (high - low)) ** 2
    count = _SSIM_WINDOW**3
    sample = count / (count - 1)
    mean_x, mean_y = (ndimage.uniform_filter(a, _SSIM_WINDOW) for a in (x, y))
    var_x = sample * (ndimage.uniform_filter(x * x, _SSIM_WINDOW) - mean_x**2)
    var_y = sample * (ndimage.uniform_filter(y * y, _SSIM_WINDOW) - mean_y**2)
    both = sample * (ndimage.uniform_filter(x * y, _SSIM_WINDOW) - mean_x * mean_y)
    similarity = ((2 * mean_x * mean_y + c1) * (2 * both + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    )
    cropped = np.full(similarity.shape, np.nan, np.float32)
    inner = (slice(_SSIM_WINDOW // 2, -(_SSIM_WINDOW // 2)),) * 3
    cropped[inner] = similarity[inner]
    return cropped


def ssim(predicted: Array, true: Array, mask: Mask, value_range: tuple[float, float] = SUV_RANGE) -> float:
    """Mean structural similarity over the mask; NaN where the mask lies in the cropped border only."""
    values = ssim_map(predicted, true, mask, value_range)[mask]
    known = np.isfinite(values)
    return float(values[known].mean(dtype=np.float64)) if known.any() else float("nan")
