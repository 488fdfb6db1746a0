"""The networks of inpainting, which see three slices at a time: a denoiser and a Pix2Pix generator.

Both see the known CT outside the region, the region itself, and what each voxel in it is to become.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from scantwin.generation.class_density import from_deviation
from scantwin.generation.slices import SEEN
from scantwin.generation.texture import noise_of, texture_around
from scantwin.imaging.organs import ORGAN_CLASSES
from scantwin.learning.unet import Denoiser, UNet

_TINY: Final = 1e-4
"""Added to texture before taking its logarithm: a hundredth of a Hounsfield unit."""
_LOG_OF_A_NORMAL: Final = 0.635
"""Minus the mean of log |x| of a standard normal x: (Euler's gamma + log 2) / 2."""
_RATE: Final = 0.05
"""How fast the memory moves: it spans some twenty steps."""


class _Seeing(nn.Module):
    """A learnt embedding of what goes into each voxel, stacked with the known image and the region."""

    def __init__(self, class_features: int) -> None:
        super().__init__()
        self.meaning = nn.Embedding(len(ORGAN_CLASSES) + 1, class_features)
        self.channels = SEEN * (2 + class_features)

    def forward(self, image: Tensor, region: Tensor, classes: Tensor, *more: Tensor) -> Tensor:
        """(B, slices, H, W) each -> (B, channels, H, W); `more` is stacked on top.

        Classes are shown inside the region only: outside, the CT itself says what is there.
        """
        meant = self.meaning(torch.where(region > 0, classes, 0)).permute(0, 1, 4, 2, 3).flatten(1, 2)
        seen = torch.cat([image, region, meant, *more], dim=1)
        return seen.contiguous(memory_format=torch.channels_last)


class SliceDenoiser(nn.Module):
    """Denoises the texture that the painter leaves out, in units of its strength.

    The strength is measured in what is known of the same class around the region. For classes that are not
    there, a memory holds how strong their texture is in multiples of the CT's noise.
    """

    typical: Tensor
    """For each class a weight, above 0 if it was seen, and that weight times the mean of log(texture / the
    CT's noise). Sites may average it like weights."""

    def __init__(self, class_features: int, channels: tuple[int, ...], time_features: int) -> None:
        super().__init__()
        self.seeing = _Seeing(class_features)
        self.denoiser = Denoiser(self.seeing.channels + SEEN, channels, time_features, dimensions=2)
        self.register_buffer("typical", torch.zeros(len(ORGAN_CLASSES) + 1, 2))

    @property
    def learnt(self) -> bool:
        """Whether it has changed at all: one that never did draws noise."""
        return bool(self.denoiser.body.head.weight.any())

    def forward(
        self, noised: Tensor, painted: Tensor, region: Tensor, classes: Tensor, level: Tensor
    ) -> Tensor:
        """(B, slices, H, W) each, level (B,) in 0..1 -> the velocity of the middle slice (B, 1, H, W).

        `painted` is the CT outside the region and the painter's prediction inside, `noised` the noised
        texture, in units of `sizes`.
        """
        return torch.as_tensor(self.denoiser(self.seeing(painted, region, classes, noised * region), level))

    def remember(self, texture: Tensor, told: Tensor, noise: Tensor, classes: Tensor) -> None:
        """Updates the memory with `texture` (B, slices, H, W) where `told`; `noise` (B, 1) is each CT's."""
        ratio = ((texture.abs() + _TINY) / noise[..., None, None]).log()[told]
        classes = classes[told]
        for label in torch.unique(classes).tolist():
            row, seen = self.typical[label], ratio[classes == label].mean()
            # The first value of a class is taken as it is; later ones move its mean.
            row.lerp_(torch.stack([torch.ones_like(seen), seen]), _RATE if row[0] > 0 else 1.0)

    def sizes(self, image: Tensor, region: Tensor, classes: Tensor) -> Tensor:
        """SD of the texture in each voxel, on the bent scale. All are (B, slices, H, W).

        Taken from the CT itself around `region`, else from the memory, else the CT's noise.
        """
        seen, mean = self.typical.unbind(1)
        times = torch.where(seen > 0, (mean / seen.clamp(min=1e-6) + _LOG_OF_A_NORMAL).exp(), 1.0)
        return texture_around(image, region, classes, times * noise_of(image, region))


class SlicePainter(nn.Module):
    """The Pix2Pix generator: predicts the middle slice in one evaluation."""

    def __init__(self, class_features: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.seeing = _Seeing(class_features)
        self.body = UNet(self.seeing.channels, 1, channels, dimensions=2)
        nn.init.zeros_(self.body.head.weight)
        nn.init.zeros_(self.body.head.bias)  # type: ignore[arg-type]

    @property
    def learnt(self) -> bool:
        """Whether it has changed at all: one that never did returns the levels it is given."""
        return bool(self.body.head.weight.any())

    def forward(self, image: Tensor, region: Tensor, classes: Tensor, levels: Tensor) -> Tensor:
        """(B, slices, H, W) each -> (B, 1, H, W) on the bent scale. Untrained it returns `levels`
        (B, 1, H, W), those of the classes around (`levels_around`)."""
        said = torch.as_tensor(self.body(self.seeing(image * (1 - region), region, classes)))
        return from_deviation(said.float(), middle(classes), levels)


def middle(slices: Tensor) -> Tensor:
    """The middle one of an odd number of slices (B, slices, H, W): (B, 1, H, W)."""
    at = slices.shape[1] // 2
    return slices[:, at : at + 1]
