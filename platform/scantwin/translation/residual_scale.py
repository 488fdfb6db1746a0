"""How large errors of the coarse prediction are at which uptake: measured while training, not assumed."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from scantwin.learning import error_scale
from scantwin.learning.unet import Denoiser

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
    """Sums (`error_scale`) of coarse predictions and their errors [g/ml], in the body."""

    def __init__(self, inputs: int, channels: tuple[int, ...], features: int) -> None:
        super().__init__(inputs, channels, features)
        self.register_buffer("moments", torch.zeros(error_scale.SUMS))

    def remember(self, coarse: Tensor, suv: Tensor, weight: Tensor) -> None:
        """Moves the memory by a patch's body, where `weight` is at least 1."""
        inside = weight >= 1.0
        if inside.any():
            seen = error_scale.sums_of(coarse[inside], (suv - coarse)[inside])
            self.moments.lerp_(seen, error_scale.RATE)

    def scale(self, coarse: Tensor, guess: tuple[float, float]) -> Tensor:
        """SD [g/ml] of the error at each voxel of `coarse`; by a `guess` of (a, b) while nothing is known."""
        if not error_scale.known(self.moments):
            return guess[0] + guess[1] * coarse
        start, growth = error_scale.line_through(self.moments, _LEAST, _STEEPEST)
        return start + growth * coarse
