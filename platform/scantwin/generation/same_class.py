"""Statistics of the pixels of one class, over all or around a pixel, whatever other classes lie beside."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def sums_around(
    image: Tensor, where: Tensor, classes: Tensor, *, reach: int, stride: int = 1
) -> tuple[Tensor, Tensor]:
    """For each pixel, the sum of `image` over the surrounding pixels of its class, and their number.

    Axes (..., H, W), y and x last. Pixels `where` (bool) count, at every `stride`-th offset up to `reach`,
    the pixel itself included. Shifting the whole image takes a tenth of the time of a mean for each class.
    """
    inside, own = where.to(image.dtype), classes.to(image.dtype)
    total, count = torch.zeros_like(image), torch.zeros_like(image)
    # -1 is no class: nothing counts beyond the image.
    seen = F.pad(torch.stack([image * inside, inside, own]), (reach,) * 4, value=-1.0)
    height, width = image.shape[-2:]
    for y in range(0, 2 * reach + 1, stride):
        for x in range(0, 2 * reach + 1, stride):
            values, there, labels = seen[..., y : y + height, x : x + width]
            same = labels == own
            total += same * values
            count += same * there
    return total, count


def medians_around(
    values: Tensor, told: Tensor, region: Tensor, classes: Tensor, otherwise: Tensor, *, enough: int
) -> Tensor:
    """Medians by class (B, classes) of `values` where `told` (bool), for each patch (B, slices, H, W).

    Only of classes that lie in `region` and have `enough` such voxels; else `otherwise` (B, classes).
    """
    table = otherwise.clone()
    for own, tells, inside, labels, row in zip(values, told, region > 0, classes, table, strict=True):
        for label in torch.unique(labels[inside]).tolist():
            of_class = own[tells & (labels == label)]
            if of_class.numel() >= enough:
                row[label] = of_class.median()
    return table


def by_class(table: Tensor, classes: Tensor) -> Tensor:
    """Each voxel's entry (B, slices, H, W) in a `table` (B, classes), by its class."""
    return table.gather(1, classes.flatten(1)).view(classes.shape)
