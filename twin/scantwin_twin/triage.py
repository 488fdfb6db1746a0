"""A first look at a scan, for the person who reads the PET.

A PET made from a CT shows what the model has learnt to expect from such a CT. Whether a lesion of this
patient takes up FDG is not in the CT, so the answer is "cannot tell" until a model's record shows, on
studies held out from training, that it can. Instead, it says what a reader should know about this one scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scantwin.imaging.volume import Volume

CANNOT_TELL: Final = "cannot tell"

WIDE: Final = 0.5
"""A voxel is uncertain when its standard deviation is more than half of its SUV."""

LOWEST_SUV: Final = 0.5
"""[g/ml] Nothing is read from a PET below this, so the uncertainty there is not counted."""


@dataclass(frozen=True)
class Triage:
    """The answer and the reasons for it, each one sentence."""

    answer: str
    reasons: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """As the scan's summary keeps it."""
        return {"answer": self.answer, "reasons": list(self.reasons)}


def triage(pet: Volume, std: Volume, *, warnings: Sequence[str], districts: int) -> Triage:
    """What can be said about a scan.

    `pet`, `std`: SUV and its standard deviation [g/ml] on one grid; NaN where the error was never measured.
    `warnings`: the scan's. `districts`: how many were found in the CT.
    """
    reasons = [
        "The model was not shown to find lesions: its PET is what such a CT lets expect, not measured."
    ]
    suv, error = np.asarray(pet.array, np.float32), np.asarray(std.array, np.float32)
    seen = suv > LOWEST_SUV
    above = f"of the voxels above SUV {LOWEST_SUV:g}"
    if not seen.any():
        reasons.append(f"No voxel is above SUV {LOWEST_SUV:g}: the PET is empty.")
    else:
        unknown = np.isnan(error[seen])
        wide = error[seen] > WIDE * suv[seen]  # False where unknown
        if unknown.any():
            reasons.append(f"The error of {_share(unknown)} {above} was never measured.")
        if wide.any():
            reasons.append(f"The error bar of {_share(wide)} {above} is more than half of the SUV.")
    if districts == 0:
        reasons.append("No part of a body was found in the CT.")
    if warnings:
        reasons.append(f"The scan carries {len(warnings)} warning(s): read them first.")
    return Triage(CANNOT_TELL, tuple(reasons))


def _share(of: NDArray[np.bool_]) -> str:
    share = float(np.mean(of))
    return f"{share:.0%}" if share >= 0.005 else "less than 1%"
