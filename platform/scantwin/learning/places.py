"""Voxels to draw a patch around, without listing them: a list takes more memory than an image does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OnSlice = Callable[[int], NDArray[np.bool_]]
"""Maps a slice z to the mask (y, x) of its voxels."""


@dataclass(frozen=True, eq=False)
class Places:
    """Voxels of an image, each as likely to be drawn as any other."""

    on_slice: OnSlice
    up_to: NDArray[np.int64]
    """Number of voxels up to and including each slice (z,)."""

    @classmethod
    def of(cls, on_slice: OnSlice, slices: slice) -> Places:
        """Counts the voxels of `on_slice`; there are none outside `slices`."""
        counts = [np.count_nonzero(on_slice(z)) for z in range(slices.start, slices.stop)]
        return cls(on_slice, np.cumsum([0] * slices.start + counts, dtype=np.int64))

    def __len__(self) -> int:
        return int(self.up_to[-1]) if self.up_to.size else 0

    def draw(self, random: np.random.Generator) -> tuple[int, int, int]:
        """One of the voxels, (z, y, x): the one that `random.choice` would take from the list of all."""
        number = int(random.integers(len(self)))
        z = int(np.searchsorted(self.up_to, number, side="right"))
        inside = self.on_slice(z)
        before = int(self.up_to[z - 1]) if z else 0
        y, x = np.unravel_index(np.flatnonzero(inside)[number - before], inside.shape)
        return z, int(y), int(x)
