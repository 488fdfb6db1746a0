"""The networks of inpainting, on three slices at a time: a denoiser and a Pix2Pix generator.

Both see the known CT outside of the region, the region itself, and of each voxel in it what it is to be.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from scantwin.generation.class_density import from_deviation, levels_around
from scantwin.generation.slices import SEEN
from scantwin.imaging.organs import ORGAN_CLASSES
from scantwin.learning.unet import Denoiser, UNet

_LEAST: Final = 0.004
"""Smallest SD that is believed, on the bent scale: half a Hounsfield unit in soft tissue."""
_TINY: Final = 1e-4
"""Added to what is left over before its logarithm is taken: a hundredth of a Hounsfield unit."""
_OF_A_NORMAL: Final = 0.635
"""Minus the mean of log |x| of a normal x of unit variance: (Euler's gamma + log 2) / 2."""
_RATE: Final = 0.05
"""How fast the memory moves: it spans some twenty steps."""
_TISSUE: Final = 0.8
"""Largest distance from 0 on the bent scale that is soft tissue, fat to enhanced vessels: -111..191 HU."""
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
        """(B, slices, H, W) each -> (B, channels, H, W); `more` is stacked on top.

        Classes are told inside the region only: outside the CT itself says what is there.
        """
        meant = self.meaning(torch.where(region > 0, classes, 0)).permute(0, 1, 4, 2, 3).flatten(1, 2)
        seen = torch.cat([image, region, meant, *more], dim=1)
        return seen.contiguous(memory_format=torch.channels_last)


class SliceDenoiser(nn.Module):
    """Denoises what the painter leaves over, and remembers how large its texture is in each class.

    Texture is told from pixel to pixel, as a multiple of the CT's own noise: a level that the painter missed
    is none, and were it taken for such, samples would be too grainy.
    """

    typical: Tensor
    """Of each class a weight, above 0 where it was seen, and that weight times the mean of log(texture / the
    CT's noise). Sites may average it like weights."""

    def __init__(self, class_features: int, channels: tuple[int, ...], time_features: int) -> None:
        super().__init__()
        self.seeing = _Seeing(class_features)
        self.denoiser = Denoiser(self.seeing.channels + SEEN, channels, time_features, dimensions=2)
        _enliven(self.denoiser.body)
        self.register_buffer("typical", torch.zeros(len(ORGAN_CLASSES) + 1, 2))

    def forward(
        self, noised: Tensor, painted: Tensor, region: Tensor, classes: Tensor, level: Tensor
    ) -> Tensor:
        """(B, slices, H, W) each, level (B,) in 0..1 -> the velocity of the middle slice (B, 1, H, W).

        `painted` is the CT outside of the region and what the painter says inside, `noised` what that leaves
        over, in units of `scale`.
        """
        return torch.as_tensor(self.denoiser(self.seeing(painted, region, classes, noised * region), level))

    def remember(self, left: Tensor, noise: Tensor, region: Tensor, classes: Tensor) -> None:
        """Moves the memory by what is `left` over in `region` (B, slices, H, W); `noise` is each CT's."""
        inside = region > 0
        whole = inside[..., :-2] & inside[..., 1:-1] & inside[..., 2:]
        whole &= (classes[..., :-2] == classes[..., 1:-1]) & (classes[..., 2:] == classes[..., 1:-1])
        ratio = ((_bends(left) + _TINY) / noise).log()[whole]
        classes = classes[..., 1:-1][whole]
        for label in torch.unique(classes).tolist():
            row, seen = self.typical[label], ratio[classes == label].mean()
            # The first that is seen is believed; its mean moves on from there.
            row.lerp_(torch.stack([torch.ones_like(seen), seen]), _RATE if row[0] > 0 else 1.0)

    def scale(self, noise: Tensor, classes: Tensor) -> Tensor:
        """SD of the texture in each voxel of `classes` (..., H, W), on the bent scale.

        `noise` is the CT's, broadcast to them. Where a class was never seen it is the CT's noise.
        """
        seen, mean = self.typical.unbind(1)
        times = torch.where(seen > 0, (mean / seen.clamp(min=1e-6) + _OF_A_NORMAL).exp(), 1.0)
        return (times[classes] * noise).clamp(min=_LEAST)


class SlicePainter(nn.Module):
    """The Pix2Pix generator: says the middle slice at once."""

    def __init__(self, class_features: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.seeing = _Seeing(class_features)
        self.body = UNet(self.seeing.channels, 1, channels, dimensions=2)
        _enliven(self.body)
        nn.init.zeros_(self.body.head.weight)
        nn.init.zeros_(self.body.head.bias)  # type: ignore[arg-type]

    def forward(
        self, image: Tensor, region: Tensor, classes: Tensor, otherwise: Tensor | None = None
    ) -> Tensor:
        """(B, slices, H, W) each -> (B, 1, H, W) on the bent scale; untrained, what the classes are like
        in what is known of the patient around the region, or as `otherwise` (`levels_around`)."""
        said = torch.as_tensor(self.body(self.seeing(image * (1 - region), region, classes)))
        levels = levels_around(image, region, classes, otherwise)
        return from_deviation(said.float(), middle(classes), levels)


def noise_of(image: Tensor, region: Tensor) -> Tensor:
    """How noisy each CT (B, slices, H, W) on the bent scale is outside of `region`: an SD (B, 1, 1, 1).

    The median of second differences along x in soft tissue: edges are fewer than half of them. That of a
    routine scan where too little tissue is known.
    """
    known = (region == 0) & (image.abs() < _TISSUE)
    all_known = known[..., :-2] & known[..., 1:-1] & known[..., 2:]
    found = []
    for bend, where in zip(_bends(image), all_known, strict=True):
        told = bend[where]
        found.append(1.4826 * told.median() if told.numel() >= _ENOUGH else image.new_tensor(_ROUTINE))
    return torch.stack(found).clamp(min=_LEAST).view(-1, 1, 1, 1)


def _bends(image: Tensor) -> Tensor:
    """Absolute second differences along x (..., W - 2), as large as the SD of white noise."""
    return (image[..., :-2] - 2 * image[..., 1:-1] + image[..., 2:]).abs() / 6**0.5


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
