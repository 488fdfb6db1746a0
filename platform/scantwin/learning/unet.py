"""The networks, in 3D or 2D: a U-Net, a denoiser and a patch discriminator, without normalisation layers.

No normalisation: absolute HU and SUV carry the meaning here, and running statistics would leak between
sites when weights are averaged. Own code of a hundred lines rather than MONAI's, whose import alone costs
more than a round's overhead on a small PC (measured: docs/decisions/0004-networks.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scantwin.learning.layers import Conv3d, halved

Dimensions = Literal[2, 3]
"""Number of axes that a network works on: slices (y, x) or volumes (z, y, x)."""

_CONVOLUTION: Final = {2: nn.Conv2d, 3: Conv3d}
_POOLING: Final[dict[int, Callable[[Tensor], Tensor]]] = {
    2: partial(F.avg_pool2d, kernel_size=2),
    3: halved,
}
_DROPOUT: Final = {2: F.dropout2d, 3: F.dropout3d}
_SLOPE: Final = 0.1
"""Slope of a leaky rectifier below zero."""


class Block(nn.Module):
    """Two convolutions; with `features`, an embedding of that width shifts what lies between them."""

    def __init__(self, inputs: int, outputs: int, features: int = 0, dimensions: Dimensions = 3) -> None:
        super().__init__()
        self.first = _CONVOLUTION[dimensions](inputs, outputs, 3, padding=1)
        self.second = _CONVOLUTION[dimensions](outputs, outputs, 3, padding=1)
        self.shift = nn.Linear(features, outputs) if features else None

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """(B, inputs, D, H, W), embedding (B, features) -> (B, outputs, D, H, W); without D in 2D."""
        x = self.first(x)
        if self.shift is not None and embedding is not None:
            shift = self.shift(embedding)
            x = x + shift.view(*shift.shape, *[1] * (x.dim() - 2))
        return F.leaky_relu(self.second(F.leaky_relu(x, _SLOPE)), _SLOPE)


class UNet(nn.Module):
    """A U-Net (arXiv 1505.04597): average pooling down, nearest neighbour up.

    The upward path is narrowed before it is enlarged, then added to the skip (as in arXiv 1707.03718): one
    convolution of both stacked, at full resolution, took half of a step's time (docs/decisions/0004).
    """

    def __init__(
        self, inputs: int, outputs: int, channels: tuple[int, ...], features: int = 0,
        dimensions: Dimensions = 3, dropout: float = 0.0,
    ) -> None:  # fmt: skip
        """`dropout`: share of channels below full resolution that are dropped while gradients are taken."""
        super().__init__()
        widths = (inputs, *channels)
        self.dropout = dropout
        self.pool, self.drop = _POOLING[dimensions], _DROPOUT[dimensions]
        self.down = nn.ModuleList(
            Block(a, b, features, dimensions) for a, b in zip(widths, channels, strict=False)
        )
        self.narrow = nn.ModuleList(
            _CONVOLUTION[dimensions](b, a, 1) for a, b in zip(channels, channels[1:], strict=False)
        )
        self.up = nn.ModuleList(Block(a, a, features, dimensions) for a in channels[:-1])
        self.head = _CONVOLUTION[dimensions](channels[0], outputs, 1)
        _enliven(self.down, _SLOPE)
        _enliven(self.narrow, 1.0)
        _enliven(self.up, _SLOPE)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """(B, inputs, D, H, W) -> (B, outputs, D, H, W), in 2D without D; divisible by 2 ** (levels - 1)."""
        kept: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x, embedding)
            if self.dropout and level and torch.is_grad_enabled():
                x = self.drop(x, self.dropout)
            kept.append(x)
        for level in range(len(self.up) - 1, -1, -1):
            x = F.interpolate(self.narrow[level](x), scale_factor=2.0, mode="nearest")
            x = self.up[level](x + kept[level], embedding)
        return self.head(x)  # type: ignore[no-any-return]


def _enliven(part: nn.Module, slope: float) -> None:
    """Initialises convolutions so that signals keep their size through all levels (arXiv 1502.01852).

    torch's own initialisation loses three fifths at each layer, and without normalisation nothing restores
    it: deep levels contribute nothing for hundreds of steps (docs/decisions/0012-what-was-not-heard.md).
    `slope` is that below zero of the rectifier that follows; 1 if there is none.
    """
    for layer in part.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight, a=slope)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


class PatchDiscriminator(nn.Module):
    """Scores each small part of a patch by whether its PET is real (arXiv 1611.07004, 3.2.2)."""

    def __init__(self, inputs: int, channels: tuple[int, ...], dimensions: Dimensions = 3) -> None:
        super().__init__()
        convolution = _CONVOLUTION[dimensions]
        layers: list[nn.Module] = []
        for a, b in zip((inputs, *channels), channels, strict=False):
            layers += [convolution(a, b, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, convolution(channels[-1], 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, D, H, W) -> (B, 1, D', H', W') of unbounded scores; without D in 2D."""
        return self.layers(x)  # type: ignore[no-any-return]


class Denoiser(nn.Module):
    """A U-Net that knows the noise level, as a share of all steps, through sines and cosines of it."""

    def __init__(
        self, inputs: int, channels: tuple[int, ...], features: int, dimensions: Dimensions = 3
    ) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(features, features), nn.SiLU(), nn.Linear(features, features))
        self.body = UNet(inputs, 1, channels, features, dimensions)
        half = features // 2
        rates = torch.exp(torch.linspace(0.0, math.log(100.0), half)) * math.pi / 2
        self.register_buffer("rates", rates, persistent=False)
        # Predicts zero at first: a fair guess of a velocity, and the best one of a residual.
        nn.init.zeros_(self.body.head.weight)
        nn.init.zeros_(self.body.head.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """(B, inputs, D, H, W), level (B,) in 0..1 -> (B, 1, D, H, W); without D in 2D."""
        angles = level[:, None] * torch.as_tensor(self.rates)[None]
        embedding = self.embed(torch.cat([angles.sin(), angles.cos()], dim=1))
        return self.body(x, embedding)  # type: ignore[no-any-return]
