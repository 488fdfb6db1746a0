"""The networks of inpainting, on three slices at a time: a denoiser and a Pix2Pix generator.

Both see the known CT outside of the region, the region itself, and of each voxel in it what it is to be.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from scantwin.generation.class_density import from_deviation
from scantwin.generation.slices import SEEN
from scantwin.imaging.organs import ORGAN_CLASSES
from scantwin.learning import error_scale
from scantwin.learning.unet import Denoiser, UNet

_LEAST: Final = 0.004
"""Smallest SD that is believed, on the bent scale: half a Hounsfield unit in soft tissue."""
_STEEPEST: Final = 5.0
"""Largest growth of what is left over with the CT's noise that is believed: bone of a rural scanner."""
_TISSUE: Final = 0.8
"""Largest distance from 0 on the bent scale that is soft tissue, fat to enhanced vessels: -90..170 HU."""
_ENOUGH: Final = 64
"""Pixels that tell a CT's noise."""
_ROUTINE: Final = 0.12
"""Noise of a routine scan on the bent scale: 18 HU in soft tissue (TISSUES.md, 4)."""


class _Seeing(nn.Module):
    """What goes into a voxel as a few numbers that are learnt, with the known image and the region."""

    def __init__(self, class_features: int) -> None:
        super().__init__()
        self.meaning = nn.Embedding(len(ORGAN_CLASSES) + 1, class_features)
        self.channels = SEEN * (2 + class_features)

    def forward(self, image: Tensor, region: Tensor, classes: Tensor, *more: Tensor) -> Tensor:
        """(B, slices, H, W) each -> (B, channels, H, W); `more` is stacked on top."""
        meant = self.meaning(classes).permute(0, 1, 4, 2, 3).flatten(1, 2)
        seen = torch.cat([image, region, meant, *more], dim=1)
        return seen.contiguous(memory_format=torch.channels_last)


class SliceDenoiser(nn.Module):
    """Denoises what the painter leaves over, and remembers how large that is in each class and each CT.

    In liver it is the scanner's noise, in lung and bone vessels and trabeculae besides: a line over the CT's
    own noise, one for each class.
    """

    moments: Tensor
    """Sums (`error_scale`) of what is left over, at the noise of the CT, one row a class."""

    def __init__(self, class_features: int, channels: tuple[int, ...], time_features: int) -> None:
        super().__init__()
        self.seeing = _Seeing(class_features)
        self.denoiser = Denoiser(self.seeing.channels + SEEN, channels, time_features, dimensions=2)
        _enliven(self.denoiser.body)
        self.register_buffer("moments", torch.zeros(len(ORGAN_CLASSES) + 1, error_scale.SUMS))

    def forward(
        self, noised: Tensor, painted: Tensor, region: Tensor, classes: Tensor, level: Tensor
    ) -> Tensor:
        """(B, slices, H, W) each, level (B,) in 0..1 -> the velocity of the middle slice (B, 1, H, W).

        `painted` is the CT outside of the region and what the painter says inside, `noised` what that leaves
        over, in units of `scale`.
        """
        return torch.as_tensor(self.denoiser(self.seeing(painted, region, classes, noised * region), level))

    def remember(self, left: Tensor, noise: Tensor, region: Tensor, classes: Tensor) -> None:
        """Moves the memory by what is `left` over in `region`; `noise` is each CT's. All broadcast alike."""
        inside = region > 0
        left, noise, classes = left[inside], noise.expand_as(region)[inside], classes[inside]
        for label in classes.unique().tolist():
            own = classes == label
            seen = error_scale.sums_of(noise[own], left[own])
            row = self.moments[label]
            # The first that is seen of a class is believed; its mean moves on from there.
            row.lerp_(seen, error_scale.RATE if error_scale.known(row) else 1.0)

    def scale(self, noise: Tensor, classes: Tensor) -> Tensor:
        """SD of what is left over in each voxel of `classes` (..., H, W), on the bent scale.

        `noise` is the CT's, broadcast to them. Where a class was never seen it is the CT's noise.
        """
        start, growth = error_scale.line_through(self.moments, _LEAST, _STEEPEST)
        known = error_scale.known(self.moments)
        start, growth = torch.where(known, start, 0.0), torch.where(known, growth, 1.0)
        return (start[classes] + growth[classes] * noise).clamp(min=_LEAST)


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
        said = torch.as_tensor(self.body(self.seeing(image * (1 - region), region, classes)))
        return from_deviation(said.float(), middle(classes))


def noise_of(image: Tensor, region: Tensor) -> Tensor:
    """How noisy each CT (B, slices, H, W) on the bent scale is outside of `region`: an SD (B, 1, 1, 1).

    The median of second differences along x in soft tissue: edges are fewer than half of them. That of a
    routine scan where too little tissue is known.
    """
    known = (region == 0) & (image.abs() < _TISSUE)
    all_known = known[..., :-2] & known[..., 1:-1] & known[..., 2:]
    bends = (image[..., :-2] - 2 * image[..., 1:-1] + image[..., 2:]).abs() / 6**0.5
    found = []
    for bend, where in zip(bends, all_known, strict=True):
        told = bend[where]
        found.append(1.4826 * told.median() if told.numel() >= _ENOUGH else image.new_tensor(_ROUTINE))
    return torch.stack(found).clamp(min=_LEAST).view(-1, 1, 1, 1)


def middle(slices: Tensor) -> Tensor:
    """The middle one of (B, slices, H, W), an odd number of them: (B, 1, H, W)."""
    at = slices.shape[1] // 2
    return slices[:, at : at + 1]


def _enliven(body: UNet) -> None:
    """Starts convolutions so that signals keep their size through all levels (arXiv 1502.01852).

    torch's own start loses two fifths at every layer, and without normalisation nothing brings it back: after
    400 steps such a denoiser still said nothing.
    """
    for name, layer in body.named_modules():
        if isinstance(layer, nn.Conv2d) and name != "head":
            nn.init.kaiming_normal_(layer.weight, a=0.1)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
