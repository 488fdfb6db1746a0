"""The field of view of a volume: its voxels, padded to what the networks need, and the position of each.

A denoiser that does not know where top and bottom are makes bodies without a head. It is told the distances
to the ends of the field of view in mm, not as fractions, whatever the field's length and voxel size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scantwin.errors import InputError
from scantwin.generation.autoencoder import DOWN
from scantwin.imaging.limits import MAX_VOXEL_BYTES
from scantwin.imaging.organs import ORGAN_CLASSES

PLACE: Final = ("below-top", "above-bottom", "back", "left")
"""Place channels, in order."""

_ALONG_MM: Final = 500.0
"""Distance to the top and bottom that is 1 in their channels [mm]: about half of head and trunk."""
ACROSS_MM: Final = 200.0
"""Distance from the middle that is 1 in the channels `back` and `left` [mm]: about half a trunk's width."""

_MOST_VOXELS: Final = MAX_VOXEL_BYTES // 4
"""Most voxels of a made volume: readers count 4 bytes for each (imaging.nifti)."""


@dataclass(frozen=True)
class Field:
    """A field of view: the voxels (z, y, x) asked for, and the larger padded ones the networks work on."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    padded: tuple[int, int, int]

    @classmethod
    def of(cls, shape: tuple[int, ...], spacing_mm: tuple[float, float, float]) -> Field:
        """`shape` padded on both sides so that its edges are divisible by 4, the voxels per latent voxel."""
        z, y, x = shape
        a, b, c = (-(-n // DOWN) * DOWN for n in shape)
        return cls((z, y, x), spacing_mm, (a, b, c))

    @property
    def latent(self) -> tuple[int, int, int]:
        """Latent voxels (z, y, x) of the padded field."""
        z, y, x = self.padded
        return z // DOWN, y // DOWN, x // DOWN

    @property
    def inside(self) -> tuple[slice, slice, slice]:
        """Slices of the padded field that hold the field itself."""
        z, y, x = (
            slice((p - n) // 2, (p - n) // 2 + n) for n, p in zip(self.shape, self.padded, strict=True)
        )
        return z, y, x

    def pad(self, array: NDArray[np.generic], fill: float) -> NDArray[np.generic]:
        """`array` of `shape` with `fill` around it."""
        out = np.full(self.padded, fill, array.dtype)
        out[self.inside] = array
        return out

    def place(self) -> Tensor:
        """Place channels on the latent grid (1, 4, D, H, W)."""
        centres = [
            (torch.arange(n) * DOWN + (DOWN - 1) / 2 - side.start) * step
            for n, side, step in zip(self.latent, self.inside, self.spacing_mm, strict=True)
        ]
        (z, y, x), (long, deep, wide) = (
            centres,
            (n * s for n, s in zip(self.shape, self.spacing_mm, strict=True)),
        )
        out = torch.empty(1, len(PLACE), *self.latent)
        out[0, 0] = ((long - z) / _ALONG_MM)[:, None, None]
        out[0, 1] = (z / _ALONG_MM)[:, None, None]
        out[0, 2] = ((y - deep / 2) / ACROSS_MM)[None, :, None]
        out[0, 3] = ((x - wide / 2) / ACROSS_MM)[None, None, :]
        return out


def check_size(shape: tuple[int, ...], what: str) -> None:
    """Raises `InputError` if `shape` (z, y, x) has more voxels than can be read again; `what` names it.

    Made volumes are studies: one that no command could read need not be made.
    """
    voxels = math.prod(int(n) for n in shape)
    if voxels > _MOST_VOXELS:
        raise InputError(
            f"{what} has {' x '.join(map(str, shape))} voxels, more than can be made ({_MOST_VOXELS:,}).",
            hint="Ask for fewer: 512 x 512 x 256 voxels take 2 GB of memory.",
        )


def shares(classes: NDArray[np.uint8], count: int = len(ORGAN_CLASSES)) -> Tensor:
    """The share of each class in every latent voxel: (z, y, x), 0 outside -> (1, count, D, H, W).

    Sides must be divisible by 4. One class at a time: all classes of a large volume would take gigabytes.
    """
    d, h, w = (n // DOWN for n in classes.shape)
    out = torch.empty(1, count, d, h, w)
    for number in range(count):
        inside = (classes == number + 1).reshape(d, DOWN, h, DOWN, w, DOWN)
        out[0, number] = torch.from_numpy(inside.mean(axis=(1, 3, 5), dtype=np.float32))
    return out
