"""The texture of a CT: what is finer than a few pixels of the same class, and how strong it is.

A CT's level changes from organ to organ and is left to the painter; noise and grain are drawn. Vessels are
neither: they are coarser and stronger than texture.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from scantwin.generation.same_class import by_class, medians_around, sums_around

_REACH: Final = 1
"""Pixels to each side that, with the pixel itself, make its level. With two, slow changes counted as texture,
and samples were as rough from pixel to pixel as real tissue is over five."""
_COMPANY: Final = 4
"""Pixels of its own class among these nine, itself included: with fewer it is at a border, not in texture."""
_MEDIAN_OF_A_NORMAL: Final = 0.6745
"""Median of |x| of a standard normal x."""
_LEAST: Final = 0.001
"""Smallest SD that is believed, on the bent scale: about a Hounsfield unit in lung, less in soft tissue."""
_TISSUE: Final = 0.8
"""Largest distance from 0 of soft tissue on the bent scale, fat to enhanced vessels: -111..191 HU."""
_ENOUGH: Final = 64
"""Pixels that suffice for a CT's noise or a class's texture: their median is right to within a sixth."""
_ROUTINE: Final = 0.12
"""Noise of a routine scan on the bent scale: 18 HU in soft tissue (sources.md, 4)."""
LARGEST: Final = 3.0
"""Largest texture that is learnt and predicted, in its SDs. Anything beyond is the rim of an organ, a vessel,
or an edge that the painter put a pixel off, and not to be drawn elsewhere."""


def texture(image: Tensor, where: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """The texture relative to a window of the same class, and the pixels that stand well inside a class.

    All are (..., H, W), axes y and x last; `where` (bool) selects pixels. The texture is on the scale of
    `image` and 0 elsewhere; the second result is bool.
    """
    total, company = sums_around(image, where, classes, reach=_REACH)
    part = torch.where(where, image - total / company.clamp(min=1.0), 0.0)
    return part, where & (company >= _COMPANY)


def without_texture(image: Tensor, where: Tensor, classes: Tensor, sizes: Tensor) -> Tensor:
    """`image` without its texture, of SD `sizes`, at pixels `where` (bool): all are (..., H, W).

    What is stronger than such texture stays: without the rims of lungs that the painter had drawn, a sample
    was farther from real slices than the painter's image was.
    """
    part, _ = texture(image, where, classes)
    return torch.where(part.abs() <= LARGEST * sizes, image - part, image)


def texture_around(image: Tensor, region: Tensor, classes: Tensor, otherwise: Tensor) -> Tensor:
    """SD of the texture of each voxel's class. All but `otherwise` are (B, slices, H, W).

    Taken from what is known of the class outside `region`; where that is little, from `otherwise` (B,
    classes). It uses the median: vessels in lung are few, and say nothing about what lies between them.
    """
    part, told = texture(image, region == 0, classes)
    size = part.abs() / _MEDIAN_OF_A_NORMAL
    table = medians_around(size, told, region, classes, otherwise, enough=_ENOUGH)
    return by_class(table.clamp(min=_LEAST), classes)


def noise_of(image: Tensor, region: Tensor) -> Tensor:
    """The noise of each CT (B, slices, H, W) on the bent scale, outside `region`: an SD (B, 1).

    From the median of second differences along x in soft tissue: fewer than half of them are edges. Where too
    little tissue is known, the noise of a routine scan.
    """
    known = (region == 0) & (image.abs() < _TISSUE)
    all_known = known[..., :-2] & known[..., 1:-1] & known[..., 2:]
    # Scaled to the SD of white noise.
    bends = (image[..., :-2] - 2 * image[..., 1:-1] + image[..., 2:]).abs() / 6**0.5
    found = []
    for bend, where in zip(bends, all_known, strict=True):
        told = bend[where]
        enough = told.numel() >= _ENOUGH
        found.append(told.median() / _MEDIAN_OF_A_NORMAL if enough else image.new_tensor(_ROUTINE))
    return torch.stack(found).clamp(min=_LEAST).view(-1, 1)
