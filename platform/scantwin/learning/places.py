"""Voxels to draw a patch around, without a list of them: a list takes more memory than an image does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OnSlice = Callable[[int], NDArray[np.bool_]]
"""Which voxels of a slice: z -> (y, x)."""


@dataclass(frozen=True, eq=False)
class Places:
    """Voxels of an image, any of which is drawn as likely as any other."""

    on_slice: OnSlice
    up_to: NDArray[np.int64]
    """How many there are up to and with each slice (z,)."""

    @classmethod
    def of(cls, on_slice: OnSlice, slices: slice) -> Places:
        """The voxels of `on_slice`, which are counted here; there are none beyond `slices`."""
        counts = [np.count_nonzero(on_slice(z)) for z in range(slices.start, slices.stop)]
        return cls(on_slice, np.cumsum([0] * slices.start + counts, dtype=np.int64))

    def __len__(self) -> int:
        return int(self.up_to[-1]) if self.up_to.size else 0

    def draw(self, random: np.random.Generator) -> tuple[int, int, int]:
        """One of them, (z, y, x): the one that `random.choice` would take of the list of all."""
        number = int(random.integers(len(self)))
        z = int(np.searchsorted(self.up_to, number, side="right"))
        inside = self.on_slice(z)
        before = int(self.up_to[z - 1]) if z else 0
        y, x = np.unravel_index(np.flatnonzero(inside)[number - before], inside.shape)
        return z, int(y), int(x)
