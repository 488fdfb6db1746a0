"""Samplers as plain functions, named after their papers: from noise to an image in few steps.

`denoise(x, step)` predicts the clean image behind `x` at noise level `step`; `steps` falls from the level of
`x` to 0. All are deterministic: the only randomness is the noise that `x` came with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from scantwin.learning.schedules import Levels

Denoise = Callable[[Tensor, int], Tensor]
Sampler = Callable[[Denoise, Tensor, list[int], Levels], Tensor]


def ddim(denoise: Denoise, x: Tensor, steps: list[int], levels: Levels) -> Tensor:
    """Denoising diffusion implicit models, eta 0 (arXiv 2010.02502, eq. 12)."""
    alpha, sigma = levels.alpha, levels.sigma
    for now, then in zip(steps, steps[1:], strict=False):
        image = denoise(x, now)
        noise = (x - alpha[now] * image) / sigma[now]
        x = alpha[then] * image + sigma[then] * noise
    return x


def dpmpp_2m(denoise: Denoise, x: Tensor, steps: list[int], levels: Levels) -> Tensor:
    """DPM-Solver++ (2M), the multistep method of second order (arXiv 2211.01095, algorithm 2)."""
    return _second_order(denoise, x, steps, levels, corrected=False)


def unipc(denoise: Denoise, x: Tensor, steps: list[int], levels: Levels) -> Tensor:
    """UniPC of second order with B(h) = e^h - 1 (arXiv 2302.04867): DPM-Solver++ (2M) whose every move is
    corrected by the denoiser's prediction at its end, which the next move needs anyway."""
    return _second_order(denoise, x, steps, levels, corrected=True)


def _second_order(
    denoise: Denoise, x: Tensor, steps: list[int], levels: Levels, *, corrected: bool
) -> Tensor:
    """The last move, to no noise at all, is of first order: the clean image as the denoiser predicts it."""
    alpha, sigma = levels.alpha.double(), levels.sigma.double()
    half_snr = alpha.log() - sigma.clamp(min=1e-12).log()  # lambda of the papers
    earlier: _Move | None = None
    for now, then in zip(steps, steps[1:], strict=False):
        image = denoise(x, now)
        if then == 0:
            return image
        if earlier is not None and corrected:
            x = earlier.corrected(image)
        size = float(half_snr[then] - half_snr[now])
        reach = float(alpha[then]) * -math.expm1(-size)
        straight = float(sigma[then] / sigma[now]) * x + reach * image
        ratio = size / earlier.size if earlier else 0.0
        slope = ratio * (image - earlier.image) if earlier else torch.zeros_like(image)
        earlier = _Move(image, slope, straight, size, reach, ratio)
        x = earlier.predicted
    return x


@dataclass(frozen=True)
class _Move:
    """A move from one noise level to the next."""

    image: Tensor
    """The denoiser's prediction at the start of the move."""
    slope: Tensor
    """How much that will have changed by the end of the move if it goes on as during the previous move."""
    straight: Tensor
    """Where the move leads if the image stays as it is."""
    size: float
    """Its length in half the logarithm of the signal-to-noise ratio: h of the papers."""
    reach: float
    """Share of the image that enters."""
    ratio: float
    """Its size over that of the previous move; 0 for the first."""

    @property
    def predicted(self) -> Tensor:
        """Where it leads, by the predictions before its end (UniP-2, which is 2M)."""
        return self.straight + self.reach * self.slope / 2

    def corrected(self, at_end: Tensor) -> Tensor:
        """Where it leads, given the denoiser's prediction at its end (UniC-2; UniC-1 for a first move)."""
        change = at_end - self.image
        if self.ratio == 0:
            return self.straight + self.reach * change / 2
        # These weights integrate a parabola through all three images exactly: the paper's R_2 and g_2 with
        # r_1 = -1 / ratio, for a denoiser that predicts images (h is negative there).
        negative, whole = -self.size, math.expm1(-self.size)
        second = whole / negative - 1
        third = 2 * (second / negative - 1 / 2)
        past = (second - third) / whole / (1 + 1 / self.ratio)
        return self.straight + self.reach * (past * self.slope + (second / whole - past) * change)


SAMPLERS: Final[dict[str, Sampler]] = {"ddim": ddim, "dpmpp_2m": dpmpp_2m, "unipc": unipc}
