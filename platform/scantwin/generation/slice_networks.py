"""The networks of inpainting, on three slices at a time: a denoiser and a Pix2Pix generator.

Both see the known CT outside of the region, the region itself, and of each voxel in it what it is to be.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scantwin.generation.class_density import from_deviation
from scantwin.generation.slices import NEIGHBOURS, SEEN
from scantwin.imaging.organs import ORGAN_CLASSES
from scantwin.learning.unet import Denoiser, UNet


class _Seeing(nn.Module):
    """What goes into a voxel as a few numbers that are learnt, with the known image and the region."""

    def __init__(self, class_features: int) -> None:
        super().__init__()
        self.meaning = nn.Embedding(len(ORGAN_CLASSES) + 1, class_features)
        self.channels = SEEN * (2 + class_features)

    def forward(self, image: Tensor, region: Tensor, classes: Tensor, *more: Tensor) -> Tensor:
        """(B, slices, H, W) each -> (B, channels, H, W); `more` is stacked on top."""
        meant = self.meaning(classes).permute(0, 1, 4, 2, 3).flatten(1, 2)
        seen = torch.cat([image * (1 - region), region, meant, *more], dim=1)
        return seen.contiguous(memory_format=torch.channels_last)


class SliceDenoiser(nn.Module):
    """Says what a linear guess misses of the middle slice's deviation from what its classes are like."""

    def __init__(self, class_features: int, channels: tuple[int, ...], time_features: int) -> None:
        super().__init__()
        self.seeing = _Seeing(class_features)
        self.denoiser = Denoiser(self.seeing.channels + SEEN, channels, time_features, dimensions=2)
        _enliven(self.denoiser.body)

    def forward(
        self, noised: Tensor, image: Tensor, region: Tensor, classes: Tensor, level: Tensor
    ) -> Tensor:
        """(B, slices, H, W) each, level (B,) in 0..1 -> (B, 1, H, W).

        Outside of the region the CT is shown, and without noise; inside, the noised deviation only.
        """
        return torch.as_tensor(self.denoiser(self.seeing(image, region, classes, noised * region), level))


class SlicePainter(nn.Module):
    """The Pix2Pix generator: says the middle slice at once."""

    def __init__(self, class_features: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.seeing = _Seeing(class_features)
        self.body = UNet(self.seeing.channels, 1, channels, dimensions=2)
        _enliven(self.body)
        nn.init.zeros_(self.body.head.weight)
        nn.init.zeros_(self.body.head.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor, region: Tensor, classes: Tensor) -> Tensor:
        """(B, slices, H, W) each -> (B, 1, H, W) on the bent scale; untrained, what the classes are like."""
        said = torch.as_tensor(self.body(self.seeing(image, region, classes)))
        return from_deviation(said.float(), middle(classes))


def middle(slices: Tensor) -> Tensor:
    """The middle one of (B, slices, H, W): (B, 1, H, W)."""
    return slices[:, NEIGHBOURS : NEIGHBOURS + 1]


def _enliven(body: UNet) -> None:
    """Starts convolutions so that signals keep their size through all levels (arXiv 1502.01852).

    torch's own start loses two fifths at every layer, and without normalisation nothing brings it back: after
    400 steps such a denoiser still said nothing.
    """
    for name, layer in body.named_modules():
        if isinstance(layer, nn.Conv2d) and name != "head":
            nn.init.kaiming_normal_(layer.weight, a=0.1)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
