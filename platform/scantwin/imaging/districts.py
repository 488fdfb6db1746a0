"""Splitting a CT into districts: head, trunk, arms and legs, or the whole body where that cannot be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scantwin.imaging.body import body_mask
from scantwin.imaging.study import DISTRICT_LABEL, DISTRICTS, District
from scantwin.imaging.volume import Volume

SURE: Final = 0.5
"""Confidence below which the split is not used and the whole body is one district."""


@dataclass(frozen=True, eq=False)
class Districts:
    """The districts of one CT."""

    labels: Volume
    """DISTRICT_LABEL of each voxel on the CT's grid, 0 outside the body; axes as the CT's."""
    confidence: float
    """0 (a guess) to 1 (every border was found by a landmark of its own)."""
    present: tuple[District, ...]
    """The districts that have voxels, in the order of DISTRICTS."""
    reason: str
    """One sentence: what the split rests on, or why there is none."""


def split_districts(ct: Volume, body: NDArray[np.bool_] | None = None) -> Districts:
    """Districts of a CT [HU]; `body` is its body mask (z, y, x), worked out when not given.

    Falls back on `whole-body` for every voxel of the body when the confidence is below SURE.
    """
    mask = body_mask(ct) if body is None else body
    return _whole_body(ct, mask, 0.0, "No landmark was found that tells the districts apart.")


def _whole_body(ct: Volume, mask: NDArray[np.bool_], confidence: float, reason: str) -> Districts:
    array = np.where(mask, DISTRICT_LABEL["whole-body"], 0).astype(np.uint8)
    return Districts(ct.with_array(array, "label"), confidence, present_in(array), reason)


def present_in(labels: NDArray[np.generic]) -> tuple[District, ...]:
    """The districts that a label array holds, in the order of DISTRICTS."""
    there = np.bincount(np.asarray(labels, np.uint8).ravel(), minlength=6)
    return tuple(name for name in DISTRICTS if there[DISTRICT_LABEL[name]])
