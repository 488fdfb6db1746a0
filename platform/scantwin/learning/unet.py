"""The networks: a 3D U-Net and a patch discriminator, without normalisation layers.

No normalisation: absolute HU and SUV carry the meaning here, and running statistics would leak between
sites when weights are averaged. Own code of 60 lines rather than MONAI's, whose import alone costs more
than a round's overhead on a small PC (measured: docs/decisions/0004-networks.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Two 3 x 3 x 3 convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv3d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, D, H, W) -> (B, outputs, D, H, W)."""
        return F.leaky_relu(self.second(F.leaky_relu(self.first(x), 0.1)), 0.1)


class UNet(nn.Module):
    """A U-Net (arXiv 1505.04597) in 3D: average pooling down, nearest neighbour up."""

    def __init__(self, inputs: int, outputs: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        widths = (inputs, *channels)
        self.down = nn.ModuleList(Block(a, b) for a, b in zip(widths, channels, strict=False))
        self.up = nn.ModuleList(Block(b + a, a) for a, b in zip(channels, channels[1:], strict=False))
        self.head = nn.Conv3d(channels[0], outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, D, H, W) -> (B, outputs, D, H, W); D, H, W divisible by 2 ** (levels - 1)."""
        kept: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(F.avg_pool3d(x, 2) if level else x)
            kept.append(x)
        for level in range(len(self.up) - 1, -1, -1):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = self.up[level](torch.cat([x, kept[level]], dim=1))
        return self.head(x)  # type: ignore[no-any-return]


class PatchDiscriminator(nn.Module):
    """Says for each small part of a patch whether the PET in it is real (arXiv 1611.07004, 3.2.2)."""

    def __init__(self, inputs: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in zip((inputs, *channels), channels, strict=False):
            layers += [nn.Conv3d(a, b, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv3d(channels[-1], 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, D, H, W) -> (B, 1, D', H', W') of unbounded scores."""
        return self.layers(x)  # type: ignore[no-any-return]
