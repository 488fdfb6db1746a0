"""Noise levels of a diffusion: how much image and how much noise there is at each step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_OFFSET = 0.008
"""s of arXiv 2102.09672, eq. 17: keeps the first steps from being too small."""

_LEAST = 1e-4
"""Smallest share of the image's variance at the last step: it must have a logarithm."""

_LAST = 0.01
"""The last noise level of `descent_by_snr`, as a share of the steps."""


@dataclass(frozen=True)
class Levels:
    """A noised image at step t is alpha[t] * image + sigma[t] * noise; step 0 is the image itself."""

    alpha: Tensor
    """(steps + 1,)"""
    sigma: Tensor
    """(steps + 1,); alpha ** 2 + sigma ** 2 = 1."""

    def noised(self, image: Tensor, noise: Tensor, step: Tensor) -> Tensor:
        """`image` (B, ...) noised to `step` (B,)."""
        return _at(self.alpha, step, image) * image + _at(self.sigma, step, image) * noise

    def velocity(self, image: Tensor, noise: Tensor, step: Tensor) -> Tensor:
        """The v that a denoiser predicts (arXiv 2202.00512, App. D): alpha * noise - sigma * image."""
        return _at(self.alpha, step, image) * noise - _at(self.sigma, step, image) * image

    def signal(self, step: Tensor, like: Tensor) -> Tensor:
        """The image's share of the variance at `step` (B,), alpha ** 2, with as many axes as `like`."""
        return _at(self.alpha, step, like) ** 2

    def image(self, noised: Tensor, velocity: Tensor, step: Tensor) -> Tensor:
        """The clean image behind `noised` and its velocity: alpha * noised - sigma * velocity."""
        return _at(self.alpha, step, noised) * noised - _at(self.sigma, step, noised) * velocity


@dataclass(frozen=True)
class Preconditioning:
    """Composes a velocity from the noised image and a network's output, each about as large as the other.

    velocity = skip * noised + out * network(into * noised): the best guess from the image's SD alone, plus
    the network's output in units of the SD that is left. arXiv 2206.00364, table 1, for a velocity.
    """

    skip: Tensor
    out: Tensor
    into: Tensor
    """(B, 1, ...) each."""

    @classmethod
    def of(cls, levels: Levels, step: Tensor, sd: float | Tensor, like: Tensor) -> Preconditioning:
        """For `step` (B,) and images of mean 0 and `sd`, one or per channel or voxel; axes as `like`."""
        alpha, sigma = (_at(values, step, like) for values in (levels.alpha, levels.sigma))
        noised = (alpha**2 * sd**2 + sigma**2).sqrt()
        return cls(alpha * sigma * (1 - sd**2) / noised**2, sd / noised, 1 / noised)


def cosine(steps: int) -> Levels:
    """The cosine schedule of arXiv 2102.09672, eq. 17, over `steps` steps."""
    t = torch.arange(steps + 1, dtype=torch.float64) / steps
    share = torch.cos((t + _OFFSET) / (1 + _OFFSET) * math.pi / 2) ** 2
    share = _LEAST + (1 - _LEAST) * share / share[0]
    return Levels(share.sqrt().float(), (1 - share).clamp(min=0).sqrt().float())


def descent(start: int, count: int) -> list[int]:
    """Steps from `start` down to 0 for `count` moves of a sampler, fewer where two steps are alike."""
    steps = [round(start * (count - k) / count) for k in range(count + 1)]
    return list(dict.fromkeys(steps))


def descent_by_snr(levels: Levels, start: int, count: int) -> list[int]:
    """Like `descent`, but even in the logarithm of the signal-to-noise ratio down to little noise, then 0.

    Few such steps settle the image at little noise (arXiv 2206.00927). With evenly spaced ones the last takes
    off much noise at once, and fine texture with it.
    """
    count = min(count, start)
    half_snr = levels.alpha.double().log() - levels.sigma.double().clamp(min=1e-12).log()
    last = min(max(1, round(_LAST * (len(levels.alpha) - 1))), start)
    wanted = torch.linspace(0.0, 1.0, count, dtype=torch.float64) * (half_snr[last] - half_snr[start])
    nearest = [int((half_snr[1:] - half_snr[start] - far).abs().argmin()) + 1 for far in wanted]
    steps = [*nearest, 0]
    for k in reversed(range(count)):  # each at least one above the next
        steps[k] = min(max(steps[k], steps[k + 1] + 1), start - k)
    return steps


def _at(values: Tensor, step: Tensor, like: Tensor) -> Tensor:
    """`values` at `step` (B,), on the device of `like` and with as many axes."""
    found = values.to(like.device)[step.to(like.device)]
    return found.view(-1, *[1] * (like.dim() - 1))
