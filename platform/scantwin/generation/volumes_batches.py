"""What volumes are learnt from: patches for the autoencoder, whole bodies or windows for the denoiser.

Every random choice, the diffusion's noise included, depends on (seed, step) only. A batch cuts only what it
is asked for: which network is learning is the system's business.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scantwin.generation.autoencoder import DOWN
from scantwin.generation.hu_scale import to_unit
from scantwin.generation.volumes_views import View, view_of
from scantwin.imaging.organs import ORGAN_LABEL
from scantwin.imaging.study import District
from scantwin.learning.places import Places
from scantwin.learning.prepared import PreparedStudy, cut
from scantwin.learning.recipe import Recipe
from scantwin.learning.recipe_generation import Volumes
from scantwin.learning.system import Tensors
from scantwin.units import AIR_HU

_PROCESSOR = torch.device("cpu")

_VIEWS: Final = 4
"""Views per study: cutting, stretching and encoding one costs as much as a step of the denoiser."""

_KEPT: Final = 4_000_000
"""Most latent voxels of kept views, some 110 bytes each: 250 whole bodies at 8 mm, less than half a
gigabyte."""


@dataclass(frozen=True)
class Patches(Tensors):
    """Patches of CT. Axes (batch, 1, z, y, x)."""

    image: Tensor
    """CT on the bent scale."""
    weight: Tensor
    """Weight of each voxel in the loss: 1 in the body, less in air."""


@dataclass(frozen=True)
class Window(Tensors):
    """A view at some noise levels. Axes (draws, channel, z, y, x)."""

    view: View
    noise: Tensor
    """Standard normal on the latent grid, one channel per latent channel, one draw for each of `steps`."""
    steps: Tensor
    """Noise levels (draws,), 1..steps, spread over them."""


@dataclass(frozen=True, eq=False)
class VolumeSampler:
    """Batches of one district. The same (seed, step) gives the same batch, whatever came before."""

    studies: list[PreparedStudy]
    recipe: Recipe
    district: District
    seed: int
    _views: dict[tuple[int, int], View] = field(default_factory=dict)

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
        """The random generator for one `purpose` of one step."""
        return np.random.default_rng([self.seed, step, sum(map(ord, self.district)), purpose])

    def view(self, random: np.random.Generator, device: torch.device) -> View:
        """A random view of a random study: one of a few, which are kept; of a field larger than a window, a
        new part each time."""
        rules, stretch = self.recipe.volumes or Volumes(), self.recipe.sampling.stretch
        number = int(random.integers(len(self.usable)))
        study = self.usable[number]
        if any(n > largest for n, largest in zip(study.hu.shape, rules.window, strict=True)):
            return view_of(study, self.recipe, random, device, stretch)
        key = number, int(random.integers(_VIEWS))
        own = np.random.default_rng([self.seed, sum(map(ord, self.district)), *key])
        view = self._views.pop(key, None) or view_of(study, self.recipe, own, device, stretch)
        self._views[key] = view
        while len(self._views) > 1 and sum(one.latent_voxels for one in self._views.values()) > _KEPT:
            del self._views[next(iter(self._views))]  # the least recently used
        return view

    @cached_property
    def centres(self) -> list[tuple[Places, Places | None]]:
        """The voxels of the body and of lesions, by study; None for lesions if organs are not known."""
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
    """The device of its tensors."""

    def to(self, device: torch.device) -> VolumeBatch:
        """The same batch on `device`."""
        return replace(self, device=device)

    @cached_property
    def masked(self) -> bool:
        """Whether the step is the adapter's, once both it and the denoiser learn."""
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
        views = (self.sampler.view(random, self.device) for _ in range(count))
        return [noised(view, random).to(self.device) for view in views]

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


def _tumour(organs: NDArray[np.uint8], z: int) -> NDArray[np.bool_]:
    return np.asarray(organs[z] == ORGAN_LABEL["tumour"])


def noised(view: View, random: np.random.Generator) -> Window:
    """The view at random noise levels with random noise."""
    rules = view.rules
    generator = torch.Generator().manual_seed(int(random.integers(2**62)))
    sides = [(side.stop - side.start) // DOWN for side in view.part]
    noise = torch.randn(rules.draws, len(rules.levels), *sides, generator=generator)
    return Window(view, noise, _spread(rules, random))


def _spread(rules: Volumes, random: np.random.Generator) -> Tensor:
    """One noise level from each of `draws` equal parts of their range: all parts are learnt from equally."""
    shares = (np.arange(rules.draws) + random.random(rules.draws)) / rules.draws
    return torch.from_numpy(np.floor(shares * rules.steps).astype(np.int64)) + 1
