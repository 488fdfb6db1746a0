"""Blur and resampling in one step, axis by axis: exact for box-shaped voxels seen through a Gaussian."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import ndtr

from scantwin.phantoms.shapes import Array


def axis_weights(
    source: NDArray[np.float64], target: NDArray[np.float64],
    sd: float | NDArray[np.float64], box: float = 0.0,
) -> sparse.csr_matrix:  # fmt: skip
    """Weights (target, source) along one axis [mm]. Source voxels are boxes; each target point sees them
    through a Gaussian of `sd` (one for all, or one per target point) widened by a box of width `box`.

    Outside its grid the source is zero.
    """
    width = float(source[1] - source[0])
    spread = np.maximum(np.broadcast_to(np.asarray(sd, float), target.shape), 1e-3)[:, None]
    edges = np.concatenate([source - width / 2, source[-1:] + width / 2])[None, :] - target[:, None]
    cumulative = _cumulative(edges, spread, box)
    weights = np.diff(cumulative, axis=1)
    weights[weights < 1e-6] = 0.0
    return sparse.csr_matrix(weights.astype(np.float32))


def _cumulative(u: NDArray[np.float64], sd: NDArray[np.float64], box: float) -> NDArray[np.float64]:
    """Cumulative distribution of a Gaussian convolved with a box of width `box`."""
    if box <= 0:
        return np.asarray(ndtr(u / sd), float)

    def ramp(v: NDArray[np.float64]) -> NDArray[np.float64]:
        t = v / sd
        return np.asarray(v * ndtr(t) + sd * np.exp(-0.5 * t * t) / np.sqrt(2 * np.pi), float)

    return np.asarray((ramp(u + box / 2) - ramp(u - box / 2)) / box, float)


def apply(array: Array, weights: tuple[sparse.csr_matrix, sparse.csr_matrix, sparse.csr_matrix]) -> Array:
    """`array` (z, y, x) after applying the weights of the axes z, y, x."""
    for axis in (0, 1, 2):
        moved = np.moveaxis(array, axis, 0)
        flat = np.ascontiguousarray(moved).reshape(moved.shape[0], -1)
        result = weights[axis] @ flat
        array = np.moveaxis(result.reshape(-1, *moved.shape[1:]), 0, axis)
    return np.ascontiguousarray(array, np.float32)
