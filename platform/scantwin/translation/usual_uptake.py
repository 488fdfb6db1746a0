"""What is usual where: uptake by place in the body, learnt from CTs and PETs of different patients.

Without pairs nobody sees how hot a voxel of a CT is. But PETs tell how hot its place usually is, and CTs what
tissue usually lies there; each is plain regression and needs no pair. The expected uptake of a voxel is that
of its CT number by the tissue curve, multiplied by how much hotter its place is than the curve predicts for
what usually lies there: in a brain seven times (docs/decisions/0010-usual-uptake.md).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scantwin.learning.prepared import channel

PLACES: Final = 4
"""Channels of `place_of`."""

_LEAST_HEIGHT: Final = 0.1
"""Least height of a district, in the unit of the channels `below-top` and `above-bottom`: a slice has 0."""

_MIDDLE: Final = (0.5, 0.5, 0.0, 0.0)
_SPREAD: Final = 8.0
"""Centre of each place channel, and the factor on the distance from it: from numbers between 0 and 1, smooth
units are slow to learn a border such as the skull's (docs/decisions/0010-usual-uptake.md)."""
_WIDTH: Final = 48
_COARSE: Final = 2
"""Voxels along an axis that share a place: it changes slowly, and all would cost eight times as much."""
_FAINT_SUV: Final = 0.05
"""Uptake [g/ml] added everywhere: logarithms need values above zero, and air has next to none."""
_MOST: Final = 3.0
"""Largest logarithm of how much hotter a place may be: a factor of twenty. A bladder has ten times the uptake
of muscle (sources.md, 1)."""


Told = tuple[Tensor, Tensor, Tensor]
"""A network's inputs (B, C, D, H, W), SUV [g/ml] and weights (B, 1, D, H, W) of patches."""


def place_of(inputs: Tensor) -> Tensor:
    """How deep each voxel lies, how high in the district, how far back and left: (B, 4, D, H, W) from inputs
    (B, C, D, H, W).

    Not how fat the patient is, how tall the district or how wide the field of view: these tell who it is.
    """
    below_top, above_bottom = channel(inputs, "below-top"), channel(inputs, "above-bottom")
    height = above_bottom / (below_top + above_bottom).clamp(min=_LEAST_HEIGHT)
    return torch.cat(
        [channel(inputs, "skin-depth"), height, channel(inputs, "back"), channel(inputs, "left")], dim=1
    )


class UsualUptake(nn.Module):
    """Predicts what the PETs at a place take up on average, and what its CTs would by the tissue curve.

    Both are logarithms of means: medians made a PET pale (docs/decisions/0010-usual-uptake.md, Later).
    """

    quicker = 20.0
    """How much faster these weights move than others: four numbers in, and nothing to compete with."""

    middle: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(a, b)
            for a, b in zip((PLACES, _WIDTH, _WIDTH, _WIDTH), (_WIDTH, _WIDTH, _WIDTH, 2), strict=True)
        )
        self.register_buffer("middle", torch.tensor(_MIDDLE), persistent=False)
        last = self.layers[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of the mean uptake [g/ml] of PETs, and of CTs by the curve, at a place (B, 4, D, H, W):
        both (B, 1, D, H, W)."""
        x = (place.movedim(1, -1) - self.middle) * _SPREAD
        for layer in self.layers[:-1]:
            x = F.silu(layer(x))
        pets, curve = self.layers[-1](x).movedim(-1, 1).split(1, dim=1)
        return pets, curve

    def error(self, pets: Told, curve: Told) -> Tensor:
        """Sum of both gamma quasi-likelihoods (Wedderburn, Biometrika 61, 1974) of what patches show.

        uptake / exp(said) + said is smallest where exp(said) is the mean uptake, whatever its distribution,
        and measures errors as shares of it: patients differ by a share (sources.md, 1).
        """
        errors: list[Tensor] = []
        for which, told in enumerate((pets, curve)):
            inputs, suv, weight = (part[..., ::_COARSE, ::_COARSE, ::_COARSE] for part in told)
            said, uptake = self(place_of(inputs))[which], suv.clamp(min=0.0) + _FAINT_SUV
            errors.append(((uptake * (-said).exp() + said) * weight).sum() / weight.sum().clamp(min=1.0))
        return errors[0] + errors[1]

    @torch.no_grad()
    def factor(self, inputs: Tensor) -> Tensor:
        """Factor on the tissue curve for `inputs` (B, C, D, H, W): (B, 1, D, H, W)."""
        pets, curve = self(F.avg_pool3d(place_of(inputs), _COARSE, ceil_mode=True))
        hotter = (pets - curve).clamp(-_MOST, _MOST)
        fine = F.interpolate(hotter, scale_factor=float(_COARSE), mode="trilinear")
        depth, height, width = inputs.shape[-3:]
        return fine[..., :depth, :height, :width].exp()
