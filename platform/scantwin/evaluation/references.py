"""The simple references that every model is compared with: training mean, training median, HU curve.

They are made from histograms that sites can send and add up: no scans are gathered in one place.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from scantwin.imaging.study import DISTRICTS, District
from scantwin.learning.prepared import PreparedStudy

Reference = Literal["training-mean", "training-median", "hu-curve"]
REFERENCES: Final[tuple[Reference, ...]] = ("training-mean", "training-median", "hu-curve")

Statistics = dict[str, NDArray[np.float64]]

SUV_STEP: Final = 0.02
"""Bin width of the SUV histogram [g/ml]: the median is known to half of it."""
_SUV_BINS: Final = 1001  # 0..20 and one open bin
HU_EDGES: Final = np.concatenate(
    [np.arange(-1024, -200, 50), np.arange(-200, 300, 10), np.arange(300, 1600, 50)]
)
"""Lower edges of the HU curve's bins [HU]: fine over soft tissue, which decides most of the uptake."""


def training_statistics(studies: list[PreparedStudy]) -> Statistics:
    """Additive histograms of the training studies, per district and whole body.

    `suv/<district>` (1001,): voxels per SUV bin; `sum/<district>` (2,): voxels, sum of SUV [g/ml];
    `curve/<district>` (2, HU bins): voxels and sum of SUV [g/ml] per bin of CT number.
    """
    out: Statistics = {}
    for district in DISTRICTS:
        out[f"suv/{district}"] = np.zeros(_SUV_BINS)
        out[f"sum/{district}"] = np.zeros(2)
        out[f"curve/{district}"] = np.zeros((2, len(HU_EDGES)))
    for study in studies:  # each is read only once: together they may be more than memory holds
        if study.suv is None:
            continue
        for district in study.boxes:
            mask = study.mask(district)
            suv, hu = study.suv[mask].astype(np.float64), study.hu[mask]
            bins = np.clip((suv / SUV_STEP).astype(int), 0, _SUV_BINS - 1)
            out[f"suv/{district}"] += np.bincount(bins, minlength=_SUV_BINS)
            out[f"sum/{district}"] += (suv.size, suv.sum())
            if not study.has_ct:
                continue  # the air in its place says nothing about the uptake of a CT number
            of_hu = _hu_bin(hu)
            out[f"curve/{district}"] += [
                np.bincount(of_hu, weights=w, minlength=len(HU_EDGES)) for w in (np.ones_like(suv), suv)
            ]
    return out


def predict_reference(
    reference: Reference, statistics: Statistics, district: District, hu: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    """The SUV [g/ml] that `reference` predicts at CT numbers `hu` [HU], same shape; None without data."""
    count, total = statistics.get(f"sum/{district}", np.zeros(2))
    if count == 0:
        return None
    if reference == "training-mean":
        return np.full(hu.shape, total / count, np.float32)
    if reference == "training-median":
        cumulative = np.cumsum(statistics[f"suv/{district}"])
        middle = int(np.searchsorted(cumulative, cumulative[-1] / 2))
        return np.full(hu.shape, (middle + 0.5) * SUV_STEP, np.float32)
    voxels, sums = statistics[f"curve/{district}"]
    known = np.flatnonzero(voxels)
    if not known.size:
        return None  # PETs without a CT have no curve
    curve = np.interp(np.arange(len(HU_EDGES)), known, sums[known] / voxels[known])
    return np.asarray(curve[_hu_bin(hu)], np.float32)


def _hu_bin(hu: NDArray[np.float32]) -> NDArray[np.intp]:
    return np.clip(np.searchsorted(HU_EDGES, hu, side="right") - 1, 0, len(HU_EDGES) - 1)
