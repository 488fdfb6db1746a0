"""Judging made CTs as a set: which regions they have, whether they follow a mask, whether they are copies.

Regions come from CT numbers alone, by the same rules for real and made CTs, so that no network trained on one
of them has a say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from scantwin.imaging.body import body_mask
from scantwin.imaging.organs import ORGAN_CLASSES, ORGAN_LABEL, OrganClass, classes_of_ct
from scantwin.imaging.volume import Volume

TOLD: Final[tuple[OrganClass, ...]] = ("lung", "bone", "fat", "soft-tissue")
"""Classes that CT numbers tell apart; `soft-tissue` is all that is neither one of the others nor gas."""

_SMALL: Final = (48, 12, 16)
"""Voxels (z, y, x) of the small copies that are compared: some 40 mm each in a whole body."""
_SOFT_HU: Final = (-160.0, 240.0)
"""CT numbers are clipped to this before comparing: lungs and bones must not drown out the rest."""


def told_regions(ct: Volume) -> dict[str, NDArray[np.bool_]]:
    """Masks (z, y, x) of the body and of the regions that its CT numbers [HU] tell apart."""
    body = np.asarray(body_mask(ct), np.bool_)
    return {"body": body, **_by_class(classes_of_ct(np.asarray(ct.array, np.float32), body, ct.spacing))}


def mask_regions(classes: NDArray[np.uint8]) -> dict[str, NDArray[np.bool_]]:
    """The same regions of a mask of organ classes: what CT numbers cannot tell apart is soft tissue."""
    merged = classes.copy()
    known = [ORGAN_LABEL[name] for name in (*TOLD, "gas")]
    merged[(classes > 0) & ~np.isin(classes, known)] = ORGAN_LABEL["soft-tissue"]
    return {"body": classes > 0, **_by_class(merged)}


def _by_class(classes: NDArray[np.uint8]) -> dict[str, NDArray[np.bool_]]:
    return {name: np.asarray(classes == ORGAN_LABEL[name], np.bool_) for name in TOLD}


def dice(one: NDArray[np.bool_], two: NDArray[np.bool_]) -> float:
    """2 |one and two| / (|one| + |two|); NaN where both are empty."""
    total = int(one.sum()) + int(two.sum())
    return 2.0 * int((one & two).sum()) / total if total else float("nan")


def litres(regions: dict[str, NDArray[np.bool_]], voxel_ml: float) -> dict[str, float]:
    """Volume of each region [l]."""
    return {name: float(mask.sum()) * voxel_ml / 1000.0 for name, mask in regions.items()}


def organ_means(hu: NDArray[np.generic], classes: NDArray[np.uint8]) -> dict[str, float]:
    """Mean CT number [HU] inside each organ class that a mask contains."""
    image = np.asarray(hu, np.float32)
    present = [name for name in ORGAN_CLASSES if (classes == ORGAN_LABEL[name]).any()]
    return {name: float(image[classes == ORGAN_LABEL[name]].mean()) for name in present}


def small_copy(hu: NDArray[np.generic], body: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A body's CT [HU], cropped to its bounding box, resized to one small shape and clipped to soft tissue.

    Size and place no longer count: what remains is the anatomy, by which patients are compared.
    """
    occupied = np.argwhere(body) if body.any() else np.array([[0, 0, 0], np.array(body.shape) - 1])
    box = tuple(slice(int(a), int(b) + 1) for a, b in zip(occupied.min(0), occupied.max(0), strict=True))
    inside = np.where(body, np.clip(np.asarray(hu, np.float32), *_SOFT_HU), np.float32(_SOFT_HU[0]))[box]
    small = F.adaptive_avg_pool3d(torch.from_numpy(np.ascontiguousarray(inside))[None, None], _SMALL)
    return np.asarray(small[0, 0].numpy(), np.float32)


def nearest(one: NDArray[np.float32], others: Sequence[NDArray[np.float32]]) -> float:
    """Mean absolute difference [HU], in tissue, between a small copy and the most similar of `others`."""
    return min(_difference(one, other) for other in others)


def _difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    tissue = np.maximum(one, other) > _SOFT_HU[0] + 1.0
    return float(np.abs(one - other)[tissue].mean()) if tissue.any() else 0.0
