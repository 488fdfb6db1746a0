"""Noise shared by overlapping windows: one field for the whole grid, drawn once and cut by each window."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor


class NoiseField:
    """Standard normal fields (samples, 1, z, y, x) over a grid and `margin` voxels around it.

    The same `key` gives the same field, whatever was drawn before.
    """

    def __init__(self, samples: int, shape: tuple[int, ...], margin: int, key: tuple[int | str, ...]) -> None:
        seed = zlib.crc32(":".join(map(str, key)).encode())
        wide = [n + 2 * margin for n in shape]
        drawn = [
            torch.randn(1, *wide, generator=torch.Generator().manual_seed((seed << 8) + sample))
            for sample in range(samples)
        ]
        self._field = torch.stack(drawn)
        self._margin = margin

    def cut(self, start: tuple[int, int, int], size: tuple[int, int, int]) -> Tensor:
        """The field in the window [start, start + size) of the grid: (samples, 1, *size)."""
        z, y, x = (slice(a + self._margin, a + self._margin + n) for a, n in zip(start, size, strict=True))
        return self._field[:, :, z, y, x]
