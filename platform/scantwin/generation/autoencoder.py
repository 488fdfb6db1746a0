"""The autoencoder of volumes: 3D patches of CT to a few small whole numbers for every 4 x 4 x 4 voxels.

A VQ-GAN (arXiv 2012.09841) whose quantiser is finite scalar quantisation (arXiv 2309.15505): each latent
channel is rounded to a fixed grid in [-1, 1]. There is no code book that sites could learn in another order
and then average to nonsense, no code that dies, and latents have the same scale everywhere, so that a
denoiser needs no statistics of them. CT numbers keep their absolute scale (hu_scale), never a volume's own.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scantwin.generation.hu_scale import to_unit
from scantwin.learning.unet import Block
from scantwin.units import AIR_HU

DOWN: Final = 4
"""Voxels along an axis behind one latent voxel."""

AIR: Final = float(to_unit(torch.tensor(AIR_HU)))
"""Air on the bent scale."""

ENCODER_REACH: Final = 5
DECODER_REACH: Final = 5
"""Latent voxels beyond which nothing changes what is encoded or decoded. Of the decoder: 3 convolutions on
the latent's grid, 2 on one twice and 3 on one four times as fine, 3 + 2/2 + 3/4; of the encoder 2 and three
finer ones that reach 1.5 + 2 + 3 voxels. A test holds both."""


class Autoencoder(nn.Module):
    """Encoder, quantiser and decoder; fully convolutional, no normalisation: tiles are as good as volumes."""

    def __init__(self, channels: tuple[int, int, int], levels: tuple[int, ...]) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.encoder = nn.Sequential(
            nn.Conv3d(1, middle, 4, stride=2, padding=1), nn.LeakyReLU(0.1),
            nn.Conv3d(middle, middle, 3, padding=1), nn.LeakyReLU(0.1),
            nn.Conv3d(middle, coarse, 4, stride=2, padding=1), nn.LeakyReLU(0.1),
            Block(coarse, coarse), nn.Conv3d(coarse, len(levels), 1),
        )  # fmt: skip
        self.start = nn.Conv3d(len(levels), coarse, 3, padding=1)
        self.decoder = nn.ModuleList([Block(coarse, coarse), Block(coarse, middle), Block(middle, fine)])
        self.head = nn.Conv3d(fine, 1, 3, padding=1)
        self.register_buffer("reach", torch.tensor([(n - 1) / 2 for n in levels]), persistent=False)

    def encode(self, unit: Tensor) -> Tensor:
        """CT on the bent scale (B, 1, D, H, W), sides divisible by 4 -> latents (B, C, D/4, H/4, W/4)."""
        # Air becomes 0, and so is what lies beyond the field of view.
        return self.quantised(torch.tanh(self.encoder(unit - AIR)))

    def quantised(self, latent: Tensor) -> Tensor:
        """The nearest grid values in [-1, 1]; gradients pass as if nothing had been rounded."""
        reach = torch.as_tensor(self.reach).view(-1, 1, 1, 1)
        bounded = latent.float().clamp(-1.0, 1.0)
        return bounded + ((bounded * reach).round() / reach - bounded).detach()

    def decode(self, latent: Tensor) -> Tensor:
        """Latents (B, C, D, H, W) -> CT on the bent scale (B, 1, 4D, 4H, 4W)."""
        x = F.leaky_relu(self.start(latent), 0.1)
        for number, block in enumerate(self.decoder):
            x = block(F.interpolate(x, scale_factor=2.0, mode="nearest") if number else x)
        return torch.as_tensor(self.head(x) + AIR)  # the head's zero is air

    def forward(self, unit: Tensor) -> Tensor:
        """What comes back of a CT on the bent scale (B, 1, D, H, W)."""
        return self.decode(self.encode(unit))
