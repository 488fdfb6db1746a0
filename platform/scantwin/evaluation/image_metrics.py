"""MAE, PSNR, SSIM, MS-SSIM inside a mask, in SUV, over a declared range. Definitions: sources.md, 6.

All arrays have axes (z, y, x) and are SUV [g/ml]; masks select the voxels that count.
"""

from __future__ import annotations

from functools import cached_property
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
"""Voxels around which the window lies wholly inside the array."""

_SAMPLE: Final = _SSIM_WINDOW**3 / (_SSIM_WINDOW**3 - 1)
"""Factor from the window's own variance to the sample variance."""

_SCALE_WEIGHTS: Final = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of MS-SSIM, finest scale first (Wang 2003, 10.1109/ACSSC.2003.1292216)."""

_LEAST_EDGE: Final = _SSIM_WINDOW * 2 ** (len(_SCALE_WEIGHTS) - 1)
"""Edge below which the window does not fit at the coarsest scale [voxels]: 112."""


def mae(predicted: Array, true: Array, mask: Mask) -> float:
    """Mean absolute error [g/ml] over the mask."""
    return float(np.abs(predicted[mask] - true[mask]).mean(dtype=np.float64))


def bias(predicted: Array, true: Array, mask: Mask) -> float:
    """Mean of predicted - true [g/ml] over the mask."""
    return float((predicted[mask] - true[mask]).mean(dtype=np.float64))


def psnr(predicted: Array, true: Array, mask: Mask, value_range: tuple[float, float] = SUV_RANGE) -> float:
    """Peak signal-to-noise ratio [dB] of the masked voxels, both clipped to `value_range` [g/ml].

    NaN if one of them is NaN.
    """
    low, high = value_range
    error = np.clip(predicted[mask], low, high) - np.clip(true[mask], low, high)
    mean_square = float((error.astype(np.float64) ** 2).mean())
    # Two equal images have no noise: 100 dB stands for that and keeps means finite.
    if mean_square == 0:
        return 100.0
    # Not min(): of 100 and NaN it returns 100, the figure of a perfect image.
    return float(np.minimum(100.0, 10.0 * np.log10((high - low) ** 2 / mean_square)))


def ssim(predicted: Array, true: Array, mask: Mask, value_range: tuple[float, float] = SUV_RANGE) -> float:
    """Mean structural similarity over the mask.

    NaN if the mask lies in the cropped border only, or one of its voxels is NaN.
    """
    likeness = Likeness(true, mask, value_range)
    values = likeness.map(predicted)[mask & likeness.known]
    return float(values.mean(dtype=np.float64)) if values.size else float("nan")


class Likeness:
    """Structural similarity to one true image; what depends on that image alone is computed once.

    7-voxel uniform window, K1 0.01, K2 0.03, sample covariance. Both images are clipped to `value_range`
    [g/ml] and set to its minimum outside `body`.
    """

    def __init__(self, true: Array, body: Mask, value_range: tuple[float, float] = SUV_RANGE) -> None:
        self._body, self._range = body, value_range
        self._true = self._shown(true)

    def map(self, predicted: Array) -> Array:
        """Similarity at each voxel (z, y, x) of the body; NaN outside and in the array's outer 3 voxels."""
        luminance, structure = self._finest.against(self._shown(predicted))
        out = np.full(predicted.shape, np.nan, np.float32)
        out[self._finest.where] = luminance * structure
        return out

    @property
    def known(self) -> Mask:
        """Where `map` has a value. If that is NaN, so is a voxel of the predicted image."""
        return self._finest.where

    def multi_scale(self, predicted: Array) -> float:
        """MS-SSIM over the body: five scales, each half as fine as the one before.

        A volume too small for the window at the coarsest scale (edges below 112 voxels) is padded with the
        value outside the body. NaN if no voxel of the body is left at a scale.
        """
        if not all(scale.where.any() for scale in self._scales):
            return float("nan")
        image, product = _continued(self._shown(predicted), self._range[0]), 1.0
        for number, (scale, weight) in enumerate(zip(self._scales, _SCALE_WEIGHTS, strict=True)):
            luminance, structure = scale.against(image)
            last = number == len(_SCALE_WEIGHTS) - 1
            values = luminance * structure if last else structure
            product *= max(float(values.mean()), 0.0) ** weight
            image = _halved(image)
        return product

    @cached_property
    def _finest(self) -> _Scale:
        return _Scale(self._true, self._body.astype(np.float64), self._range)

    @cached_property
    def _scales(self) -> list[_Scale]:
        """The scales of `multi_scale`, finest first."""
        true = _continued(self._true, self._range[0])
        inside = _continued(self._body.astype(np.float64), 0.0)
        scales = [self._finest if true.shape == self._true.shape else _Scale(true, inside, self._range)]
        for _ in _SCALE_WEIGHTS[1:]:
            true, inside = _halved(true), _halved(inside)
            scales.append(_Scale(true, inside, self._range))
        return scales

    def _shown(self, image: Array) -> NDArray[np.float64]:
        low, high = self._range
        return np.where(self._body, np.clip(image, low, high), low).astype(np.float64)


class _Scale:
    """The true image at one scale: means and variances of its windows where there is tissue."""

    def __init__(
        self, true: NDArray[np.float64], inside: NDArray[np.float64], value_range: tuple[float, float]
    ) -> None:
        low, high = value_range
        self._c1, self._c2 = (0.01 * (high - low)) ** 2, (0.03 * (high - low)) ** 2
        self.where = np.zeros(inside.shape, bool)
        self.where[_INNER] = inside[_INNER] >= 0.5
        self._true = true
        self._mean = self._windowed(true)
        self._variance = _SAMPLE * (self._windowed(true * true) - self._mean**2)

    def against(self, image: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The luminance term and the product of contrast and structure terms, at each voxel of `where`."""
        mean, true_mean = self._windowed(image), self._mean
        variance = _SAMPLE * (self._windowed(image * image) - mean**2)
        both = _SAMPLE * (self._windowed(image * self._true) - mean * true_mean)
        luminance = (2 * mean * true_mean + self._c1) / (mean**2 + true_mean**2 + self._c1)
        return luminance, (2 * both + self._c2) / (variance + self._variance + self._c2)

    def _windowed(self, image: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(ndimage.uniform_filter(image, _SSIM_WINDOW)[self.where], np.float64)


def _continued(image: NDArray[np.float64], value: float) -> NDArray[np.float64]:
    """`image` in the middle of an array of at least `_LEAST_EDGE` voxels an edge, padded with `value`."""
    missing = [max(_LEAST_EDGE - n, 0) for n in image.shape]
    return np.pad(image, [(n // 2, n - n // 2) for n in missing], constant_values=value)


def _halved(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of blocks of 2 x 2 x 2; an odd last plane is left out."""
    z, y, x = (n // 2 for n in image.shape)
    blocks = image[: 2 * z, : 2 * y, : 2 * x].reshape(z, 2, y, 2, x, 2)
    return np.asarray(blocks.mean(axis=(1, 3, 5)), np.float64)
