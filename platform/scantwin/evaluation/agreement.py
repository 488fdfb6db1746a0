"""Agreement of two measurements of the same things: bias, Bland-Altman limits, Lin's CCC."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_LIMITS: Final = 1.96
"""Bland-Altman limits contain 95 % of normal differences (Lancet 1986;1:307)."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of predicted with true values: all but `n` and `ccc` have the unit of the values."""

    n: int
    bias: float
    """Mean of predicted - true."""
    low: float
    """Lower limit of agreement."""
    high: float
    ccc: float
    """Lin's concordance correlation coefficient (Biometrics 1989;45:255): 1 means identical."""


def agreement(predicted: NDArray[np.float64], true: NDArray[np.float64]) -> Agreement:
    """Agreement of paired values (n,) of one unit; NaN for what does not exist, as the limits of one pair."""
    difference = predicted - true
    bias = float(difference.mean())
    sd = float(difference.std(ddof=1)) if len(difference) > 1 else float("nan")
    spread = float(predicted.var() + true.var() + (predicted.mean() - true.mean()) ** 2)
    covariance = float(((predicted - predicted.mean()) * (true - true.mean())).mean())
    ccc = 2 * covariance / spread if len(difference) > 1 and spread > 0 else float("nan")
    return Agreement(len(difference), bias, bias - _LIMITS * sd, bias + _LIMITS * sd, ccc)


def as_figures(found: Agreement) -> dict[str, float | int | None]:
    """The figures for JSON: one that does not exist is null."""
    return {k: v if np.isfinite(v) else None for k, v in asdict(found).items()}
