"""The autoencoder of volumes: it turns each 4 x 4 x 4 voxels of a 3D CT patch into a few small integers.

A VQ-GAN (arXiv 2012.09841) whose quantiser is finite scalar quantisation (arXiv 2309.15505): each latent
channel is rounded to a fixed grid in [-1, 1]. There is no codebook that sites could learn in different orders
and average to nonsense, no code dies, and latents have the same scale everywhere, so a denoiser needs no
statistics of them. CT numbers keep their absolute scale (hu_scale) and are never scaled by the volume.
"""

from __future__ import annotations

from itertools import product
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scantwin.generation.hu_scale import to_unit
from scantwin.learning.layers import Conv3d
from scantwin.units import AIR_HU

DOWN: Final = 4
"""Voxels per latent voxel along each axis."""

AIR: Final = float(to_unit(torch.tensor(AIR_HU)))
"""Air on the bent scale."""

ENCODER_REACH: Final = 5
DECODER_REACH: Final = 5
"""Latent voxels beyond which nothing affects what is encoded or decoded. The decoder has 3 convolutions on
the latent grid, 2 on a grid twice as fine and 3 on one four times as fine: 3 + 2/2 + 3/4. The encoder has 2,
and four finer ones that reach 1.5 + 2 + 2 + 3 voxels: 2 + 8.5/4. A test checks both."""

_GAIN: Final = (0.5, 5.0, 10.0, 20.0)
"""Gains of the mean, slopes, products of two and three slopes, for a spread of about a half each (measured
on phantoms at 8 mm: 0.3, 0.1, 0.05, 0.02 without). The mean's keeps air, at -2, off the end of the grid."""

_END: Final = 0.98
"""Latents are clipped to this when their bound is undone: the inverse of the root diverges at 1."""


class Smooth(nn.Module):
    """Two convolutions beside a skip path. Their output starts at zero, so the skip path learns at once."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = Conv3d(inputs, outputs, 3, padding=1)
        self.second = Conv3d(outputs, outputs, 3, padding=1)
        self.through = Conv3d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, D, H, W) -> (B, outputs, D, H, W)."""
        y = self.second(F.leaky_relu(self.first(F.leaky_relu(x, 0.1)), 0.1))
        return torch.as_tensor(self.through(x) + y)


class Autoencoder(nn.Module):
    """Encoder, quantiser and decoder; fully convolutional, no normalisation: tiles are as good as volumes.

    Beside the deep path there is a linear one, which starts as the mean of each block of 4 x 4 x 4 voxels and
    its first gradients. Without it, a few hundred steps gave no more than a blurred outline of the body.
    """

    def __init__(self, channels: tuple[int, int, int], levels: tuple[int, ...]) -> None:
        super().__init__()
        fine, middle, coarse = channels
        latents = len(levels)
        self.shrink = Conv3d(1, latents, DOWN, stride=DOWN)
        self.encoder = nn.Sequential(
            Conv3d(1, middle, 4, stride=2, padding=1), Smooth(middle, middle),
            Conv3d(middle, coarse, 4, stride=2, padding=1), Smooth(coarse, coarse),
            nn.LeakyReLU(0.1), Conv3d(coarse, latents, 1),
        )  # fmt: skip
        self.start = Conv3d(latents, coarse, 3, padding=1)
        self.decoder = nn.ModuleList([Smooth(coarse, coarse), Smooth(coarse, middle), Smooth(middle, fine)])
        self.head = Conv3d(fine, 1, 3, padding=1)
        self.grow = nn.ConvTranspose3d(latents, 1, DOWN, stride=DOWN)
        self.register_buffer("reach", torch.tensor([(n - 1) / 2 for n in levels]), persistent=False)
        self._begin_simply(latents)

    def _begin_simply(self, latents: int) -> None:
        known = min(latents, len(_PATTERNS))
        with torch.no_grad():
            # A latent should fill its grid and stand out from the diffusion's noise of unit variance.
            gain = torch.tensor([_GAIN[k] for k in (0, 1, 1, 1, 2, 2, 2, 3)])[:known, None, None, None]
            self.shrink.weight[:known, 0] = _PATTERNS[:known] * gain / DOWN**3
            self.grow.weight[:known, 0] = _PATTERNS[:known] / gain
            for parameter in (self.shrink.bias, self.grow.bias, self.head.weight, self.head.bias):
                if parameter is not None:
                    parameter.zero_()
            self.encoder[-1].weight.mul_(0.1)  # type: ignore[operator]

    def encode(self, unit: Tensor) -> Tensor:
        """CT on the bent scale (B, 1, D, H, W), sides divisible by 4 -> latents (B, C, D/4, H/4, W/4)."""
        # Air becomes 0 on the deep path, like the zero padding beyond the field of view.
        said = (self.shrink(unit) + self.encoder(unit - AIR)).float()
        # Bounded by a root, not a tanh: its gradient never dies, and air lies near the end of the grid.
        return self.quantised(said * torch.rsqrt(1.0 + said**2))

    def quantised(self, latent: Tensor) -> Tensor:
        """The nearest grid values in [-1, 1]; gradients pass as if nothing had been rounded."""
        half = torch.as_tensor(self.reach).view(-1, 1, 1, 1)
        bounded = latent.float().clamp(-1.0, 1.0)
        return bounded + ((bounded * half).round() / half - bounded).detach()

    def decode(self, latent: Tensor) -> Tensor:
        """Latents (B, C, D, H, W) -> CT on the bent scale (B, 1, 4D, 4H, 4W)."""
        x = self.start(latent)
        for number, block in enumerate(self.decoder):
            x = block(F.interpolate(x, scale_factor=2.0, mode="nearest") if number else x)
        # The root is undone, so that the linear path is linear from end to end.
        flat = latent.clamp(-_END, _END)
        return torch.as_tensor(self.head(F.leaky_relu(x, 0.1)) + self.grow(flat * torch.rsqrt(1.0 - flat**2)))

    def forward(self, unit: Tensor) -> Tensor:
        """The reconstruction of a CT on the bent scale (B, 1, D, H, W)."""
        return self.decode(self.encode(unit))


def _patterns() -> Tensor:
    """Mean, gradients and their products over a block of 4 x 4 x 4 voxels: (8, 4, 4, 4), unit power."""
    line = torch.tensor([-1.5, -0.5, 0.5, 1.5]) / 1.25**0.5
    flat = torch.ones(DOWN)
    found = [
        z[:, None, None] * y[None, :, None] * x[None, None, :] for z, y, x in product((flat, line), repeat=3)
    ]
    # Fewest gradients first: if there are few latents, they are the mean and the slopes.
    order = sorted(range(8), key=lambda k: (k.bit_count(), k))
    return torch.stack([found[k] for k in order])


_PATTERNS: Final = _patterns()
