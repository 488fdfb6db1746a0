"""The usual latents at each place of a field of view: their mean and SD, learnt as sums.

A denoiser starts from them, and they need no gradient descent. Air is certain in the corners, a trunk in the
middle; in between, the SD says how open it is. On phantoms at 8 mm this guess alone, without any network, was
at little noise as near to held-out latents as a denoiser trained for half an hour from one SD for all places
(docs/generation.md). Sites may average the sums like weights.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scantwin.generation.fields import ACROSS_MM

_CELLS: Final = (36, 10, 14)
"""Number of distinct places (z, y, x). Along the body they are fractions of the field of view, so that organs
of tall and short patients coincide; across it they are some 5 cm."""

_REACH_MM: Final = (250.0, 350.0)
"""From the middle to the last cells, back to front and from side to side [mm]: the largest patients' skin."""

_RATE: Final = 0.005
"""How fast the sums move: they span some two hundred windows. With a few they would be the last patients'."""

_LEAST_SD: Final = 0.05
"""Smallest SD of latents at a place: what never varied among few patients may vary in the next."""


class UsualLatents(nn.Module):
    """Sums of latents by place, and the mean and SD computed from them."""

    def __init__(self, latents: int) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("weight", torch.zeros(1, math.prod(_CELLS)))
        self.register_buffer("total", torch.zeros(latents, math.prod(_CELLS)))
        self.register_buffer("squares", torch.zeros(latents, math.prod(_CELLS)))
        self.seen: Tensor
        self.weight: Tensor
        self.total: Tensor
        self.squares: Tensor

    def remember(self, place: Tensor, latent: Tensor) -> None:
        """Moves the sums towards a window: place channels (1, 4, D, H, W), latents (1, C, D, H, W)."""
        sides = torch.tensor(_CELLS, device=place.device) - 1
        # (x, y, z) in -1..1 -> the nearest cell (z, y, x).
        cell = ((_where(place)[0].flatten(0, 2).flip(1).clamp(-1, 1) + 1) / 2 * sides).round().long()
        flat = (cell[:, 0] * _CELLS[1] + cell[:, 1]) * _CELLS[2] + cell[:, 2]
        values = latent[0].flatten(1)
        self.seen.lerp_(torch.ones_like(self.seen), _RATE)
        for sums, added in (
            (self.weight, torch.ones_like(values[:1])), (self.total, values), (self.squares, values**2),
        ):  # fmt: skip
            sums.lerp_(torch.zeros_like(sums).index_add_(1, flat, added), _RATE)

    def forward(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and SD at `place` (1, 4, D, H, W): (1, C, D, H, W) each; 0 and 1 before anything was seen."""
        if not self.seen:
            nothing = torch.zeros(1, len(self.total), *place.shape[2:], device=place.device)
            return nothing, nothing + 1.0
        everywhere = self.weight.sum()
        mean, square = (sums.sum(1, keepdim=True) / everywhere for sums in (self.total, self.squares))
        # The average over all places counts as much as one window of this place.
        one = _RATE * self.weight.mean() / self.seen
        weight = self.weight + one
        usual = (self.total + one * mean) / weight
        spread = ((self.squares + one * square) / weight - usual**2).clamp(min=_LEAST_SD**2).sqrt()
        cells = torch.cat([usual, spread]).view(1, -1, *_CELLS)
        found = F.grid_sample(cells, _where(place), padding_mode="border", align_corners=True)
        near, sd = found.chunk(2, dim=1)
        return near, sd


def _where(place: Tensor) -> Tensor:
    """Places (1, D, H, W, 3) as (x, y, z), from -1 at the first cell to 1 at the last."""
    below, above, back, left = place[0]
    deep, wide = (ACROSS_MM / reach for reach in _REACH_MM)
    return torch.stack([left * wide, back * deep, 2 * below / (below + above) - 1], dim=-1)[None]
