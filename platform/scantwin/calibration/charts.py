"""Control charts as pure functions: a series of samples in, statistics, limits and signals out.

Everything is in standard units: z = (bias - target) / sigma, where target and sigma [fractions] come from a
period known to be in control. Average run lengths that tests hold (METRICS.md): Shewhart 3 sigma 370 in
control, 44 at 1 sigma; EWMA 0.2 / 2.962: 500, 42 at 0.5 sigma, 10.5 at 1 sigma; CUSUM 0.5 / 5: 465, 38, 10.4.
A chart restarts at a logged recalibration, software update or repair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

SHEWHART_LIMIT: Final = 3.0
EWMA_LAMBDA: Final = 0.2
EWMA_LIMIT: Final = 2.962
"""L for an in-control run length of 500 with lambda 0.2."""
CUSUM_SLACK: Final = 0.5
"""k: half of the shift that is to be found, in sigma."""
CUSUM_LIMIT: Final = 5.0
"""h, in sigma."""

RESTARTS: Final = ("recalibration", "repair", "software-update")
"""What is logged of a site (as the audited action `site.recalibration`) and makes its charts start anew."""

ChartName = Literal["shewhart", "ewma", "cusum"]


@dataclass(frozen=True, eq=False)
class Chart:
    """One chart over a series; arrays have one value a sample, in sigma."""

    name: ChartName
    statistic: Floats
    """What is drawn: z, its moving average, or the larger of the two sums (with the side's sign)."""
    upper: Floats
    lower: Floats
    signals: NDArray[np.bool_]
    """Where the statistic is outside its limits."""

    @property
    def first_signal(self) -> int | None:
        """Index of the first signal, or None."""
        hits = np.flatnonzero(self.signals)
        return int(hits[0]) if len(hits) else None


def standardise(values: ArrayLike, target: float, sigma: float) -> Floats:
    """(values - target) / sigma."""
    if not sigma > 0:
        raise ValueError("sigma must be positive")
    return (np.asarray(values, float) - target) / sigma


def shewhart(z: ArrayLike, *, limit: float = SHEWHART_LIMIT) -> Chart:
    """Each sample on its own against +- `limit` sigma."""
    z = np.asarray(z, float)
    bound = np.full(z.shape, float(limit))
    return Chart("shewhart", z, bound, -bound, np.abs(z) > limit)


def ewma(
    z: ArrayLike, *, weight: float = EWMA_LAMBDA, limit: float = EWMA_LIMIT, restarts: Sequence[int] = ()
) -> Chart:
    """Exponentially weighted moving average with its exact limits
    +- L sqrt(lambda / (2 - lambda) (1 - (1 - lambda)^(2t))); begins anew at each index of `restarts`."""
    z = np.asarray(z, float)
    statistic, bound = np.empty_like(z), np.empty_like(z)
    begin, value, age = set(restarts), 0.0, 0
    for k, sample in enumerate(z):
        if k in begin:
            value, age = 0.0, 0
        age += 1
        value = (1 - weight) * value + weight * sample
        statistic[k] = value
        bound[k] = limit * np.sqrt(weight / (2 - weight) * (1 - (1 - weight) ** (2 * age)))
    return Chart("ewma", statistic, bound, -bound, np.abs(statistic) > bound)


def cusum(
    z: ArrayLike, *, slack: float = CUSUM_SLACK, limit: float = CUSUM_LIMIT, restarts: Sequence[int] = ()
) -> Chart:
    """Two-sided cumulative sum of what exceeds `slack`; begins anew at each index of `restarts`."""
    z = np.asarray(z, float)
    high, low = np.empty_like(z), np.empty_like(z)
    begin, up, down = set(restarts), 0.0, 0.0
    for k, sample in enumerate(z):
        if k in begin:
            up = down = 0.0
        up, down = max(0.0, up + sample - slack), max(0.0, down - sample - slack)
        high[k], low[k] = up, down
    bound = np.full(z.shape, float(limit))
    statistic = np.where(high >= low, high, -low)
    return Chart("cusum", statistic, bound, -bound, np.maximum(high, low) > limit)
