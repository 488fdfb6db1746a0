"""Samplers as plain functions, named after their papers: from noise to an image in few steps.

`denoise(x, step)` says the clean image behind `x` at noise level `step`; `steps` falls from the level of `x`
to 0. Both are deterministic: what is random is the noise that `x` came with.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """DPM-Solver++ (2M), the multistep method of second order (arXiv 2211.01095, algorithm 2).

    Its last move, to no noise at all, is of first order: that is the clean image as the denoiser says it.
    """
    alpha, sigma = levels.alpha.double(), levels.sigma.double()
    half_snr = alpha.log() - sigma.clamp(min=1e-12).log()  # lambda of the paper
    earlier: Tensor | None = None
    stride = torch.zeros((), dtype=torch.float64)
    for now, then in zip(steps, steps[1:], strict=False):
        image = denoise(x, now)
        if then == 0:
            return image
        step = half_snr[then] - half_snr[now]
        straight = image
        if earlier is not None:
            weight = float(step / (2 * stride))
            straight = (1 + weight) * image - weight * earlier
        move = float(-alpha[then] * torch.expm1(-step))
        x = float(sigma[then] / sigma[now]) * x + move * straight
        earlier, stride = image, step
    return x


SAMPLERS: Final[dict[str, Sampler]] = {"ddim": ddim, "dpmpp_2m": dpmpp_2m}
