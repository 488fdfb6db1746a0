"""The error bar: how far off held-out patients were, by district, predicted uptake and samples' spread.

Sites send additive sums, which add up to the consortium's. For every district and bin of predicted SUV these
are: count, sum and sum of squares of (predicted - true), and a histogram of |predicted - true| in units of a
first guess, which is wide where uptake is high and where a system's own samples disagree. The error bar is
that guess, scaled so that 80 % of the held-out voxels lay within 1.28 of it, as a normal deviate would:
errors of PET have long tails, and a root mean square would give intervals that are too wide. It knows nothing
of a patient unlike those measured: the scan's warnings say where that is so.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from scantwin.imaging.study import District

Array = NDArray[np.float32]

EDGES: Final = np.array([0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 14.0, 20.0])
"""Bins of predicted SUV [g/ml]; the last is open."""

RESIDUAL_SHAPE: Final = (3, len(EDGES))
"""Shape of a district's sums: count, sum and sum of squares by bin."""

INTERVAL: Final = 0.80
"""Share of voxels that the stated interval is to contain."""

DEVIATES: Final = 1.2816
"""Half the width of that interval in standard deviations of a normal distribution."""

_RATIO_EDGES: Final = np.geomspace(0.02, 50.0, 79)
"""Edges of the histogram of |error| / guess; it has one more bin below them and one above."""

RATIO_SHAPE: Final = (len(EDGES), len(_RATIO_EDGES) + 1)
"""Shape of a district's histograms of |error| / guess by bin."""

_FLOOR: Final = 0.1
"""The first guess [g/ml] at SUV 0 without any spread."""
_GROWTH: Final = 0.25
"""How the first guess grows with uptake; the calibration corrects both, bin by bin."""

_FEWEST: Final = 200
"""Voxels below which a bin is joined with its neighbour: a figure from fewer is mostly noise."""


def residual_sums(predicted: Array, true: Array) -> NDArray[np.float64]:
    """(3, bins): count, sum and sum of squares of predicted - true [g/ml] by bin of predicted SUV."""
    bins = _bins(predicted)
    error = (predicted - true).astype(np.float64)
    sums = [
        np.bincount(bins, weights=w, minlength=len(EDGES)) for w in (np.ones_like(error), error, error**2)
    ]
    return np.asarray(sums, np.float64)


def ratio_counts(predicted: Array, true: Array, spread: Array | None = None) -> NDArray[np.float64]:
    """RATIO_SHAPE: voxels by bin of predicted SUV and of |predicted - true| / first guess."""
    ratio = np.abs(predicted - true) / _guess(predicted, spread)
    cells = _bins(predicted) * RATIO_SHAPE[1] + np.searchsorted(_RATIO_EDGES, ratio)
    counts = np.bincount(cells.ravel(), minlength=RATIO_SHAPE[0] * RATIO_SHAPE[1])
    return np.asarray(counts.reshape(RATIO_SHAPE), np.float64)


def key(district: District) -> str:
    """Name of a district's sums among a model's statistics."""
    return f"residual/{district}"


def ratio_key(district: District) -> str:
    """Name of a district's histograms among a model's statistics."""
    return f"ratio/{district}"


def standard_deviation(
    predicted: Array,
    statistics: dict[str, NDArray[np.float64]],
    district: District,
    spread: Array | None = None,
) -> Array | None:
    """Error bar [g/ml] of `predicted` [g/ml], same shape; None if the district was never measured.

    `spread` is the standard deviation of the system's samples [g/ml], if it draws any. A model measured
    without histograms gets the root mean square of its residuals instead.
    """
    counts = statistics.get(ratio_key(district))
    if counts is not None and counts.sum() >= _FEWEST:
        centres, scales = _scales(counts)
        factor = np.interp(predicted, centres, scales).astype(np.float32)
        bar: Array = (_guess(predicted, spread) * factor).astype(np.float32)
        return bar
    sums = statistics.get(key(district))
    if sums is None or sums[0].sum() < _FEWEST:
        return None
    groups = _groups(sums[0])
    centres = np.array([_middle(group) for group in groups])
    rms = [np.sqrt(sums[2, group].sum() / sums[0, group].sum()) for group in groups]
    return np.asarray(np.interp(predicted, centres, rms), np.float32)


def _guess(predicted: Array, spread: Array | None) -> Array:
    base = np.float32(_FLOOR) + np.float32(_GROWTH) * predicted
    return np.asarray(base if spread is None else np.sqrt(base**2 + spread**2), np.float32)


def _scales(counts: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Factors on the first guess by uptake, and those uptakes first: the histogram's 80 % point / 1.28."""
    groups = _groups(counts.sum(axis=1))
    edges = np.concatenate([[0.0], _RATIO_EDGES, [2 * _RATIO_EDGES[-1]]])
    scales = []
    for group in groups:
        cumulative = np.concatenate([[0.0], np.cumsum(counts[group].sum(axis=0))])
        scales.append(float(np.interp(INTERVAL * cumulative[-1], cumulative, edges)) / DEVIATES)
    return np.array([_middle(group) for group in groups]), np.array(scales)


def _groups(counts: NDArray[np.float64]) -> list[slice]:
    """Neighbouring bins joined until each group has enough voxels; too few at the end are left out."""
    groups: list[slice] = []
    first = 0
    for k in range(len(counts)):
        if counts[first : k + 1].sum() >= _FEWEST:
            groups.append(slice(first, k + 1))
            first = k + 1
    return groups


def _middle(group: slice) -> float:
    upper = np.append(EDGES[1:], EDGES[-1] + 5.0)
    return float(EDGES[group.start] + upper[group.stop - 1]) / 2


def _bins(predicted: Array) -> NDArray[np.intp]:
    return np.clip(np.searchsorted(EDGES, predicted, side="right") - 1, 0, len(EDGES) - 1)
