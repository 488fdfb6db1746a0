"""Windows over a district: air is skipped, and overlaps are blended with weights that leave no seam."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from scantwin.imaging.study import District
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.recipe import Recipe
from scantwin.learning.system import Translator
from scantwin.translation.noise import NoiseField

_BLEND_MM: Final = 10.0
"""SD of the blend across a border between districts [mm]: about two PET resolutions (sources.md, 4)."""

_LOW: Final = 0.3
"""Height of low windows, as a share of the largest: for whole bodies at 5 mm 0.7 of the voxels remain (four
phantom patients; offering heights of 0.4 and 0.6 as well left no fewer)."""

_EDGE_WEIGHT: Final = 1e-3
"""Weight of a window's face relative to its middle."""
_LEAST_WEIGHT: Final = 1e-3 * _EDGE_WEIGHT**3

_TOUCHING: Final = ndimage.generate_binary_structure(3, 3)

Window = tuple[slice, slice, slice]
"""A part of the working grid (z, y, x); it may reach beyond the grid, into air."""


def windows_over(mask: NDArray[np.bool_], largest: int, overlap: int, multiple: int) -> list[Window]:
    """Windows that cover every voxel of `mask` (z, y, x).

    Each connected part gets windows of its own, as large as `largest` [voxels] allows, or lower ones if those
    hold less air: each leg by itself, a slanting arm in steps. Edges are divisible by `multiple`.
    """
    if not mask.any():
        return []
    (around,) = ndimage.find_objects(mask.view(np.uint8))  # most of a grid is air
    parts, _ = ndimage.label(mask[around], _TOUCHING)
    low = int(largest * _LOW)
    heights = (largest, low) if low > 2 * overlap else (largest,)
    windows: list[Window] = []
    for number, box in enumerate(ndimage.find_objects(parts), 1):
        part = parts[box] == number
        corner = tuple(outer.start + side.start for outer, side in zip(around, box, strict=True))
        ways = [list(_in_slabs(part, corner, height, largest, overlap, multiple)) for height in heights]
        windows += [window for window in min(ways, key=_voxels) if _touches(mask, window)]
    return windows


def _in_slabs(
    part: NDArray[np.bool_], corner: tuple[int, ...], height: int, largest: int, overlap: int, multiple: int
) -> Iterator[Window]:
    """Windows over the pieces that slabs of `height` cut from `part`, which begins at `corner`."""
    for slab in _along(0, len(part), height, overlap, 1):
        pieces = part.view(np.uint8) if len(part) <= height else ndimage.label(part[slab], _TOUCHING)[0]
        begins = (corner[0] + slab.start, *corner[1:])
        for piece in ndimage.find_objects(pieces):
            yield from product(*(
                _along(begin + side.start, begin + side.stop, largest, overlap, multiple)
                for begin, side in zip(begins, piece, strict=True)
            ))  # fmt: skip


def _voxels(windows: list[Window]) -> int:
    return sum((z.stop - z.start) * (y.stop - y.start) * (x.stop - x.start) for z, y, x in windows)


def _along(first: int, stop: int, largest: int, overlap: int, multiple: int) -> list[slice]:
    length = stop - first
    if length <= largest:
        edge = -(-length // multiple) * multiple
        start = first - (edge - length) // 2
        return [slice(start, start + edge)]
    count = int(np.ceil((length - largest) / (largest - overlap))) + 1
    starts = [first + round(i * (length - largest) / (count - 1)) for i in range(count)]
    return [slice(start, start + largest) for start in starts]


def _touches(mask: NDArray[np.bool_], window: Window) -> bool:
    return bool(mask[_inside(window, mask.shape)].any())


def _inside(window: Window, shape: tuple[int, ...]) -> Window:
    z, y, x = (slice(max(w.start, 0), min(w.stop, n)) for w, n in zip(window, shape, strict=True))
    return z, y, x


@lru_cache(maxsize=8)
def blend_weight(shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Weight of each voxel of a window (z, y, x): falls smoothly towards every face, never to zero."""
    z, y, x = (np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 + _EDGE_WEIGHT for n in shape)
    weight: NDArray[np.float32] = (z[:, None, None] * y[None, :, None] * x[None, None, :]).astype(np.float32)
    return weight


@dataclass(eq=False)
class Sums:
    """Running weighted sums over the windows of a district, axes (z, y, x)."""

    weights: NDArray[np.float32]
    pet: NDArray[np.float32]
    """PET [g/ml] times weight."""
    spread: NDArray[np.float32] | None
    """Standard deviation of samples [g/ml] times weight; None for a system that draws none."""

    def mean(self, sums: NDArray[np.float32]) -> NDArray[np.float32]:
        """Weighted mean of one of the sums; 0 where there was no window."""
        # A window's corner weighs a thousandth in each of three directions, and a limb may fill it.
        return (sums / np.maximum(self.weights, _LEAST_WEIGHT)).astype(np.float32)


def predict_district(
    system: Translator, study: PreparedStudy, district: District, mask: NDArray[np.bool_], seed: int = 0
) -> Iterator[tuple[int, int, Sums]]:
    """Predicts `district` over `mask`, window by window.

    Yields (windows done, windows in all, the running sums); the sums are the same object every time.
    """
    rules, shape = system.recipe.sampling, mask.shape
    multiple = 2 ** (len(system.recipe.network.channels) - 1)
    windows = windows_over(mask, rules.window, rules.overlap, multiple)
    field = NoiseField(system.samples, shape, multiple, (seed, district)) if system.samples else None
    spread = np.zeros(shape, np.float32) if field else None
    sums = Sums(np.zeros(shape, np.float32), np.zeros(shape, np.float32), spread)
    for number, window in enumerate(windows, 1):
        z, y, x = window
        start, size = (z.start, y.start, x.start), (z.stop - z.start, y.stop - y.start, x.stop - x.start)
        inputs = torch.from_numpy(study.inputs(district, start, size))[None].to(system.device)
        noise = field.cut(start, size).to(system.device) if field else None
        said = system.predict(district, inputs, noise)
        inside = _inside(window, shape)
        own = tuple(slice(s.start - a, s.stop - a) for s, a in zip(inside, start, strict=True))
        weight = blend_weight(size)[own]
        sums.weights[inside] += weight
        sums.pet[inside] += said.pet[0, 0].cpu().numpy()[own] * weight
        if sums.spread is not None and said.std is not None:
            sums.spread[inside] += said.std[0, 0].cpu().numpy()[own] * weight
        yield number, len(windows), sums


def reach(mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> NDArray[np.float32]:
    """How much say a district has at each voxel (z, y, x): 1 inside, fading to 0 beyond its border."""
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
    """Which district covers which voxels (z, y, x): each its own, `whole-body` what is left.

    A recipe with some districts but not `whole-body` leaves out the rest of a body that has one of them.
    """
    masks: dict[District, NDArray[np.bool_]] = {}
    rest = study.body.copy()
    for district in recipe.districts:
        if district != "whole-body" and district in study.boxes:
            masks[district] = study.mask(district)
            rest &= ~masks[district]
    if rest.any() and ("whole-body" in recipe.districts or not masks):
        masks["whole-body"] = rest
    return masks
