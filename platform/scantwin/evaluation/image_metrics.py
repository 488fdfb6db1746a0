"""MAE, PSNR, SSIM, MS-SSIM inside a mask, in SUV, over a declared range. Definitions: METRICS.md.

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
_INNER: Final = (slice(_SSIM_WINDOW // 2, -(_SSIM_WINDOW // 2)),) * 3
"""Where the window lies wholly inside the array."""

_SCALE_WEIGHTS: Final = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of MS-SSIM, finest scale first (Wang 2003, 10.1109/ACSSC.2003.1292216)."""


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
    luminance, structure = _similarity(*_shown(predicted, true, body, value_range), value_range)
    similarity = luminance * structure
    cropped = np.full(similarity.shape, np.nan, np.float32)
    cropped[_INNER] = similarity[_INNER]
    return cropped


def ssim(predicted: Array, true: Array, mask: Mask, value_range: tuple[float, float] = SUV_RANGE) -> float:
    """Mean structural similarity over the mask; NaN where the mask lies in the cropped border only."""
    values = ssim_map(predicted, true, mask, value_range)[mask]
    known = np.isfinite(values)
    return float(values[known].mean(dtype=np.float64)) if known.any() else float("nan")


def ms_ssim(predicted: Array, true: Array, mask: Mask, value_range: tuple[float, float] = SUV_RANGE) -> float:
    """Multi-scale structural similarity over the mask: five scales, each half as fine as the one before.

    NaN where the volume is too small for SSIM's window at the coarsest scale (edges below 112 voxels), or
    no voxel of the mask is left there.
    """
    x, y = _shown(predicted, true, mask, value_range)
    inside = mask.astype(np.float64)
    product = 1.0
    for number, weight in enumerate(_SCALE_WEIGHTS):
        if min(x.shape) < _SSIM_WINDOW:
            return float("nan")
        luminance, structure = _similarity(x, y, value_range)
        last = number == len(_SCALE_WEIGHTS) - 1
        values = (luminance * structure if last else structure)[_INNER][inside[_INNER] >= 0.5]
        if not values.size:
            return float("nan")
        product *= max(float(values.mean()), 0.0) ** weight
        x, y, inside = (_halved(image) for image in (x, y, inside))
    return product


def _shown(
    predicted: Array, true: Array, body: Mask, value_range: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both images clipped to the range, at its minimum outside the body."""
    low, high = value_range
    x, y = (np.where(body, np.clip(a, low, high), low).astype(np.float64) for a in (predicted, true))
    return x, y


def _similarity(
    x: NDArray[np.float64], y: NDArray[np.float64], value_range: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The luminance term, and the contrast and structure terms in one, at each voxel."""
    low, high = value_range
    c1, c2 = (0.01 * (high - low)) ** 2, (0.03 * (high - low)) ** 2
    count = _SSIM_WINDOW**3
    sample = count / (count - 1)
    mean_x, mean_y = (ndimage.uniform_filter(a, _SSIM_WINDOW) for a in (x, y))
    var_x = sample * (ndimage.uniform_filter(x * x, _SSIM_WINDOW) - mean_x**2)
    var_y = sample * (ndimage.uniform_filter(y * y, _SSIM_WINDOW) - mean_y**2)
    both = sample * (ndimage.uniform_filter(x * y, _SSIM_WINDOW) - mean_x * mean_y)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance, (2 * both + c2) / (var_x + var_y + c2)


def _halved(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of blocks of 2 x 2 x 2; an odd last plane is left out."""
    z, y, x = (n // 2 for n in image.shape)
    blocks = image[: 2 * z, : 2 * y, : 2 * x].reshape(z, 2, y, 2, x, 2)
    return np.asarray(blocks.mean(axis=(1, 3, 5)), np.float64)
