"""Large volumes in parts: tiles that see beyond their borders, and windows that overlap.

A convolution reaches only so far. A tile that sees as much around it as the network reaches gives, voxel for
voxel, what the whole volume would have given, so there is no seam to hide. A denoiser reaches further than
one can afford to show it: its windows overlap and are blended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import product

import torch
from torch import Tensor

Box = tuple[slice, slice, slice]
"""A part of a volume (z, y, x)."""


def tiles(shape: tuple[int, ...], edge: int, reach: int) -> Iterator[tuple[Box, Box, Box]]:
    """Tiles of at most `edge` voxels that cover `shape` (z, y, x) once.

    Yields three boxes: what a tile is to give, what it must see (`reach` voxels more, within the volume), and
    where the first lies within the second.
    """
    for start in product(*(range(0, n, edge) for n in shape)):
        core, seen, own = [], [], []
        for first, n in zip(start, shape, strict=True):
            stop = min(first + edge, n)
            low, high = max(first - reach, 0), min(stop + reach, n)
            core.append(slice(first, stop))
            seen.append(slice(low, high))
            own.append(slice(first - low, stop - low))
        yield _box(core), _box(seen), _box(own)


def tile_count(shape: tuple[int, ...], edge: int) -> int:
    """How many tiles `tiles` yields."""
    count = 1
    for n in shape:
        count *= -(-n // edge)
    return count


def windows(shape: tuple[int, ...], largest: tuple[int, int, int], overlap: int) -> list[Box]:
    """Evenly spread windows of at most `largest` (z, y, x) voxels that cover `shape`, `overlap` at least."""
    return [
        _box(box) for box in product(*(_along(n, m, overlap) for n, m in zip(shape, largest, strict=True)))
    ]


def _along(length: int, largest: int, overlap: int) -> list[slice]:
    if length <= largest:
        return [slice(0, length)]
    shared = min(overlap, largest // 2)
    count = -(-(length - largest) // (largest - shared)) + 1
    starts = [round(k * (length - largest) / (count - 1)) for k in range(count)]
    return [slice(start, start + largest) for start in starts]


@lru_cache(maxsize=8)
def blend_weight(shape: tuple[int, ...]) -> Tensor:
    """Weight of each voxel of a window (z, y, x): falls smoothly towards every face, never to zero."""
    z, y, x = (torch.sin(torch.pi * (torch.arange(n) + 0.5) / n) ** 2 + 1e-3 for n in shape)
    return z[:, None, None] * y[None, :, None] * x[None, None, :]


def blended(volume: Tensor, boxes: list[Box], say: Callable[[Box], Tensor]) -> Tensor:
    """The results of `say` for every window, blended into one of the shape of `volume` (B, C, D, H, W)."""
    if len(boxes) == 1:
        return say(boxes[0])
    out, total = torch.zeros_like(volume), torch.zeros(volume.shape[2:], device=volume.device)
    for box in boxes:
        weight = blend_weight(tuple(side.stop - side.start for side in box)).to(volume.device)
        out[(..., *box)] += say(box) * weight
        total[box] += weight
    return out / total


def _box(sides: tuple[slice, ...] | list[slice]) -> Box:
    z, y, x = sides
    return z, y, x
