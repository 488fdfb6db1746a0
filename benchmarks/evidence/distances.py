"""Ratios of Frechet distances, with intervals for the chance in who was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from benchmarks.evidence.findings import Ratio

from scantwin.evaluation.frechet import Gaussian, frechet_distance

_RESAMPLES: Final = 200
"""Each resample costs a hundred times as much as one of means."""
_NOTHING: Final = 1e-12
"""What rounding leaves of the distance between identical sets of slices."""


def distance_over(
    one: Sequence[Gaussian], other: Sequence[Gaussian], true: Sequence[Gaussian]
) -> Ratio | None:
    """The Frechet distance of `one` to `true` over that of `other` to `true`, all given by patient.

    Patients without a slice are left out. None with fewer than two slices, or if `other` has no distance.
    """
    known = [triple for triple in zip(one, other, true, strict=True) if triple[2].count]
    if sum(real.count for *_, real in known) < 2:
        return None

    def distances(times: Sequence[int]) -> tuple[float, float]:
        made, beside, real = (Gaussian.together(parts, times) for parts in zip(*known, strict=True))
        return frechet_distance(made, real), frechet_distance(beside, real)

    above, below = distances([1] * len(known))
    if below <= _NOTHING:
        return None
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(_RESAMPLES):
        whom = random.integers(len(known), size=len(known))
        over, under = distances(np.bincount(whom, minlength=len(known)).tolist())
        drawn.append(over / max(under, _NOTHING))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Ratio(above / below, float(low), float(high), len(known))
