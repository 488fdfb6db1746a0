"""Draws training patches: reproducible by (seed, step), preferably from the body, hot spots and lesions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scantwin.imaging.study import DISTRICT_LABEL, District
from scantwin.learning.augmentation import margin, warp
from scantwin.learning.mirroring import mirror, mirror_inputs
from scantwin.learning.places import OnSlice, Places
from scantwin.learning.prepared import PreparedStudy, cut
from scantwin.learning.recipe import Recipe
from scantwin.learning.recipe_parts import Axis
from scantwin.learning.system import Batch
from scantwin.units import AIR_HU

_MOST_SWAPPED = 5.0
"""Largest factor by which a lesion's uptake is changed: beyond it noise would become signal."""

_HEAVIEST = 10.0
"""Largest extra weight of a lesion's voxel, in units of its body's: a CT hardly tells what a node takes up,
and with a hundred no organ was learnt (docs/decisions/0012-what-was-not-heard.md)."""

Kinds = dict[str, Places]
"""The voxels of each kind: body, hot, lesions."""

Patch = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], np.float32]
"""Inputs, SUV [g/ml], loss weight, lesions, axes (channel, z, y, x); 1 if drawn from all of the body."""


@dataclass(frozen=True, eq=False)
class Sampler:
    """Draws batches of one district. The same (seed, step) gives the same batch, whatever came before."""

    studies: list[PreparedStudy]
    recipe: Recipe
    district: District
    seed: int

    @property
    def paired(self) -> bool:
        """Whether the CT and PET of a patch are from the same patient."""
        return self.recipe.unpaired is None

    @cached_property
    def _with_pet(self) -> list[tuple[PreparedStudy, Kinds]]:
        usable = [s for s in self.studies if s.suv is not None and self.district in s.boxes]
        # Hot PETs beside CTs from anywhere would teach a critic that tissue is hot: both are drawn evenly.
        kinds = self._kinds if self.paired else self._evenly
        return [(s, kinds(s)) for s in usable if s.has_ct or not self.paired]

    @cached_property
    def _with_ct(self) -> list[tuple[PreparedStudy, Kinds]]:
        return [(s, self._evenly(s)) for s in self.studies if s.has_ct and self.district in s.boxes]

    def _evenly(self, study: PreparedStudy) -> Kinds:
        return {"body": self._places(study, partial(study.mask, self.district))}

    def _kinds(self, study: PreparedStudy) -> Kinds:
        suv, lesions, mask = study.suv, study.lesions, partial(study.mask, self.district)
        assert suv is not None  # noqa: S101 - the caller saw to it
        warm = np.quantile(suv[study.mask(self.district)], 0.9)
        voxels: dict[str, OnSlice] = {"body": mask, "hot": lambda z: mask(z) & (suv[z] > warm)}
        if lesions is not None:
            voxels["lesions"] = lambda z: mask(z) & (lesions[z] > 0)
        found = {kind: self._places(study, where) for kind, where in voxels.items()}
        return {kind: places for kind, places in found.items() if places}

    def _places(self, study: PreparedStudy, where: OnSlice) -> Places:
        return Places.of(where, study.boxes[self.district][0])

    def __bool__(self) -> bool:
        return bool(self._with_pet) and (self.paired or bool(self._with_ct))

    def batch(self, step: int) -> Batch:
        """The batch of training step `step`: `accumulate` batches in one."""
        random = np.random.default_rng([self.seed, step, sum(map(ord, self.district))])
        count = self.recipe.optimisation.patches
        drawn = [self._pair(random) if self.paired else self._strangers(random) for _ in range(count)]
        parts = [torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True)]
        return Batch(*parts)

    def _pair(self, random: np.random.Generator) -> Patch:
        study, kinds = self._with_pet[int(random.integers(len(self._with_pet)))]
        return self._patch(study, kinds, random)

    def _strangers(self, random: np.random.Generator) -> tuple[NDArray[np.float32] | np.float32, ...]:
        """The CT of one patient; PET, weight and lesions of another, and where that PET lies in the body."""
        study, kinds = self._with_ct[int(random.integers(len(self._with_ct)))]
        inputs = self._patch(study, kinds, random)[0]
        others = [pair for pair in self._with_pet if pair[0] is not study] or self._with_pet
        study, kinds = others[int(random.integers(len(others)))]
        place, suv, weight, lesions, anywhere = self._patch(study, kinds, random)
        place = place.copy()
        place[:2] = 0.0  # its CT must not be seen, even where there is one
        return inputs, suv, weight, lesions, anywhere, place

    def _patch(self, study: PreparedStudy, kinds: Kinds, random: np.random.Generator) -> Patch:
        rules = self.recipe.sampling
        draw = random.random()
        kind = "lesions" if draw < rules.lesions else "hot" if draw < rules.lesions + rules.hot else "body"
        kind = kind if kind in kinds else "body"
        centre = kinds[kind].draw(random)
        edge, around = rules.patch, margin(rules, self.recipe.spacing_mm)
        # The drawn voxel lies anywhere in the patch's middle half, so that being central teaches nothing.
        offset = random.integers(edge // 4, 3 * edge // 4, 3)
        z, y, x = (int(c - o) - around for c, o in zip(centre, offset, strict=True))
        start, shape = (z, y, x), (edge + 2 * around,) * 3
        hu_shift = float(random.normal(0.0, rules.hu_jitter)) if rules.hu_jitter else 0.0
        low, high = self.recipe.suv_range
        empty = np.zeros(shape, np.float32)
        lesions = empty if study.lesions is None else cut(study.lesions, start, shape, 0.0)
        suv = empty if study.suv is None else cut(study.suv, start, shape, 0.0)
        if rules.swap_uptake and random.random() < rules.swap_uptake:
            suv = np.where(lesions > 0.5, suv * self._swapped(study, random), suv)
        own = self._own(study, start, shape)
        images = np.stack([
            cut(study.hu, start, shape, AIR_HU), cut(study.depth, start, shape, 0.0),
            np.clip(suv, low, high), self._weight(study, own, start, shape), lesions * own,
        ])  # fmt: skip
        if around:
            images, places = warp(images, rules, self.recipe.spacing_mm, random)
        else:
            places = np.indices(shape, np.float32)
        at = places[0] + np.float32(z), places[1] + np.float32(y), places[2] + np.float32(x)
        inputs = study.seen(self.district, images[0] + np.float32(hu_shift), images[1], at)
        suv, weight, lesions = images[2:3], self._heavier(images[3:4], images[4:5]), images[4:5]
        # A PET without a CT is not split into districts, but its liver is on the right all the same.
        allowed = rules.mirrored(self.district, split=study.split or not study.has_ct)
        axes: tuple[Axis, ...] = tuple(axis for axis in allowed if random.random() < 0.5)
        turned = [mirror(_tensor(image), axes) for image in (suv, weight, (lesions > 0.5))]
        suv, weight, lesions = (image.contiguous().numpy() for image in turned)
        inputs = mirror_inputs(_tensor(inputs), axes).contiguous().numpy()
        return inputs, suv, weight, lesions, np.float32(kind == "body")

    @cached_property
    def _lesion_uptake(self) -> dict[PreparedStudy, float]:
        """Mean uptake [g/ml] of each study's lesions, keyed by study since two may have the same name."""
        return {
            study: float(study.suv[study.lesions > 0].mean())
            for study, _ in self._with_pet
            if study.suv is not None and study.lesions is not None and study.lesions.any()
        }

    def _swapped(self, study: PreparedStudy, random: np.random.Generator) -> np.float32:
        """Factor that gives the lesions of `study` the uptake of those of a study drawn at random."""
        known = list(self._lesion_uptake.values())
        own = self._lesion_uptake.get(study)
        if own is None:
            return np.float32(1.0)
        other = known[int(random.integers(len(known)))]
        return np.float32(np.clip(other / max(own, 1e-3), 1 / _MOST_SWAPPED, _MOST_SWAPPED))

    def _own(
        self, study: PreparedStudy, start: tuple[int, int, int], shape: tuple[int, int, int]
    ) -> NDArray[np.bool_]:
        """Where a window (z, y, x) shows the district's own body: a lesion elsewhere is a neighbour's."""
        if self.district == "whole-body":
            return np.asarray(cut(study.body, start, shape, 0.0) > 0.5)
        return np.asarray(cut(study.labels, start, shape, 0.0) == DISTRICT_LABEL[self.district])

    def _weight(
        self, study: PreparedStudy, own: NDArray[np.bool_], start: tuple[int, int, int],
        shape: tuple[int, int, int],
    ) -> NDArray[np.float32]:  # fmt: skip
        """Weight in the loss of each voxel of a window (z, y, x): the district, its neighbours, air."""
        losses = self.recipe.losses
        body = cut(study.body, start, shape, 0.0) > 0.5
        weight = np.where(body, np.float32(losses.neighbour), np.float32(losses.air))
        weight[own] = 1.0
        return weight

    def _heavier(self, weight: NDArray[np.float32], lesions: NDArray[np.float32]) -> NDArray[np.float32]:
        """`weight` of a patch, raised in its lesions as the recipe says; both (1, z, y, x)."""
        wanted, marked = self.recipe.losses.lesions, lesions > 0.5
        theirs = float(weight[marked].sum())
        if not wanted or not theirs:
            return weight
        more = min(wanted * float(weight.sum()) / theirs, _HEAVIEST)
        return np.where(marked, weight * np.float32(1.0 + more), weight)


def _tensor(image: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image, np.float32))
