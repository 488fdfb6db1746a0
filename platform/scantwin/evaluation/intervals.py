"""Whether stated intervals hold the truth as often as they claim: in body and lesions, organ means, by SD."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scantwin.evaluation.held_out import Case
from scantwin.evaluation.tally import spread
from scantwin.translation.uncertainty import DEVIATES, INTERVAL
from scantwin.units import SUV_RANGE

SIGMAS: Final = np.array([0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2])
"""Lower edges of the bins of the stated SD [g/ml]; the last bin is open."""


class Intervals:
    """Intervals of 80 % around a model's prediction, gathered patient by patient.

    The truth is clipped to the declared range, as it was when the error bar was measured.
    """

    def __init__(self) -> None:
        self.voxels: list[float] = []
        """Per patient with a stated SD: share of the body's voxels whose true SUV lies in the interval."""
        self.lesions: list[float] = []
        """The same of the lesions' voxels, per patient who has any: they are what a reader looks for, and too
        few to move the body's share."""
        self.organs: list[float] = []
        """Per patient with such organs: share of them whose true mean lies in an interval around the
        predicted mean, as wide as those of its voxels: an organ's error is common to all of it."""
        self.by_sigma = np.zeros((3, len(SIGMAS)))
        """By bin of the stated SD (`SIGMAS`): voxels, sum of squared errors, voxels inside the interval."""

    def add(
        self,
        predicted: NDArray[np.float32],
        std: NDArray[np.float32],
        case: Case,
        organs: dict[str, NDArray[np.bool_]],
    ) -> None:
        """Adds a patient: PET and its stated SD [g/ml], NaN where unknown; organs. Axes (z, y, x)."""
        error = predicted - np.clip(case.true, *SUV_RANGE)
        known = case.body & np.isfinite(std)
        off, sd = np.abs(error[known]), std[known]
        if off.size:
            inside = off <= DEVIATES * sd
            self.voxels.append(float(inside.mean()))
            if (lesions := case.lesions_in_body[known]).any():
                self.lesions.append(float(inside[lesions].mean()))
            bins = np.searchsorted(SIGMAS, sd, side="right") - 1
            for place, values in enumerate((np.ones_like(off), off**2, inside)):
                self.by_sigma[place] += np.bincount(bins, values, len(SIGMAS))
        held = [
            abs(float(error[mask].mean())) <= DEVIATES * float(std[mask].mean())
            for mask in organs.values()
            if known[mask].all()
        ]
        if held:
            self.organs.append(float(np.mean(held)))

    def report(self) -> dict[str, Any]:
        """Shares inside with SD over patients, None if nothing was stated; errors by the stated SD."""
        return {
            "interval": INTERVAL,
            "n": len(self.voxels),
            "coverage": spread(self.voxels) if self.voxels else None,
            "lesions": spread(self.lesions) if self.lesions else None,
            "organ_means": spread(self.organs) if self.organs else None,
            "by_stated_sd": [
                {
                    "from": float(low),
                    "voxels": int(voxels),
                    "rmse": float(np.sqrt(squares / voxels)),
                    "inside": float(inside / voxels),
                }
                for low, (voxels, squares, inside) in zip(SIGMAS, self.by_sigma.T, strict=True)
                if voxels
            ],
        }
