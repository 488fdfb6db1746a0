"""What a mask alone says about the latents behind it: a linear regression, learnt as sums.

The first latent channel starts as the mean of 4 x 4 x 4 voxels, the next three as their slopes. So the shares
of the classes, and how these change from voxel to voxel, predict most of them. On phantoms at 8 mm (48
windows, six held-out patients) the SD of the first channel falls from 0.66 to 0.11, that of the slopes from
0.95, 1.07, 0.59 to 0.56, 0.68, 0.36; the four products stay as they are.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_AXES: Final = 3
_RIDGE: Final = 1e-6
"""Times the mean of the features' squares: a class that was never seen then says nothing."""
_LEAST_SD: Final = 0.02
"""Smallest SD of the residual: a guess is never taken as certain."""


class MaskGuess(nn.Module):
    """Sums of features and latents, and the regression they give. Sites may average them like weights."""

    def __init__(self, latents: int, classes: int) -> None:
        super().__init__()
        features = 1 + (1 + _AXES) * classes
        self.register_buffer("weight", torch.zeros(1))
        self.register_buffer("features", torch.zeros(features, features))
        self.register_buffer("both", torch.zeros(features, latents))
        self.register_buffer("squares", torch.zeros(latents))
        self.weight: Tensor
        self.features: Tensor
        self.both: Tensor
        self.squares: Tensor

    @property
    def known(self) -> bool:
        """Whether anything was seen."""
        return bool(self.weight > 0)

    def remember(self, mask: Tensor, latent: Tensor, rate: float) -> None:
        """Moves the sums by `rate` towards a mask (1, classes, D, H, W) and its latent (1, C, D, H, W)."""
        seen = _features(mask)[0].flatten(1)
        values, count = latent[0].flatten(1), latent[0, 0].numel()
        self.weight.lerp_(torch.ones_like(self.weight), rate)
        self.features.lerp_(seen @ seen.T / count, rate)
        self.both.lerp_(seen @ values.T / count, rate)
        self.squares.lerp_(values.square().mean(1), rate)

    def forward(self, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The latents expected behind `mask` (B, C, D, H, W), and the SD around them (1, C, 1, 1, 1)."""
        # In double precision: classes that mostly occur together leave small differences of large sums.
        features, both = self.features.double(), self.both.double()
        ridge = _RIDGE * features.diagonal().mean().clamp(min=1e-12)
        told = torch.linalg.solve(features + ridge * torch.eye(len(features)).to(features), both)
        rest = self.squares.double() - 2 * (told * both).sum(0) + ((features @ told) * told).sum(0)
        sd = (rest / self.weight.double()).clamp(min=0).sqrt().clamp(min=_LEAST_SD)
        return _applied(told.float(), mask), sd.float().view(1, -1, 1, 1, 1)


def _features(mask: Tensor) -> Tensor:
    """1, the shares, and their differences between both neighbours along z, y and x: (B, features, ...)."""
    padded = F.pad(mask, (1,) * (2 * _AXES), mode="replicate")
    slopes = [_moved(padded, axis, 1) - _moved(padded, axis, -1) for axis in range(_AXES)]
    return torch.cat([torch.ones_like(mask[:, :1]), mask, *slopes], dim=1)


def _applied(told: Tensor, mask: Tensor) -> Tensor:
    """`told.T @ _features(mask)` as one convolution: all features of a large volume would take gigabytes."""
    classes = mask.shape[1]
    share, *slopes = told[1:].view(1 + _AXES, classes, -1)
    kernel = torch.zeros(told.shape[1], classes, 3, 3, 3, device=mask.device)
    kernel[:, :, 1, 1, 1] = share.T
    for axis, slope in enumerate(slopes):
        for by in (1, -1):
            z, y, x = (1 + by * (axis == k) for k in range(_AXES))
            kernel[:, :, z, y, x] = by * slope.T
    padded = F.pad(mask, (1,) * (2 * _AXES), mode="replicate")
    return F.conv3d(padded, kernel, told[0])


def _moved(padded: Tensor, axis: int, by: int) -> Tensor:
    """The neighbour `by` voxels away along `axis`, of an array that was padded by 1."""
    for k in range(2, 2 + _AXES):
        padded = padded.narrow(k, 1 + by * (k == 2 + axis), padded.shape[k] - 2)
    return padded
