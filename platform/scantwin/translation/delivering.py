"""From samples of a PET to the delivered one, without a drift of its mean."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from scantwin.learning.recipe_parts import Diffusion
from scantwin.learning.system import Prediction

_SLOW = 7
"""Edge [voxels] of the box over which the samples' mean is held: 28 mm at 4 mm, wider than a hot spot."""


def anchored(samples: Tensor, level: Tensor, body: Tensor, share: float) -> Tensor:
    """`samples` (S, 1, D, H, W) minus `share` of the slow part of (their mean - `level`).

    The small biases of a denoiser add up over steps, and it must not move the mean of an organ. `level` is
    what the samples were drawn about, `body` (1, 1, D, H, W) says where there is tissue. All in [g/ml].
    """
    if not share:
        return samples
    inside = body.to(samples.dtype)
    drift = (samples.mean(0, keepdim=True) - level) * inside
    slow = _local_mean(drift) / _local_mean(inside).clamp(min=1e-3)
    return samples - share * slow * inside


def deliver(samples: Tensor, coarse: Tensor, level: Tensor, rules: Diffusion) -> Prediction:
    """The PET and the samples' SD [g/ml] (1, 1, D, H, W) from `samples` (S, 1, D, H, W), as the recipe says.

    `coarse` is the coarse prediction and `level` the mean uptake of patients there [g/ml].
    """
    spread = samples.std(0, keepdim=True) if len(samples) > 1 else torch.zeros_like(coarse)
    one = samples[:1]
    if rules.delivered == "sample":
        return Prediction(one, spread)
    if rules.delivered == "mean":
        return Prediction(samples.mean(0, keepdim=True), spread)
    # Gated by the coarse prediction alone: a sample let in only where it is hot would be too hot on average.
    hot = level + rules.blend_share * (one - level)
    return Prediction(coarse + _heat(coarse, rules.blend_from) * (hot - coarse), spread)


def _heat(suv: Tensor, limits: tuple[float, float]) -> Tensor:
    """0 where `suv` [g/ml] is below the lower limit, 1 above the upper one, smooth in between."""
    low, high = limits
    hot = ((suv - low) / (high - low)).clamp(0.0, 1.0)
    return hot * hot * (3 - 2 * hot)


def _local_mean(image: Tensor) -> Tensor:
    """Means over a box, of those of its voxels that there are: one axis after the other."""
    for axis in (-3, -2, -1):
        kernel = [1, 1, 1]
        kernel[axis] = min(_SLOW, image.shape[axis] - 1 + image.shape[axis] % 2)
        beside = [edge // 2 for edge in kernel]
        image = F.avg_pool3d(image, kernel, stride=1, padding=beside, count_include_pad=False)
    return image
