"""The networks of inpainting, on three slices at a time: a denoiser and a Pix2Pix generator.

Both see the known CT outside of the region, the region itself, and of each voxel in it what it is to be.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scantwin.generation.slices import NEIGHBOURS, SEEN
from scantwin.imaging.organs import ORGAN_CLASSES
from scantwin.learning.unet import Denoiser, UNet


class _Seeing(nn.Module):
    """What goes into a voxel as a few numbers that are learnt, stacked with image and region."""

    def __init__(self, class_features: int) -> None:
        super().__init__()
        self.meaning = nn.Embedding(len(ORGAN_CLASSES) + 1, class_features)
        self.channels = SEEN * (2 + class_features)

    def forward(self, image: Tensor, region: Tensor, classes: Tensor) -> Tensor:
        """(B, slices, H, W) each -> (B, channels, H, W)."""
        meant = self.meaning(classes).permute(0, 1, 4, 2, 3).flatten(1, 2)
        return torch.cat([image, region, meant], dim=1).contiguous(memory_format=torch.channels_last)


class SliceDenoiser(nn.Module):
    """Says the velocity (arXiv 2202.00512) of the middle slice."""

    def __init__(self, class_features: int, channels: tuple[int, ...], time_features: int) -> None:
        super().__init__()
        self.seeing = _Seeing(class_features)
        self.denoiser = Denoiser(self.seeing.channels, channels, time_features, dimensions=2)

    def forward(
        self, noised: Tensor, image: Tensor, region: Tensor, classes: Tensor, level: Tensor
    ) -> Tensor:
        """(B, slices, H, W) each, level (B,) in 0..1 -> (B, 1, H, W).

        Only inside the region is `noised` shown: outside, the CT is known, and known without noise.
        """
        shown = torch.where(region > 0, noised, image)
        return torch.as_tensor(self.denoiser(self.seeing(shown, region, classes), level))


class SlicePainter(nn.Module):
    """The Pix2Pix generator: says the middle slice at once."""

    def __init__(self, class_features: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.seeing = _Seeing(class_features)
        self.body = UNet(self.seeing.channels, 1, channels, dimensions=2)
        nn.init.zeros_(self.body.head.weight)
        nn.init.zeros_(self.body.head.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor, region: Tensor, classes: Tensor) -> Tensor:
        """(B, slices, H, W) each -> (B, 1, H, W) on the bent scale."""
        return torch.as_tensor(self.body(self.seeing(image * (1 - region), region, classes)))


def middle(slices: Tensor) -> Tensor:
    """The middle one of (B, slices, H, W): (B, 1, H, W)."""
    return slices[:, NEIGHBOURS : NEIGHBOURS + 1]
