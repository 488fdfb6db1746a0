"""What of a CT is texture: what is finer than a few pixels of the same class, and how large it is.

A CT's level changes from organ to organ and is the painter's to say; its noise and grain are drawn. Vessels
are neither: they are coarser than texture, and stronger.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from scantwin.generation.same_class import by_class, medians_around, sums_around

_REACH: Final = 1
"""Pixels to each side that, with a pixel itself, make its level. With two, what changes slowly counted as
texture, and samples were as rough from pixel to pixel as real tissue is over five."""
_COMPANY: Final = 4
"""Of these nine, of a pixel's own class: with fewer it stands at a border and tells no texture."""
_MEDIAN_OF_A_NORMAL: Final = 0.6745
"""Median of |x| of a normal x of unit variance."""
_LEAST: Final = 0.001
"""Smallest SD that is believed, on the bent scale: about a Hounsfield unit in lung, less in soft tissue."""
_TISSUE: Final = 0.8
"""Largest distance from 0 on the bent scale that is soft tissue, fat to enhanced vessels: -111..191 HU."""
_ENOUGH: Final = 64
"""Pixels that tell a CT's noise, or a class's texture: their median is within a sixth of it."""
_ROUTINE: Final = 0.12
"""Noise of a routine scan on the bent scale: 18 HU in soft tissue (sources.md, 4)."""
LARGEST: Final = 3.0
"""Largest texture that is learnt and said, in SDs of it: what is beyond is the rim of an organ, a vessel, or
an edge that the painter put a pixel aside, and none to be drawn elsewhere."""


def texture(image: Tensor, where: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """What is finer than a window of the same class, and the pixels that stand well inside of one.

    All are (..., H, W), axes y and x last; `where` (bool) is what is looked at. The texture is on the scale
    of `image`, 0 elsewhere; the second is bool.
    """
    total, company = sums_around(image, where, classes, reach=_REACH)
    part = torch.where(where, image - total / company.clamp(min=1.0), 0.0)
    return part, where & (company >= _COMPANY)


def without_texture(image: Tensor, where: Tensor, classes: Tensor, sizes: Tensor) -> Tensor:
    """`image` (..., H, W) without its texture, of SD `sizes`, where `where` (bool) is: all the same axes.

    What is stronger than such texture stays: without the rims of lungs that a painter had drawn, a sample was
    farther from real ones than the painter was.
    """
    part, _ = texture(image, where, classes)
    return torch.where(part.abs() <= LARGEST * sizes, image - part, image)


def texture_around(image: Tensor, region: Tensor, classes: Tensor, otherwise: Tensor) -> Tensor:
    """SD of the texture of each voxel's class, of (B, slices, H, W) each: the same axes.

    As in what is known of the class outside of `region`; where little is, `otherwise` (B, classes). By the
    median: vessels in lung are few, and no measure of what lies between.
    """
    part, told = texture(image, region == 0, classes)
    size = part.abs() / _MEDIAN_OF_A_NORMAL
    table = medians_around(size, told, region, classes, otherwise, enough=_ENOUGH)
    return by_class(table.clamp(min=_LEAST), classes)


def noise_of(image: Tensor, region: Tensor) -> Tensor:
    """How noisy each CT (B, slices, H, W) on the bent scale is outside of `region`: an SD (B, 1).

    The median of second differences along x in soft tissue: edges are fewer than half of them. That of a
    routine scan where too little tissue is known.
    """
    known = (region == 0) & (image.abs() < _TISSUE)
    all_known = known[..., :-2] & known[..., 1:-1] & known[..., 2:]
    # As large as the SD of white noise.
    bends = (image[..., :-2] - 2 * image[..., 1:-1] + image[..., 2:]).abs() / 6**0.5
    found = []
    for bend, where in zip(bends, all_known, strict=True):
        told = bend[where]
        enough = told.numel() >= _ENOUGH
        found.append(told.median() / _MEDIAN_OF_A_NORMAL if enough else image.new_tensor(_ROUTINE))
    return torch.stack(found).clamp(min=_LEAST).view(-1, 1)
