"""Training patches of slices: what a network sees of three neighbouring slices, and what it must make.

Every random choice, the diffusion's noise included, depends on (seed, step) only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scantwin.generation.hu_scale import to_unit
from scantwin.generation.regions import Region, ellipsoid, part_at, with_ring
from scantwin.imaging.organs import ORGAN_CLASSES, ORGAN_LABEL
from scantwin.imaging.study import District
from scantwin.learning.prepared import PreparedStudy, cut
from scantwin.learning.recipe import Recipe
from scantwin.learning.recipe_generation import Inpainting
from scantwin.learning.system import Tensors
from scantwin.units import AIR_HU

NEIGHBOURS = 1
"""Slices above and below that are seen together with the one that is made."""
SEEN = 2 * NEIGHBOURS + 1
DRAWN = 2 * SEEN - 1
"""Slices of a training patch: it must hold what is seen of the middle slice's neighbours as well."""
MIDDLE = DRAWN // 2
INNER = slice(MIDDLE - NEIGHBOURS, MIDDLE + NEIGHBOURS + 1)
"""The SEEN slices in the middle of a patch."""

_KEPT = 4000
"""Voxels of each class kept as possible centres: all of them would cost as much memory as the CT."""
_MORE = 4
"""Most random regions added to the one that a patch was drawn for."""
_PLAIN = ("fat", "soft-tissue", "gas")
"""Classes that are not organs: a region in the shape of all fat would be a rind around the body."""


@dataclass(frozen=True)
class SliceBatch(Tensors):
    """Patches of DRAWN slices. Axes (batch, slice, y, x); the middle slice is the one that is made."""

    image: Tensor
    """CT on the bent scale (hu_scale)."""
    region: Tensor
    """1 where the CT is regenerated."""
    classes: Tensor
    """Organ classes (ORGAN_LABEL), int64; 0 where nothing is known, and in air."""
    noise: Tensor
    """Standard normal."""
    level: Tensor
    """(batch,) in 0..1: the noise level of each patch, as a share of all levels."""

    def parts(self, count: int) -> list[SliceBatch]:
        """The batch in `count` equal parts."""
        fields = (self.image, self.region, self.classes, self.noise, self.level)
        return [SliceBatch(*part) for part in zip(*(f.chunk(count) for f in fields), strict=True)]

    def inner(self) -> SliceBatch:
        """The SEEN slices in the middle."""
        image, region, classes, noise = (
            field[:, INNER] for field in (self.image, self.region, self.classes, self.noise)
        )
        return SliceBatch(image, region, classes, noise, self.level)


@dataclass(frozen=True, eq=False)
class SliceSampler:
    """Batches of one district. The same (seed, step) gives the same batch, whatever came before."""

    studies: list[PreparedStudy]
    recipe: Recipe
    district: District
    seed: int

    @cached_property
    def _places(self) -> list[tuple[PreparedStudy, dict[int, NDArray[np.int32]]]]:
        """Studies with this district, and the voxels (flat indices) of each class in it."""
        found = []
        for study in self.studies:
            if study.organs is None or not study.has_ct or self.district not in study.boxes:
                continue
            random = np.random.default_rng([self.seed, sum(map(ord, study.name))])
            mask = study.mask(self.district)
            inside = np.flatnonzero(mask & (study.organs > 0)).astype(np.int32)
            classes = study.organs.ravel()[inside]
            voxels = {}
            for label in np.unique(classes):
                index = inside[classes == label]
                voxels[int(label)] = random.choice(index, min(_KEPT, index.size), replace=False)
            if voxels:
                found.append((study, voxels))
        return found

    @cached_property
    def _with_tumour(self) -> list[tuple[PreparedStudy, dict[int, NDArray[np.int32]]]]:
        return [place for place in self._places if ORGAN_LABEL["tumour"] in place[1]]

    def __bool__(self) -> bool:
        return bool(self._places)

    def batch(self, step: int) -> SliceBatch:
        """The batch of training step `step`: `accumulate` batches in one."""
        random = np.random.default_rng([self.seed, step, sum(map(ord, self.district))])
        count = self.recipe.optimisation.patches
        drawn = [self._patch(random) for _ in range(count)]
        image, region, classes = (torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True))
        noise = random.standard_normal(image.shape, np.float32)
        level = ((np.arange(count) + random.random()) / count + random.random()) % 1.0
        return SliceBatch(
            image, region, classes.long(), torch.from_numpy(noise), torch.from_numpy(level.astype(np.float32))
        )

    def _patch(
        self, random: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
        rules, own = self.recipe.sampling, self.recipe.inpainting or Inpainting()
        draw = random.random()
        kind = "lesion" if draw < rules.lesions else "organ" if draw < rules.lesions + own.organs else "any"
        places = self._with_tumour if kind == "lesion" and self._with_tumour else self._places
        study, voxels = places[int(random.integers(len(places)))]
        label = _choose_class(kind, voxels, random)
        assert study.organs is not None  # noqa: S101 - `_places` saw to it
        centre = np.unravel_index(int(random.choice(voxels[label])), study.hu.shape)
        edge = rules.patch
        offset = random.integers(edge // 4, 3 * edge // 4, 2)
        start = (int(centre[0]) - MIDDLE, int(centre[1] - offset[0]), int(centre[2] - offset[1]))
        shape = (DRAWN, edge, edge)
        hu = cut(study.hu, start, shape, AIR_HU)
        if rules.hu_jitter:
            hu = hu + np.float32(random.normal(0.0, rules.hu_jitter))
        classes = cut(study.organs, start, shape, 0.0).astype(np.uint8)
        at = (MIDDLE, int(offset[0]), int(offset[1]))
        region = self._region(kind, classes, at, label, random)
        flips = tuple({"z": 0, "y": 1, "x": 2}[axis] for axis in rules.flip if random.random() < 0.5)
        return (
            np.flip(to_unit(hu), flips).copy(),
            np.flip(region.astype(np.float32), flips).copy(),
            np.flip(classes, flips).copy(),
        )

    def _region(
        self, kind: str, classes: NDArray[np.uint8], at: tuple[int, int, int], label: int,
        random: np.random.Generator,
    ) -> Region:  # fmt: skip
        own, spacing = self.recipe.inpainting or Inpainting(), self.recipe.spacing_mm
        if kind == "lesion" and label == ORGAN_LABEL["tumour"]:
            lesion = part_at(classes == label, at)
            region = with_ring(lesion, spacing, own.ring_mm * random.uniform(0.5, 1.5))
        elif kind == "organ":
            region = part_at(classes == label, at)
        else:
            region = ellipsoid(classes.shape, spacing, at, own.region_mm, random)
        # The loss counts inside regions only: the rest of a patch would be computed for nothing.
        body = np.argwhere(classes[MIDDLE] > 0)
        for _ in range(_MORE):
            if region[MIDDLE].mean() >= own.coverage or not len(body):
                break
            y, x = (int(n) for n in body[random.integers(len(body))])
            region = region | ellipsoid(classes.shape, spacing, (MIDDLE, y, x), own.region_mm, random)
        return region


def _choose_class(kind: str, voxels: dict[int, NDArray[np.int32]], random: np.random.Generator) -> int:
    """The class of the centre: tumour, an organ, or anything; small organs are as likely as large ones."""
    tumour = ORGAN_LABEL["tumour"]
    if kind == "lesion" and tumour in voxels:
        return tumour
    plain = {ORGAN_LABEL[name] for name in ORGAN_CLASSES if name in _PLAIN}
    organs = [label for label in voxels if label not in plain and label != tumour]
    labels = organs if kind == "organ" and organs else list(voxels)
    return labels[int(random.integers(len(labels)))]
