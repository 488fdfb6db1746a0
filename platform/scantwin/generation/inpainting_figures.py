"""The errors of CT inpainting on a held-out patient, and a picture of what it makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from scantwin.generation.hu_scale import to_hu
from scantwin.generation.slice_networks import middle
from scantwin.generation.slices import MIDDLE, SliceBatch, SliceSampler
from scantwin.imaging.study import District
from scantwin.imaging.volume import Volume
from scantwin.learning.prepared import PreparedStudy

if TYPE_CHECKING:
    from scantwin.generation.inpainting import CTInpainting, Method

_BATCHES = 2
"""Batches of patches on which a patient is measured: a few seconds' work."""


def figures(system: CTInpainting, study: PreparedStudy, district: District) -> dict[str, float]:
    """Errors [HU] of the diffusion and of the Pix2Pix inside regions of fixed patches of the patient.

    `mae` is that of one sample. A sample is as far from the truth as one truth from another, so the Pix2Pix,
    which gives the likeliest image, has the smaller one. `spread` tells the two apart: the SD of what is made
    over the SD of what is real, 1 where texture is right, near 0 where it is blurred away.
    """
    sampler = _sampler(system, study, district)
    if not sampler:
        return {}
    methods: tuple[Method, ...] = system.methods(district)
    made: dict[Method, list[Tensor]] = {method: [] for method in methods}
    real = []
    for step in range(_BATCHES):
        batch = sampler.batch(step).to(system.device)
        inside = middle(batch.region)[:, 0] > 0
        real += _values(middle(batch.image)[:, 0], inside)
        for method in methods:
            made[method] += _values(_middles(system, batch, district, method), inside)
    out = {}
    for method in methods:
        errors = torch.cat([one - truth for one, truth in zip(made[method], real, strict=True)])
        prefix = "" if method == "diffusion" else f"{method}-"
        out[f"{prefix}mae"] = float(errors.abs().mean())
        out[f"{prefix}bias"] = float(errors.mean())
        ratios = [one.std() / truth.std() for one, truth in zip(made[method], real, strict=True)]
        out[f"{prefix}spread"] = float(torch.stack(ratios).median())
    return {name: value for name, value in out.items() if np.isfinite(value)}


def shown(system: CTInpainting, study: PreparedStudy) -> dict[str, Volume]:
    """An axial slice [HU]: real, without the region, and made by each method."""
    sampler = _sampler(system, study, system.district)
    if not sampler:
        return {}
    batch = sampler.batch(0)
    first = batch.parts(len(batch.image))[0].to(system.device)
    real = first.image[0, MIDDLE]
    pictures = {"real": real, "region": torch.where(first.region[0, MIDDLE] > 0, -3.0, real)}
    for method in system.methods(system.district):
        pictures[method] = _middles(system, first, system.district, method)[0]
    spacing = study.grid.spacing
    return {
        name: Volume(to_hu(image.cpu().numpy())[None], spacing, unit="HU") for name, image in pictures.items()
    }


def _sampler(system: CTInpainting, study: PreparedStudy, district: District) -> SliceSampler:
    calm = system.recipe.sampling.model_copy(update={"hu_jitter": 0.0, "flip": ()})
    return SliceSampler([study], system.recipe.model_copy(update={"sampling": calm}), district, seed=0)


def _middles(system: CTInpainting, batch: SliceBatch, district: District, method: Method) -> Tensor:
    """The middle slice of each patch with its region regenerated (B, y, x), on the bent scale."""
    patches = zip(batch.image, batch.region, batch.classes, batch.noise, strict=True)
    return torch.stack([system.paint(district, *patch, method)[MIDDLE] for patch in patches])


def _values(images: Tensor, inside: Tensor) -> list[Tensor]:
    """CT numbers [HU] inside the region of each image (B, y, x)."""
    return [to_hu(image)[where] for image, where in zip(images, inside, strict=True)]
