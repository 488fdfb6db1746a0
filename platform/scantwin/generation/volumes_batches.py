"""What volumes are learnt from: patches for the autoencoder, whole bodies or windows for the denoiser.

Every random choice depends on (seed, step) only, the diffusion's noise included. A batch cuts what it is
asked for: which of the networks learns just now is the system's business.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from scantwin.generation.autoencoder import DOWN
from scantwin.generation.fields import Field, shares
from scantwin.generation.hu_scale import to_unit
from scantwin.imaging.organs import ORGAN_CLASSES, ORGAN_LABEL
from scantwin.imaging.study import District
from scantwin.learning.places import Places
from scantwin.learning.prepared import PreparedStudy, cut
from scantwin.learning.recipe import Recipe
from scantwin.learning.recipe_generation import Volumes
from scantwin.learning.system import Tensors
from scantwin.units import AIR_HU

_PROCESSOR = torch.device("cpu")

_LIMIT = 2.0
"""Standard deviations beyond which a stretch is not drawn."""


@dataclass(frozen=True)
class Patches(Tensors):
    """Patches of CT. Axes (batch, 1, z, y, x)."""

    image: Tensor
    """CT on the bent scale."""
    weight: Tensor
    """Weight of each voxel in the loss: 1 in the body, less in air."""


@dataclass(frozen=True)
class Window(Tensors):
    """A field of view, or a window of it that the denoiser can afford. Axes (1, channel, z, y, x)."""

    image: Tensor
    """CT on the bent scale."""
    place: Tensor
    """Place channels on the latent grid."""
    mask: Tensor | None
    """Share of each class on the latent grid, where it is asked for and the recipe has masks."""
    field_m: Tensor
    """(3,) the whole field of view (z, y, x) [m]."""
    noise: Tensor
    """Standard normal on the latent grid, one channel for each of the latent's; a batch of `steps`."""
    steps: Tensor
    """Noise levels (draws,), 1..steps, spread over them."""


@dataclass(frozen=True, eq=False)
class VolumeSampler:
    """Batches of one district. The same (seed, step) gives the same batch, whatever came before."""

    studies: list[PreparedStudy]
    recipe: Recipe
    district: District
    seed: int

    @cached_property
    def usable(self) -> list[PreparedStudy]:
        """The studies with a CT of the district."""
        return [s for s in self.studies if s.has_ct and self.district in s.boxes]

    def __bool__(self) -> bool:
        return bool(self.usable)

    def batch(self, step: int) -> VolumeBatch:
        """The batch of training step `step`."""
        return VolumeBatch(self, step)

    def random(self, step: int, purpose: int) -> np.random.Generator:
        """Chance for one `purpose` of one step."""
        return np.random.default_rng([self.seed, step, sum(map(ord, self.district)), purpose])

    @cached_property
    def centres(self) -> list[tuple[Places, Places | None]]:
        """The voxels of the body and of lesions, by study; None where organs are not known."""
        found = []
        for study in self.usable:
            body = Places.of(partial(study.mask, self.district), study.boxes[self.district][0])
            organs, everywhere = study.organs, slice(0, len(study.hu))
            tumours = None if organs is None else Places.of(partial(_tumour, organs), everywhere)
            found.append((body, tumours))
        return found


@dataclass(frozen=True, eq=False)
class VolumeBatch:
    """One step's patches and windows; each is cut when it is first asked for."""

    sampler: VolumeSampler
    step: int
    device: torch.device = _PROCESSOR
    """Where they are brought to."""

    def to(self, device: torch.device) -> VolumeBatch:
        """The same batch on `device`."""
        return replace(self, device=device)

    @cached_property
    def masked(self) -> bool:
        """Whether the step is the adapter's, where both it and the denoiser learn."""
        return bool(self.sampler.random(self.step, 0).random() < 0.5)

    @cached_property
    def patches(self) -> Patches:
        """`batch` times `accumulate` patches."""
        rules, random = self.sampler.recipe.optimisation, self.sampler.random(self.step, 1)
        drawn = [self._patch(random) for _ in range(rules.batch * rules.accumulate)]
        image, weight = (torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True))
        return Patches(image, weight).to(self.device)

    @cached_property
    def windows(self) -> list[Window]:
        """`accumulate` windows, one study each."""
        random = self.sampler.random(self.step, 2)
        count = self.sampler.recipe.optimisation.accumulate
        return [self._window(random).to(self.device) for _ in range(count)]

    def _patch(self, random: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        recipe = self.sampler.recipe
        number = int(random.integers(len(self.sampler.usable)))
        study, (body, lesions) = self.sampler.usable[number], self.sampler.centres[number]
        places = lesions if random.random() < recipe.sampling.lesions and lesions else body
        centre = places.draw(random)
        edge = recipe.sampling.patch
        offset = random.integers(edge // 4, 3 * edge // 4, 3)
        start = tuple(c - int(o) for c, o in zip(centre, offset, strict=True))
        shift = float(random.normal(0.0, recipe.sampling.hu_jitter)) if recipe.sampling.hu_jitter else 0.0
        hu = cut(study.hu, start, (edge,) * 3, AIR_HU) + np.float32(shift)
        inside = cut(study.body, start, (edge,) * 3, 0.0) > 0.5
        weight = np.where(inside, np.float32(1.0), np.float32(recipe.losses.air))
        axes = tuple(
            k for k, axis in enumerate("zyx") if axis in recipe.sampling.flip and random.random() < 0.5
        )
        image = np.asarray(to_unit(hu), np.float32)
        turned = [np.ascontiguousarray(np.flip(one, axes))[None] for one in (image, weight)]
        return turned[0], turned[1]

    def _window(self, random: np.random.Generator) -> Window:
        recipe, rules = self.sampler.recipe, self.sampler.recipe.volumes or Volumes()
        study = self.sampler.usable[int(random.integers(len(self.sampler.usable)))]
        # A mask costs more than the rest of a window: it is made for who will look at it.
        return window_of(study, recipe, rules, random, stretch=recipe.sampling.stretch, with_mask=self.masked)


def _tumour(organs: NDArray[np.uint8], z: int) -> NDArray[np.bool_]:
    return np.asarray(organs[z] == ORGAN_LABEL["tumour"])


def window_of(
    study: PreparedStudy, recipe: Recipe, rules: Volumes, random: np.random.Generator, *,
    stretch: float = 0.0, with_mask: bool = True,
) -> Window:  # fmt: skip
    """A window of a study's field of view, by chance where it does not fit into one."""
    factors = 1.0 + np.clip(random.normal(0, 1, 3), -_LIMIT, _LIMIT) * stretch
    hu, classes = study.hu, mask_classes(study, rules)
    if stretch:
        shape = [max(round(n * f), 1) for n, f in zip(hu.shape, factors, strict=True)]
        hu = F.interpolate(torch.tensor(hu)[None, None], shape, mode="trilinear")[0, 0].numpy()
        if with_mask:
            classes = F.interpolate(torch.tensor(classes)[None, None], shape, mode="nearest")[0, 0].numpy()
    field = Field.of(hu.shape, recipe.spacing_mm)
    part = [_some(n, min(n, largest), random) for n, largest in zip(field.padded, rules.window, strict=True)]
    box = tuple(part)
    coarse = (slice(None), slice(None), *(slice(s.start // DOWN, s.stop // DOWN) for s in part))
    image = to_unit(torch.from_numpy(np.ascontiguousarray(field.pad(hu, AIR_HU)[box])).float())[None, None]
    place = field.place()[coarse]
    mask = None
    if with_mask and rules.masks != "none":
        mask = shares(np.ascontiguousarray(field.pad(classes, 0)[box]), class_count(rules))
    generator = torch.Generator().manual_seed(int(random.integers(2**62)))
    return Window(
        image, place, mask,
        torch.tensor([n * s / 1000.0 for n, s in zip(hu.shape, recipe.spacing_mm, strict=True)]),
        torch.randn(rules.draws, len(rules.levels), *place.shape[2:], generator=generator),
        _spread(rules, random),
    )  # fmt: skip


def _spread(rules: Volumes, random: np.random.Generator) -> Tensor:
    """One noise level of every part of them: all are then learnt from equally often."""
    shares = (np.arange(rules.draws) + random.random(rules.draws)) / rules.draws
    return torch.from_numpy(np.floor(shares * rules.steps).astype(np.int64)) + 1


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
