"""Frechet distance, 2.5D: slices of the three planes go through an extractor; Gaussians are compared.

Every figure names its extractor. The project's own is a small network with fixed random weights. Its features
tell levels and blur apart, not anatomy, so the figure is called FD, not FID, and is compared only with
figures of the same extractor. Whoever has the weights of a trained network can use them
(`pretrained_features`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby, islice
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

_WIDTHS: Final = (24, 48, 64)
_SEED: Final = 20250321
"""Seed of the project's own extractor; part of its name."""
_AT_ONCE: Final = 16
"""Slices that go through an extractor together."""
_FEWEST_PIXELS: Final = 64
"""Pixels of tissue below which a slice says nothing."""
_FEWEST_ACROSS: Final = 4
"""Pixels along a side below which a slice cannot be halved twice."""


class Extractor(Protocol):
    """Turns slices into feature vectors."""

    name: str
    figure: str
    """The name of its features' distance: FID for a trained network, else FD."""

    def __call__(self, slices: Tensor) -> Tensor:
        """(N, 1, H, W) with values in 0..1 -> (N, features)."""


class RandomFeatures(nn.Module):
    """Convolutions with fixed random weights; means and deviations of the last one's channels.

    All but the first halve their input: three see 18 pixels across and tell shapes, the first alone sees 3
    and tells grain. With the same seed the first layers are the same.
    """

    figure = "FD"

    def __init__(self, widths: tuple[int, ...] = _WIDTHS) -> None:
        super().__init__()
        self.widths = widths
        self.name = f"random-conv-{'-'.join(map(str, widths))}-seed-{_SEED}"
        generator = torch.Generator().manual_seed(_SEED)
        self.layers = nn.ModuleList()
        for inputs, outputs in zip((1, *widths), widths, strict=False):
            layer = nn.Conv2d(inputs, outputs, 3, padding=1)
            weight = torch.randn(layer.weight.shape, generator=generator)
            # Without a mean of its own a filter sees structure; the deviation follows arXiv 1502.01852.
            weight = weight - weight.mean(dim=(2, 3), keepdim=True) * 0.5
            layer.weight.data = weight * (2.0 / (9 * inputs)) ** 0.5
            layer.bias.data = torch.randn(outputs, generator=generator) * 0.05  # type: ignore[union-attr]
            self.layers.append(layer)
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, slices: Tensor, where: Tensor | None = None) -> Tensor:
        """(N, 1, H, W) -> (N, 2 * last width).

        With `where` (N, 1, H, W), 1 or 0, means and deviations are taken there only: those of a region within
        its surroundings. Of a region cut out of them, the deviations would tell the outline and nothing else.
        """
        x = slices
        for number, layer in enumerate(self.layers):
            x = F.relu(layer(F.avg_pool2d(x, 2) if number else x))
        if where is None:
            return torch.cat([x.mean((2, 3)), x.std((2, 3))], dim=1)
        share = F.adaptive_avg_pool2d(where, (x.shape[-2], x.shape[-1]))
        share = share / share.sum((2, 3), keepdim=True).clamp(min=1e-6)
        mean = (x * share).sum((2, 3), keepdim=True)
        deviation = ((x - mean) ** 2 * share).sum((2, 3)).sqrt()
        return torch.cat([mean[..., 0, 0], deviation], dim=1)


class Gaussian:
    """Mean and covariance of features, gathered slice by slice."""

    def __init__(self) -> None:
        self.count = 0
        self._sum: NDArray[np.float64] | None = None
        self._squares: NDArray[np.float64] | None = None

    def add(self, features: NDArray[np.float64]) -> None:
        """Adds features (N, features)."""
        self.count += len(features)
        total, squares = features.sum(0), features.T @ features
        self._sum = total if self._sum is None else self._sum + total
        self._squares = squares if self._squares is None else self._squares + squares

    @classmethod
    def together(cls, parts: Sequence[Gaussian], times: Sequence[int] | None = None) -> Gaussian:
        """The Gaussian of all slices of `parts`, each part counted as `times` says (once by default)."""
        whole = cls()
        for part, n in zip(parts, times if times is not None else [1] * len(parts), strict=True):
            if n and part._sum is not None and part._squares is not None:
                whole.count += n * part.count
                whole._sum = n * part._sum if whole._sum is None else whole._sum + n * part._sum
                squares = n * part._squares
                whole._squares = squares if whole._squares is None else whole._squares + squares
        return whole

    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean (features,) and covariance (features, features); at least two slices must have been added."""
        if self._sum is None or self._squares is None or self.count < 2:
            raise ValueError("a Gaussian needs two slices")
        mean = self._sum / self.count
        covariance = (self._squares - self.count * np.outer(mean, mean)) / (self.count - 1)
        return mean, covariance


def slices_of(
    image: NDArray[np.float32], body: NDArray[np.bool_], value_range: tuple[float, float]
) -> Iterable[NDArray[np.float32]]:
    """Every slice of the three planes of `image` (z, y, x) with tissue, scaled to 0..1; air is 0."""
    low, high = value_range
    shown = np.where(body, np.clip((image - low) / (high - low), 0.0, 1.0), 0.0).astype(np.float32)
    for axis in range(3):
        if min(n for a, n in enumerate(shown.shape) if a != axis) < _FEWEST_ACROSS:
            continue
        for index in np.flatnonzero(body.sum(axis=tuple(a for a in range(3) if a != axis)) >= _FEWEST_PIXELS):
            yield np.take(shown, index, axis=axis)


def gather(
    into: Gaussian,
    image: NDArray[np.float32],
    body: NDArray[np.bool_],
    value_range: tuple[float, float],
    extractor: Extractor,
    every: int = 1,
) -> None:
    """Adds the features of one patient's slices, or of every `every`-th of them."""
    chosen = islice(slices_of(image, body, value_range), 0, None, every)
    for _, plane in groupby(chosen, key=lambda one: one.shape):
        while some := list(islice(plane, _AT_ONCE)):
            into.add(extractor(torch.from_numpy(np.stack(some))[:, None]).double().numpy())


def frechet_distance(one: Gaussian, two: Gaussian) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (arXiv 1706.08500, eq. 6)."""
    (m1, c1), (m2, c2) = one.moments(), two.moments()
    # tr (C1 C2)^(1/2) from the eigenvalues of the symmetric C1^(1/2) C2 C1^(1/2): no complex roots.
    values, vectors = np.linalg.eigh(c1)
    root = (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ c2 @ root), 0.0, None)).sum()
    return float(max(0.0, ((m1 - m2) ** 2).sum() + np.trace(c1) + np.trace(c2) - 2 * cross))
