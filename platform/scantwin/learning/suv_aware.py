"""The SUV-aware terms: a model is judged by its hottest spots and its mean uptake, not by its average voxel.

Both are taken in the lesions of a patch if they are known, otherwise in its body.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from scantwin.learning.recipe_parts import Losses
from scantwin.learning.system import Batch

_HOT_SHARE: Final = 0.05
"""Share of a region's voxels that form its hottest spot, softly: about one millilitre of a 25 ml lesion,
the volume of SUVpeak."""

_SOFTNESS: Final = 0.5
"""Width [g/ml] of the soft threshold: some twice the noise of a clinical PET's liver (sources.md, 4)."""

_SMALLEST_LESION: Final = 8
"""Voxels below which a lesion in a patch is only a cut edge of one: half a millilitre at 4 mm."""


def regions(batch: Batch) -> Tensor:
    """Mask of the voxels that count (B, 1, D, H, W), 0 or 1: the lesions of each patch, else its body."""
    lesions = batch.lesions
    known = lesions.flatten(1).sum(1) >= _SMALLEST_LESION
    body = batch.body.to(lesions.dtype)
    return torch.where(known.view(-1, 1, 1, 1, 1), lesions, body)


def hottest(suv: Tensor, region: Tensor) -> Tensor:
    """Soft mean [g/ml] (B,) of the hottest voxels of `suv` [g/ml] (B, 1, D, H, W) in `region`."""
    values, inside = suv.flatten(1), region.flatten(1)
    counts = (inside.sum(1) * _HOT_SHARE).clamp(min=1.0).long()
    ordered = values.detach().masked_fill(inside == 0, -torch.inf).sort(1, descending=True).values
    threshold = ordered.gather(1, (counts - 1).unsqueeze(1)).clamp(min=-1e3)
    weight = torch.sigmoid((values - threshold).detach() / _SOFTNESS) * inside
    # The weights get no gradient: a voxel is pulled to what it should be, not in or out of the hot spot.
    return (values * weight).sum(1) / weight.sum(1).clamp(min=1e-6)


def mean_uptake(suv: Tensor, region: Tensor) -> Tensor:
    """Mean [g/ml] (B,) of `suv` [g/ml] (B, 1, D, H, W) in `region`."""
    inside = region.flatten(1)
    return (suv.flatten(1) * inside).sum(1) / inside.sum(1).clamp(min=1.0)


_TERMS: Final = {"hottest": hottest, "uptake": mean_uptake}
"""The terms by the name of their weight in `Losses`."""


def errors(said: Tensor, batch: Batch, weights: Losses) -> dict[str, Tensor]:
    """Mean absolute errors [g/ml] of the predicted PET `said` [g/ml] over the batch, for weighted terms."""
    terms = {name: term for name, term in _TERMS.items() if getattr(weights, name)}
    if not terms:
        return {}
    region = regions(batch)
    return {n: (term(said, region) - term(batch.suv, region)).abs().mean() for n, term in terms.items()}


def weighted(found: dict[str, Tensor], weights: Losses) -> list[Tensor]:
    """The errors `found` by `errors`, each times its weight, to be added to a loss."""
    return [getattr(weights, name) * value for name, value in found.items()]
