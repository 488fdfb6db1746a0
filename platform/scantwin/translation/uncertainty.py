"""The error bar: how far off held-out patients were, by district and predicted uptake.

Sites send, for every district and bin of predicted SUV, the count, sum and sum of squares of (predicted -
true); sums over sites are the consortium's. The error bar of a voxel is the root mean square of what was
seen there. It knows nothing of a patient unlike those measured: the scan's warnings say where that is so.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from scantwin.imaging.study import District

EDGES: Final = np.array([0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 14.0, 20.0])
"""Bins of predicted SUV [g/ml]; the last is open."""

RESIDUAL_SHAPE: Final = (3, len(EDGES))
"""Of a district's sums: count, sum and sum of squares by bin."""

_FEWEST: Final = 200
"""Voxels below which a bin borrows from its neighbour: a root mean square of fewer is mostly noise."""


def residual_sums(predicted: NDArray[np.float32], true: NDArray[np.float32]) -> NDArray[np.float64]:
    """(3, bins): count, sum and sum of squares of predicted - true [g/ml] by bin of predicted SUV."""
    bins = np.clip(np.searchsorted(EDGES, predicted, side="right") - 1, 0, len(EDGES) - 1)
    error = (predicted - true).astype(np.float64)
    return np.stack(
        [np.bincount(bins, weights=w, minlength=len(EDGES)) for w in (np.ones_like(error), error, error**2)]
    )


def key(district: District) -> str:
    """Name of a district's sums among a model's statistics."""
    return f"residual/{district}"


def standard_deviation(
    predicted: NDArray[np.float32], statistics: dict[str, NDArray[np.float64]], district: District
) -> NDArray[np.float32] | None:
    """Error bar [g/ml] of `predicted` [g/ml], same shape; None where the district was never measured."""
    sums = statistics.get(key(district))
    if sums is None or sums[0].sum() < _FEWEST:
        return None
    centres, rms = _table(sums)
    return np.interp(predicted, centres, rms).astype(np.float32)


def _table(sums: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    centres, values = [], []
    count = total = squares = 0.0
    upper = np.append(EDGES[1:], EDGES[-1] + 5.0)
    low = EDGES[0]
    for k in range(len(EDGES)):
        count, total, squares = count + sums[0, k], total + sums[1, k], squares + sums[2, k]
        if count >= _FEWEST:
            centres.append((low + upper[k]) / 2)
            values.append(np.sqrt(squares / count))
            count = total = squares = 0.0
            low = upper[k]
    return np.array(centres), np.array(values)
