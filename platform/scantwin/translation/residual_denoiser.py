"""What the coarse prediction leaves over at each uptake, on average and in size: measured in training.

A network that learns absolute errors predicts the median of what a CT leaves open. Uptake is skewed: where it
is hot, patients have more than the median on average, and where it is lowest a little more as well. The
residual is therefore taken about the mean, and what a sample adds to that has no level of its own.
"""

from __future__ import annotations

from typing import Final

import torch
from scipy.optimize import isotonic_regression
from torch import Tensor

from scantwin.learning.system import Batch
from scantwin.learning.unet import Denoiser
from scantwin.units import SUV_RANGE

_RATE: Final = 0.01
"""How fast the memory moves: it spans some hundred batches. The coarse prediction is frozen meanwhile."""

_MARGIN: Final = 8
"""A patch's edge over the width of the margin on either side of it."""

_NORMAL: Final = 1.2533
"""SD of a normal distribution over its mean absolute deviation: sqrt(pi / 2)."""

_LEAST: Final = 0.02
"""Smallest scale that is accepted [g/ml]: a fifth of the noise of a cold tissue."""

_STEEPEST: Final = 2.0
"""Largest growth of the scale with uptake that is accepted."""

_EDGES: Final = (
    0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 14.0
)  # fmt: skip
"""Edges between bins of coarse predictions [g/ml]: finest where most tissue is."""

_DOUBT: Final = 5e-4
"""Share of the memory's voxels below which a bin's mean residual counts by less than half: some 200 voxels of
fifty patches, which are one lesion's."""


class ResidualDenoiser(Denoiser):
    """A denoiser that remembers, for one district, the mean and the scale of the errors it is to denoise.

    With one scale for all districts the errors of limbs were a third of the noise that was assumed for them,
    and samples were too noisy by as much.
    """

    sums: Tensor
    """(4, bins) by bin of coarse predictions c, which sites may average like weights: share of the body's
    voxels, and over these the sums of c, of true uptake - c, and of |true uptake - mean there| [g/ml]."""

    def __init__(self, inputs: int, channels: tuple[int, ...], features: int) -> None:
        super().__init__(inputs, channels, features)
        self.register_buffer("sums", torch.zeros(4, len(_EDGES) + 1))

    def remember(self, coarse: Tensor, batch: Batch) -> None:
        """Moves the memory towards what `coarse` [g/ml] left over of a batch.

        Only patches drawn from the whole body count, as lesions fill more of the others than of a patient;
        only without their margins, where a network sees less around it than in a scan; and only the body.
        """
        fair = torch.zeros_like(batch.weight, dtype=torch.bool)
        margin = batch.weight.shape[-1] // _MARGIN
        middle = slice(margin, -margin or None)
        fair[..., middle, middle, middle] = batch.anywhere.view(-1, 1, 1, 1, 1) > 0
        inside = fair & batch.body
        if inside.any():
            c, true = coarse[inside], batch.suv[inside]
            bins = torch.bucketize(c, c.new_tensor(_EDGES))
            told = torch.stack([torch.ones_like(c), c, true - c, (true - self.mean(c)).abs()])
            seen = torch.zeros_like(self.sums).index_add_(1, bins, told) / len(c)
            self.sums.lerp_(seen, _RATE)

    def mean(self, coarse: Tensor) -> Tensor:
        """Mean uptake of patients [g/ml] where the coarse prediction is `coarse` [g/ml].

        Where few voxels had that prediction, it is nearer to `coarse` itself. It never falls as that rises.
        """
        seen = self.sums[0] > 0
        if not seen.any():
            return coarse
        share, told, left = self.sums[:3, seen].double().cpu()
        # Half-precision sums, or a malicious site's, may lead out of their bin: the order must be kept.
        edges = torch.tensor([0.0, *_EDGES, SUV_RANGE[1]], dtype=torch.float64)
        kept = seen.cpu()
        at = (told / share).clamp(edges[:-1][kept], edges[1:][kept])
        believed = left / (share + _DOUBT)
        found = isotonic_regression((at + believed).numpy(), weights=share.numpy()).x
        return coarse + _interpolated(coarse, at.to(coarse), (torch.from_numpy(found) - at).to(coarse))

    def scale(self, coarse: Tensor, guess: tuple[float, float]) -> Tensor:
        """SD [g/ml] of what is left over where the coarse prediction is `coarse` [g/ml]: a line through the
        bins, or by a `guess` of (a, b) while nothing is known."""
        share, told, _, error = self.sums.double().cpu()
        total = float(share.sum())
        if total < _RATE / 2:
            return guess[0] + guess[1] * coarse
        seen = share > 0
        at = told[seen] / share[seen]
        c, cc = (float((share[seen] * at**power).sum()) / total for power in (1, 2))
        e, ce = float(error.sum()) / total, float((at * error[seen]).sum()) / total
        growth = min(max((ce - c * e) / max(cc - c * c, 1e-6), 0.0), _STEEPEST)
        start = max(e - growth * c, _LEAST)
        return _NORMAL * (start + growth * coarse)


def _interpolated(x: Tensor, at: Tensor, values: Tensor) -> Tensor:
    """Linear interpolation at `x` of `values` at the rising places `at`; constant beyond the ends."""
    if len(at) == 1:
        return values.expand_as(x)
    after = torch.bucketize(x, at).clamp(1, len(at) - 1)
    before = after - 1
    share = ((x - at[before]) / (at[after] - at[before]).clamp(min=1e-6)).clamp(0.0, 1.0)
    return values[before] + share * (values[after] - values[before])
