"""Volumes of uptake and detection of lesions: MTV, TLG, Dice, false volumes, free response (sources.md, 6).

All arrays have axes (z, y, x); PETs are SUV [g/ml].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

NEIGHBOURS: Final = ndimage.generate_binary_structure(3, 2)
"""18-connected, as autoPET has it."""

THRESHOLDS: Final = (2.5, 4.0)
"""SUV [g/ml] from which tissue counts as tumour."""

OF_MAXIMUM: Final = 0.41
"""Share of SUVmax from which tissue counts as tumour (EANM guideline's 41 %)."""

RESPONSE: Final = (2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0)
"""Thresholds [g/ml] at which free-response points are taken."""


@dataclass(frozen=True)
class Tumour:
    """Metabolic tumour volume [ml] and total lesion glycolysis [g]."""

    mtv: float
    tlg: float


def tumour(suv: Array, region: Mask, voxel_ml: float, threshold: float | None = None) -> Tumour:
    """MTV and TLG of `suv` in `region`, at or above `threshold` [g/ml] or 41 % of each lesion's maximum."""
    inside = suv[region]
    if not inside.size:
        return Tumour(0.0, 0.0)
    level = _of_maximum(suv, region) if threshold is None else threshold
    hot = inside[inside >= level]
    volume = hot.size * voxel_ml
    return Tumour(volume, float(hot.mean()) * volume if hot.size else 0.0)


def _of_maximum(suv: Array, region: Mask) -> Array:
    """At each voxel of `region` (n,): 41 % of the maximum [g/ml] of its own 18-connected lesion."""
    labels, count = ndimage.label(region, NEIGHBOURS)
    own = labels[region]
    highest = np.asarray(ndimage.maximum(suv[region], own, np.arange(1, count + 1)), np.float32)
    return np.asarray(OF_MAXIMUM * highest[own - 1], np.float32)


def dice(predicted: Mask, true: Mask) -> float:
    """Dice overlap; NaN if there is nothing to find (autoPET: undefined)."""
    if not true.any():
        return float("nan")
    return 2.0 * float((predicted & true).sum()) / float(predicted.sum() + true.sum())


def false_volumes(predicted: Mask, true: Mask, voxel_ml: float) -> tuple[float, float]:
    """False-positive and false-negative volume [ml]: components without any overlap with the other mask.

    The latter is NaN if there is nothing to find.
    """
    positive = _without_overlap(predicted, true) * voxel_ml
    return positive, _without_overlap(true, predicted) * voxel_ml if true.any() else float("nan")


def _without_overlap(mask: Mask, other: Mask) -> int:
    labels, _ = ndimage.label(mask, NEIGHBOURS)
    sizes = np.bincount(labels.ravel())
    met = np.unique(labels[other])
    sizes[met] = 0
    return int(sizes[1:].sum())


@dataclass(frozen=True)
class Response:
    """What a reader who marks everything above a threshold would find in one patient."""

    threshold: float
    """[g/ml]"""
    found: int
    """Lesions with a mark in them."""
    lesions: int
    false_marks: int
    """Marks, each an 18-connected component, that contain no part of a lesion."""


def responses(
    suv: Array, lesions: Mask, body: Mask, thresholds: tuple[float, ...] = RESPONSE
) -> list[Response]:
    """Free-response points of one patient: lesions found and false marks by threshold.

    Hot normal organs (brain, bladder, heart) are marks too, in a real PET as in a synthetic one.
    """
    labels, count = ndimage.label(lesions & body, NEIGHBOURS)
    points = []
    for threshold in thresholds:
        marks, marked = ndimage.label(body & (suv >= threshold), NEIGHBOURS)
        found = len(set(np.unique(labels[marks > 0])) - {0})
        true_marks = len(set(np.unique(marks[labels > 0])) - {0})
        points.append(Response(threshold, found, count, marked - true_marks))
    return points
