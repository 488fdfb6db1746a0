"""Sliding windows over a district: air is skipped, overlaps are blended with weights that leave no seam."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from scantwin.imaging.study import District
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.recipe import Recipe
from scantwin.learning.system import System

_BLEND_MM = 10.0
"""SD of the blend across a border of districts [mm]: about two PET resolutions (TISSUES.md, 4)."""

Start = tuple[int, int, int]


def window_starts(mask: NDArray[np.bool_], window: int, overlap: int) -> list[Start]:
    """Starts (z, y, x) of windows that cover every voxel of `mask` (z, y, x); empty windows are left out."""
    if not mask.any():
        return []
    box = ndimage.find_objects(mask.view(np.uint8))[0]
    axes = [_starts_along(side.start, side.stop, window, overlap) for side in box]
    found = []
    for z in axes[0]:
        for y in axes[1]:
            for x in axes[2]:
                part = tuple(slice(max(a, 0), a + window) for a in (z, y, x))
                if mask[part].any():
                    found.append((z, y, x))
    return found


def _starts_along(first: int, stop: int, window: int, overlap: int) -> list[int]:
    length, step = stop - first, window - overlap
    if length <= window:
        return [first - (window - length) // 2]
    count = int(np.ceil((length - window) / step)) + 1
    return [first + round(i * (length - window) / (count - 1)) for i in range(count)]


@lru_cache(maxsize=4)
def blend_weight(window: int) -> NDArray[np.float32]:
    """Weight of each voxel of a window (z, y, x): falls smoothly towards every face, never to zero."""
    edge = np.sin(np.pi * (np.arange(window) + 0.5) / window) ** 2 + 1e-3
    cube = edge[:, None, None] * edge[None, :, None] * edge[None, None, :]
    weight: NDArray[np.float32] = cube.astype(np.float32)
    return weight


def predict_district(
    system: System, study: PreparedStudy, district: District, mask: NDArray[np.bool_]
) -> Iterator[tuple[int, int, NDArray[np.float32], NDArray[np.float32]]]:
    """Predicts `district` over `mask`, window by window.

    Yields (windows done, windows in all, sum of weighted PET [g/ml], sum of weights); the two arrays
    (z, y, x) are the running sums and are the same objects every time.
    """
    rules = system.recipe.sampling
    starts = window_starts(mask, rules.window, rules.overlap)
    total = np.zeros(mask.shape, np.float32)
    weights = np.zeros(mask.shape, np.float32)
    weight = blend_weight(rules.window)
    shape = (rules.window,) * 3
    for number, start in enumerate(starts, 1):
        inputs = torch.from_numpy(study.inputs(district, start, shape))[None]
        pet = system.predict(district, inputs)[0, 0].numpy()
        inside = tuple(
            slice(max(a, 0), min(a + n, m)) for a, n, m in zip(start, shape, mask.shape, strict=True)
        )
        own = tuple(slice(s.start - a, s.stop - a) for s, a in zip(inside, start, strict=True))
        total[inside] += pet[own] * weight[own]
        weights[inside] += weight[own]
        yield number, len(starts), total, weights


def reach(mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> NDArray[np.float32]:
    """How much a district has to say at each voxel (z, y, x): 1 inside, fading to 0 beyond its border."""
    sigma = [_BLEND_MM / s for s in spacing_mm]
    box = ndimage.find_objects(mask.view(np.uint8))[0]
    margin = [int(np.ceil(4 * s)) for s in sigma]
    around = tuple(slice(max(b.start - m, 0), b.stop + m) for b, m in zip(box, margin, strict=True))
    out = np.zeros(mask.shape, np.float32)
    out[around] = ndimage.gaussian_filter(
        mask[around].astype(np.float32), sigma, mode="nearest", truncate=3.0
    )
    return out


def districts_to_scan(study: PreparedStudy, recipe: Recipe) -> dict[District, NDArray[np.bool_]]:
    """Which model covers which voxels (z, y, x): each district its own, `whole-body` what is left."""
    masks: dict[District, NDArray[np.bool_]] = {}
    rest = study.body.copy()
    for district in recipe.districts:
        if district != "whole-body" and district in study.boxes:
            masks[district] = study.mask(district)
            rest &= ~masks[district]
    if rest.any():
        masks["whole-body"] = rest
    return masks
