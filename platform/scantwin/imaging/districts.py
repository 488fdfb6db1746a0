"""Splits a CT into districts: head, trunk, arms and legs, or the whole body where no split is possible.

- head: above C7/T1, where the neck meets the shoulders, without arms;
- arms: from the axillary fold to the hand, hanging or raised;
- legs: below the crotch;
- trunk: the rest, with the shoulders.

No learned weights: cross-sections, bone, brain and lungs decide. docs/districts.md says how, and how well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scantwin.imaging.body import body_mask
from scantwin.imaging.district_arms import find_arms
from scantwin.imaging.district_evidence import Evidence, weigh
from scantwin.imaging.district_head import head_top
from scantwin.imaging.district_landmarks import Landmarks, find_landmarks
from scantwin.imaging.district_scene import Mask, Scene, look
from scantwin.imaging.district_shoulders import arms_from_shoulder
from scantwin.imaging.resampling import resample_like
from scantwin.imaging.study import DISTRICT_LABEL, DISTRICTS, District
from scantwin.imaging.volume import Volume

SURE: Final = 0.5
"""Confidence below which the split is not used and the whole body is one district."""
HEAD_HALF_MM: Final = 110.0
"""Above C7/T1 the head and neck lie within this distance of the middle [mm]; further out is shoulder."""


@dataclass(frozen=True, eq=False)
class Districts:
    """The districts of one CT."""

    labels: Volume
    """DISTRICT_LABEL of each voxel on the CT's grid, 0 outside the body; axes as the CT's."""
    confidence: float
    """0 (no evidence) to 1 (every slice has a landmark of its own)."""
    present: tuple[District, ...]
    """The districts that have voxels, in the order of DISTRICTS."""
    reason: str
    """One sentence: what the split rests on, or why there is none."""


def split_districts(ct: Volume, body: NDArray[np.bool_] | None = None) -> Districts:
    """Districts of a CT [HU]; `body` is its body mask (z, y, x), computed if not given.

    Falls back on `whole-body` for every voxel of the body when the confidence is below SURE.
    """
    mask = body_mask(ct) if body is None else np.asarray(body, np.bool_)
    upright = ct.canonical()
    standing = _turned(ct, mask)
    seen = look(upright, standing)
    if seen is None:
        return whole_body(ct, mask, 0.0, "There is no body in the CT.")
    scene, coarse = seen
    parts, evidence = split_scene(scene, min(upright.extent_mm[1:]))
    if evidence.confidence < SURE:
        return whole_body(ct, mask, evidence.confidence, evidence.reason)
    blocks = np.zeros(coarse.hu.shape, np.uint8)
    blocks[scene.inside] = parts
    labels = upright.with_array(coarse.expand(_grown(blocks), upright.shape), "label")
    array = np.asarray(labels.array if ct.is_canonical else resample_like(labels, ct, how="nearest").array)
    array = np.where(mask, array, 0).astype(np.uint8)
    return Districts(ct.with_array(array, "label"), evidence.confidence, present_in(array), evidence.reason)


def split_scene(scene: Scene, field_mm: float) -> tuple[NDArray[np.uint8], Evidence]:
    """District labels of a scene's blocks (z, y, x), and what they rest on."""
    everything = find_landmarks(scene, scene.body)
    top = scene.body.shape[0] if everything.brain is None else head_top(scene, everything.brain)
    arms, free = find_arms(scene, top)
    marks = find_landmarks(scene, scene.body & ~arms) if arms.any() else everything
    arms = arms_from_shoulder(scene, arms, free, marks)
    return label_parts(scene, marks, arms), weigh(scene, marks, arms, field_mm)


def label_parts(scene: Scene, marks: Landmarks, arms: Mask) -> NDArray[np.uint8]:
    """Combines the parts into district labels."""
    z = np.arange(scene.body.shape[0])[:, None, None]
    parts = np.full(scene.body.shape, DISTRICT_LABEL["trunk"], np.uint8)
    if marks.crotch is not None:
        parts[: marks.crotch] = DISTRICT_LABEL["legs"]
    if marks.neck is not None:
        head = (z >= marks.neck) & (np.abs(scene.lateral - _head_lateral(scene, marks)) < HEAD_HALF_MM)
        parts[np.broadcast_to(head, parts.shape)] = DISTRICT_LABEL["head"]
    parts[arms] = DISTRICT_LABEL["arms"]
    return np.where(scene.body, parts, 0).astype(np.uint8)


def whole_body(ct: Volume, mask: Mask, confidence: float, reason: str) -> Districts:
    """Every voxel of the body in the one district `whole-body`."""
    array = np.where(mask, DISTRICT_LABEL["whole-body"], 0).astype(np.uint8)
    return Districts(ct.with_array(array, "label"), confidence, present_in(array), reason)


def present_in(labels: NDArray[np.generic]) -> tuple[District, ...]:
    """The districts that a label array holds, in the order of DISTRICTS."""
    there = np.bincount(np.asarray(labels, np.uint8).ravel(), minlength=6)
    return tuple(name for name in DISTRICTS if there[DISTRICT_LABEL[name]])


def _head_lateral(scene: Scene, marks: Landmarks) -> float:
    """Offset of the middle of the head from the middle line [mm]."""
    if marks.brain is None:
        return 0.0
    return float(np.broadcast_to(scene.lateral, marks.brain.shape)[marks.brain].mean())


def _turned(ct: Volume, mask: Mask) -> Mask:
    """The mask in the axes of the canonical CT."""
    if ct.is_canonical:
        return mask
    return np.asarray(ct.with_array(mask.astype(np.uint8), "label").canonical().array, np.bool_)


def _grown(blocks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels extended to the blocks around the body, so that every voxel of the skin has one."""
    near = ndimage.grey_dilation(blocks, size=(3, 3, 3))
    return np.where(blocks > 0, blocks, near).astype(np.uint8)
