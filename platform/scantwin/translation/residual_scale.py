"""How large errors of the coarse prediction are at which uptake: measured while training, not assumed."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from scantwin.learning.unet import Denoiser

_RATE: Final = 0.05
"""How fast the memory moves: it spans some twenty steps, in which the coarse prediction changes little."""

_NORMAL: Final = 1.2533
"""Standard deviation of a normal distribution over its mean absolute deviation: sqrt(pi / 2)."""

_LEAST: Final = 0.02
"""Smallest scale that is believed [g/ml]: a fifth of the noise of a cold tissue."""

_STEEPEST: Final = 2.0
"""Largest growth of the scale with uptake that is believed."""


class ResidualDenoiser(Denoiser):
    """A denoiser that remembers the scale of what it denoises: a + b * coarse [g/ml], one line a district.

    With one scale for all districts the errors of limbs were a third of the noise that was taken for them,
    and samples had that much too much of it.
    """

    moments: Tensor
    """Sums that sites may average like weights: 1, c, c * c, e, c * e of coarse predictions c and their
    absolute errors e [g/ml], in the body."""

    def __init__(self, inputs: int, channels: tuple[int, ...], features: int) -> None:
        super().__init__(inputs, channels, features)
        self.register_buffer("moments", torch.zeros(5))

    def remember(self, coarse: Tensor, suv: Tensor, weight: Tensor) -> None:
        """Moves the memory by a patch's body, where `weight` is 1 or more."""
        inside = weight >= 1.0
        if inside.any():
            c, e = coarse[inside], (suv - coarse)[inside].abs()
            seen = torch.stack([torch.ones_like(c), c, c * c, e, c * e]).mean(1)
            self.moments.lerp_(seen, _RATE)

    def scale(self, coarse: Tensor, guess: tuple[float, float]) -> Tensor:
        """SD [g/ml] of the error at each voxel of `coarse`; by a `guess` of (a, b) while nothing is known."""
        total, c, cc, e, ce = (float(value) for value in self.moments)
        if total < _RATE / 2:
            return guess[0] + guess[1] * coarse
        c, cc, e, ce = c / total, cc / total, e / total, ce / total
        growth = min(max((ce - c * e) / max(cc - c * c, 1e-6), 0.0), _STEEPEST)
        start = max(e - growth * c, _LEAST)
        return _NORMAL * (start + growth * coarse)
