"""Control charts as pure functions: a series of samples in, statistics, limits and signals out.

Everything is in standard units: z = (bias - target) / sigma, where target and sigma [fractions] come from a
period known to be in control. Average run lengths in control, at 0.5 and at 1 sigma: Shewhart 370, 155, 44;
EWMA 497, 40.6, 9.6; CUSUM 469, 38.2, 10.4; any of the three 199, 31.5, 8.9 (all but Shewhart's simulated,
20,000 series, docs/calibration.md). The published figures of EWMA (500, 42, 10.5; sources.md, 8) are for
limits at full width from the start. A chart restarts at a logged recalibration, software update or repair.
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
"""k: half of the shift to detect, in sigma."""
CUSUM_LIMIT: Final = 5.0
"""h, in sigma."""
CLIP: Final = 4.0
"""The most that EWMA and CUSUM count one sample for, in sigma. A wild one (wrong activity, mistyped number)
says no more about the scanner than that, and would keep a chart out of control for dozens of samples. One
moves a settled chart by 0.8 of the 0.99, or by 3.5 of the 5, that signal; two in a row do signal, as in the
rule of Lucas and Crosier's robust CUSUM (Commun. Stat. Theory Methods 1982;11:2669)."""


RESTARTS: Final = ("recalibration", "repair", "software-update")
"""Events that are logged for a site (as the audited action `site.recalibration`) and restart its charts."""

ChartName = Literal["shewhart", "ewma", "cusum"]


@dataclass(frozen=True, eq=False)
class Chart:
    """One chart over a series; arrays have one value per sample, in sigma."""

    name: ChartName
    statistic: Floats
    """What is drawn: z, its moving average, or the larger of the two sums (signed by its side)."""
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


def _clipped(z: ArrayLike) -> Floats:
    return np.asarray(np.clip(np.asarray(z, float), -CLIP, CLIP))


def shewhart(z: ArrayLike, *, limit: float = SHEWHART_LIMIT) -> Chart:
    """Each sample on its own, unclipped, against +- `limit` sigma."""
    z = np.asarray(z, float)
    bound = np.full(z.shape, float(limit))
    return Chart("shewhart", z, bound, -bound, np.abs(z) > limit)


def ewma(
    z: ArrayLike, *, weight: float = EWMA_LAMBDA, limit: float = EWMA_LIMIT, restarts: Sequence[int] = ()
) -> Chart:
    """Exponentially weighted moving average of samples clipped to +- CLIP, with its exact limits
    +- L sqrt(lambda / (2 - lambda) (1 - (1 - lambda)^(2t))); restarts at each index of `restarts`."""
    z = _clipped(z)
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
    """Two-sided cumulative sum of what exceeds `slack`, of samples clipped to +- CLIP; restarts at each index
    of `restarts`."""
    z = _clipped(z)
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
