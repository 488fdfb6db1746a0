"""Views: what the denoiser of whole volumes learns from, each cut, stretched and encoded only once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from scantwin.generation.autoencoder import DOWN
from scantwin.generation.fields import Field, shares
from scantwin.generation.hu_scale import to_unit
from scantwin.imaging.organs import ORGAN_CLASSES
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.recipe import Recipe
from scantwin.learning.recipe_generation import Volumes
from scantwin.units import AIR_HU

_LIMIT = 2.0
"""Standard deviations beyond which no stretch is drawn."""


@dataclass(eq=False)
class View:
    """A study's field of view, stretched a little, or a part of it that the denoiser can afford.

    Everything is computed when it is first asked for. Axes (1, channel, z, y, x).
    """

    study: PreparedStudy
    rules: Volumes
    field: Field
    """The whole field of view, stretched."""
    part: tuple[slice, slice, slice]
    """The part, within the padded field [voxels]."""
    device: torch.device
    latent: Tensor | None = None
    """The latent from a frozen autoencoder, kept for whoever uses the view again."""

    @property
    def latent_voxels(self) -> int:
        """Its number of latent voxels."""
        return math.prod((side.stop - side.start) // DOWN for side in self.part)

    @property
    def field_m(self) -> Tensor:
        """(3,) the whole field of view (z, y, x) [m]."""
        sides = zip(self.field.shape, self.field.spacing_mm, strict=True)
        return torch.tensor([n * step / 1000.0 for n, step in sides], device=self.device)

    def image(self) -> Tensor:
        """CT on the bent scale."""
        hu = self._stretched(torch.tensor(self.study.hu)[None, None], "trilinear")
        cut_out = np.ascontiguousarray(self.field.pad(hu, AIR_HU)[self.part])
        return to_unit(torch.from_numpy(cut_out).float())[None, None].to(self.device)

    @cached_property
    def place(self) -> Tensor:
        """Place channels on the latent grid."""
        coarse = (slice(s.start // DOWN, s.stop // DOWN) for s in self.part)
        return self.field.place()[(slice(None), slice(None), *coarse)].to(self.device)

    @cached_property
    def mask(self) -> Tensor | None:
        """Share of each class on the latent grid; None if the recipe has no masks."""
        if self.rules.masks == "none":
            return None
        classes = self._stretched(torch.tensor(mask_classes(self.study, self.rules))[None, None], "nearest")
        cut_out = np.ascontiguousarray(self.field.pad(classes, 0)[self.part])
        return shares(np.asarray(cut_out, np.uint8), class_count(self.rules)).to(self.device)

    def _stretched(self, image: Tensor, how: str) -> NDArray[np.generic]:
        if tuple(image.shape[2:]) != self.field.shape:
            image = F.interpolate(image, self.field.shape, mode=how)
        return image[0, 0].numpy()


def view_of(
    study: PreparedStudy, recipe: Recipe, random: np.random.Generator, device: torch.device,
    stretch: float = 0.0,
) -> View:  # fmt: skip
    """A view of a study, each axis stretched with SD `stretch`; of a large study, a random part."""
    rules = recipe.volumes or Volumes()
    factors = 1.0 + np.clip(random.normal(0, 1, 3), -_LIMIT, _LIMIT) * stretch
    shape = tuple(max(round(n * f), 1) for n, f in zip(study.hu.shape, factors, strict=True))
    field = Field.of(shape, recipe.spacing_mm)
    z, y, x = (
        _some(n, min(n, largest), random) for n, largest in zip(field.padded, rules.window, strict=True)
    )
    return View(study, rules, field, (z, y, x), device)


def mask_classes(study: PreparedStudy, rules: Volumes) -> NDArray[np.uint8]:
    """What an adapter is told of a study (z, y, x): its organ classes, or 1 in the body."""
    if rules.masks == "organs" and study.organs is not None:
        return study.organs
    return study.body.astype(np.uint8)


def class_count(rules: Volumes) -> int:
    """How many classes a mask has."""
    return len(ORGAN_CLASSES) if rules.masks == "organs" else 1


def _some(length: int, edge: int, random: np.random.Generator) -> slice:
    start = int(random.integers((length - edge) // DOWN + 1)) * DOWN
    return slice(start, start + edge)
