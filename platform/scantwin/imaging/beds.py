"""Bed positions that were stored as separate series: found by their geometry, read one by one, then stitched.

Each bed is first converted to HU or SUV by its own headers (its own times, scale and dose), so that decay is
right for each. Overlaps are blended: a bed weighs less towards its ends, where a scanner has fewest counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scantwin.imaging.dicom_geometry import MIN_PLANES, Plane
from scantwin.imaging.dicom_series import Series
from scantwin.imaging.volume import Volume

MAX_OVERLAP: Final = 0.5
"""Largest share of the shorter bed that may overlap the other: beds overlap by 10 to 50 %, two
reconstructions of one scan completely."""
MAX_STEP: Final = 1.5
"""Largest distance from the last slice of a bed to the first of the next, in slices: more is a gap."""
MAX_APART_S: Final = 7200.0
"""Longest time between two beds of one scan [s]: a late scan of the same patient is a separate one."""
_ALIKE: Final = 0.01
"""A relative difference of voxel sizes, or a distance from the grid in slices, below this is rounding."""
_SHIFT: Final = 0.1
"""A shift of a bed within the slice below this, in voxels, is neglected: beds keep their places there."""
_DRIFT: Final = 0.1
"""How far the last slice of a bed may lie off the grid of the first bed, in slices: a bed is placed there as
a whole, with a single slice step."""


def join_beds(series: Sequence[Series]) -> list[Series]:
    """The series, with the bed positions of one scan joined into one that keeps them as its `Series.beds`."""
    rest = sorted(series, key=lambda s: (s.low, s.uid))
    joined: list[Series] = []
    while rest:
        chain = [rest.pop(0)]
        while (following := next((s for s in rest if _goes_on(chain, s)), None)) is not None:
            chain.append(following)
            rest.remove(following)
        joined.append(chain[0] if len(chain) == 1 else _one(chain))
    return joined


def stitch(beds: Sequence[Volume]) -> Volume:
    """One volume from beds with the same axes and voxels, on the grid of the first, blended in overlaps."""
    if len(beds) == 1:
        return beds[0]
    base = beds[0]
    # Position of each bed's first slice on the grid of the first bed, in slices.
    starts = [float(base.index(np.asarray(bed.origin))[0]) for bed in beds]
    ends = [start + bed.shape[0] - 1 for start, bed in zip(starts, beds, strict=True)]
    first, last = int(np.ceil(min(starts) - _ALIKE)), int(np.floor(max(ends) + _ALIKE))
    total = np.zeros((last - first + 1, *base.shape[1:]), np.float32)
    weight = np.zeros(last - first + 1, np.float32)
    for start, end, bed in zip(starts, ends, beds, strict=True):
        for k in range(max(first, int(np.ceil(start - _ALIKE))), min(last, int(np.floor(end + _ALIKE))) + 1):
            share = np.float32(1.0 + min(k - start, end - k))
            total[k - first] += share * _slice(bed.array, k - start)
            weight[k - first] += share
    # Between beds that are out of step there can be a slice that neither of them covers.
    for k in np.flatnonzero(weight == 0).tolist():
        below, above = total[k - 1] / weight[k - 1], total[k + 1] / weight[k + 1]
        total[k], weight[k] = (below + above) / 2, 1.0
    array = total / weight[:, None, None]
    if base.array.dtype.kind in "iu":
        array = np.rint(array).astype(base.array.dtype)
    origin = base.world((first, 0, 0))
    return replace(base, array=array, origin=(float(origin[0]), float(origin[1]), float(origin[2])))


def _slice(array: NDArray[np.generic], at: float) -> NDArray[np.float32]:
    """The slice at a fractional index, linear between its neighbours."""
    at = float(np.clip(at, 0, len(array) - 1))
    low = min(int(at), len(array) - 2)
    share = np.float32(at - low)
    between = (1 - share) * array[low].astype(np.float32) + share * array[low + 1].astype(np.float32)
    return np.asarray(between, np.float32)


def _goes_on(chain: list[Series], bed: Series) -> bool:
    """Whether `bed` is the next bed of the chain and its slices keep step with those of the first."""
    return _follows(chain[-1], bed) and _in_step(chain[0], bed)


def _in_step(first: Series, bed: Series) -> bool:
    steps = _step(first), _step(bed)
    if min(steps) <= 0:
        return False
    drift = abs(steps[1] - steps[0]) / steps[0] * (bed.high - bed.low) / steps[1]
    return drift < _DRIFT


def _follows(lower: Series, upper: Series) -> bool:
    """Whether `upper` is the next bed above `lower` of the same scan."""
    same = ("modality", "study", "patient", "frame_of_reference", "image_type", "corrected", "kernel",
            "series_type")  # fmt: skip
    if not lower.frame_of_reference or any(getattr(lower, n) != getattr(upper, n) for n in same):
        return False
    if lower.plane is None or upper.plane is None or not _same_grid(lower.plane, upper.plane):
        return False
    if lower.when and upper.when and abs((lower.when - upper.when).total_seconds()) > MAX_APART_S:
        return False
    shorter = min(lower.high - lower.low, upper.high - upper.low)
    overlap = lower.high - upper.low
    return upper.high > lower.high and -MAX_STEP * _step(lower) <= overlap <= MAX_OVERLAP * shorter


def _same_grid(a: Plane, b: Plane) -> bool:
    """Whether size, voxels, direction and position within the slice are the same."""
    if a.shape != b.shape or not np.allclose(a.spacing, b.spacing, rtol=_ALIKE):
        return False
    if not np.allclose(a.orientation, b.orientation, atol=1e-3):
        return False
    away = np.asarray(b.position) - np.asarray(a.position)
    axes = np.asarray(a.orientation).reshape(2, 3)
    return bool(np.abs(axes @ away).max() < _SHIFT * min(a.spacing))


def _step(series: Series) -> float:
    """Mean distance between neighbouring slices [mm], even if some are missing; 0 if there are too few."""
    places = np.unique(np.round(series.heights, 2))
    if len(places) < MIN_PLANES:
        return 0.0
    gaps = np.diff(places)
    return float((places[-1] - places[0]) / np.rint(gaps / np.median(gaps)).sum())


def _one(beds: list[Series]) -> Series:
    first = min(beds, key=lambda s: (s.when is None, s.when, s.uid))
    return replace(
        first,
        uid=min(bed.uid for bed in beds),
        frames=[frame for bed in beds for frame in bed.frames],
        heights=[height for bed in beds for height in bed.heights],
        beds=tuple(beds),
    )
