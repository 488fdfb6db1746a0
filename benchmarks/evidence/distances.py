"""Frechet distances over others, with what chance of who was measured does to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from benchmarks.evidence.findings import Ratio

from scantwin.evaluation.frechet import Gaussian, frechet_distance

_RESAMPLES: Final = 200
"""A hundred times dearer than those of means."""


def distance_over(
    one: Sequence[Gaussian], other: Sequence[Gaussian], true: Sequence[Gaussian]
) -> Ratio | None:
    """The Frechet distance of `one` to `true` over that of `other`, all given patient by patient.

    None where there are no two slices, or no distance of `other`.
    """

    def distance(made: Sequence[Gaussian], times: Sequence[int]) -> float:
        return frechet_distance(Gaussian.together(made, times), Gaussian.together(true, times))

    def ratio(times: Sequence[int]) -> float:
        return distance(one, times) / max(distance(other, times), 1e-12)

    once = [1] * len(true)
    if sum(part.count for part in true) < 2 or distance(other, once) <= 0:
        return None
    random = np.random.default_rng(0)
    drawn = [
        ratio(np.bincount(random.integers(len(true), size=len(true)), minlength=len(true)).tolist())
        for _ in range(_RESAMPLES if len(true) > 1 else 1)
    ]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Ratio(ratio(once), float(low), float(high), len(true))
