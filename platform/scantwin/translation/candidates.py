"""Lesion candidates: where a synthetic PET is hot enough, and nothing more clever than that.

Connected regions at or above a fixed SUV and of at least a smallest volume. SUV 4 was the most robust fixed
threshold for lymphoma (Barrington et al., J Nucl Med 2021, doi 10.2967/jnumed.119.238923), and 0.5 ml is
about the smallest sphere (10 mm) that a PET shows at all. Brain, heart, kidneys and bladder take up FDG in
health; this rule cannot distinguish them from lesions, and every output of it says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy import ndimage

from scantwin import NOTICE
from scantwin.imaging.volume import Volume

THRESHOLD_SUV: Final = 4.0
"""SUV [g/ml] at and above which a voxel counts."""
MIN_ML: Final = 0.5
"""Smallest volume of a candidate [ml]."""
MOST: Final = 200
"""Candidates to keep, largest first: if there are more, the rule does not suit this image."""


@dataclass(frozen=True)
class Candidate:
    """One hot region."""

    label: int
    volume_ml: float
    suv_max: float
    suv_mean: float
    centre_mm: tuple[float, float, float]
    """World point (x, y, z), LPS [mm], of its centre of mass."""

    def as_json(self) -> dict[str, Any]:
        """For manifests."""
        return {
            "label": self.label, "volume_ml": round(self.volume_ml, 3), "suv_max": round(self.suv_max, 3),
            "suv_mean": round(self.suv_mean, 3), "centre_xyz_mm": [round(v, 2) for v in self.centre_mm],
        }  # fmt: skip


@dataclass(frozen=True)
class Candidates:
    """All hot regions of one PET."""

    labels: Volume
    """0 outside, 1.. the candidates in order of volume, on the PET's grid (uint8)."""
    found: tuple[Candidate, ...]
    left_out: int
    """Regions beyond the `MOST` largest."""
    rule: str
    """What was done and what it cannot do, for people."""


def lesion_candidates(pet: Volume, *, threshold: float = THRESHOLD_SUV, min_ml: float = MIN_ML) -> Candidates:
    """The regions of `pet` [g/ml] at or above `threshold` [g/ml] of at least `min_ml` [ml], largest first.

    Voxels that touch by a face, an edge or a corner belong together.
    """
    values = np.nan_to_num(np.asarray(pet.array, dtype=np.float64))
    regions, _ = ndimage.label(values >= threshold, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(regions.ravel())[1:]
    # A region of exactly 0.5 ml counts even if rounding of the voxel size moves it by 1e-9.
    large = np.flatnonzero(sizes * pet.voxel_ml >= min_ml * (1 - 1e-9)) + 1
    order = sorted(large, key=lambda k: (-int(sizes[k - 1]), int(k)))
    kept = order[:MOST]
    lookup = np.zeros(len(sizes) + 1, np.uint8)
    lookup[kept] = np.arange(1, len(kept) + 1)
    labels = lookup[regions]
    found = tuple(_measure(pet, values, labels, n) for n in range(1, len(kept) + 1))
    rule = (
        f"Connected regions of the synthetic PET with SUV {threshold:g} or more and {min_ml:g} ml or more. "
        f"Healthy uptake (brain, heart, kidneys, bladder) is not told apart. {NOTICE}."
    )
    return Candidates(Volume(labels, pet.spacing, pet.origin, pet.direction, "label"), found,
                      len(order) - len(kept), rule)  # fmt: skip


def _measure(pet: Volume, values: Any, labels: Any, number: int) -> Candidate:
    where = np.argwhere(labels == number)
    inside = values[labels == number]
    x, y, z = (float(v) for v in pet.world(where.mean(axis=0)))
    return Candidate(number, len(where) * pet.voxel_ml, float(inside.max()), float(inside.mean()), (x, y, z))
