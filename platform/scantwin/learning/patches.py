"""Drawing training patches: reproducible by (seed, step), and fond of the body, hot spots and lesions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from scantwin.imaging.study import District
from scantwin.learning.prepared import PreparedStudy, cut
from scantwin.learning.recipe import Recipe
from scantwin.learning.system import Batch

_AXIS = {"z": 0, "y": 1, "x": 2}
_PLACE_CHANNELS = {"z": (), "y": (5,), "x": (6,)}
"""Channels that hold a signed distance along an axis: they change sign where the patient is mirrored."""


@dataclass(frozen=True, eq=False)
class Sampler:
    """Batches of one district. The same (seed, step) gives the same batch, whatever came before."""

    studies: list[PreparedStudy]
    recipe: Recipe
    district: District
    seed: int

    @cached_property
    def _centres(self) -> list[dict[str, NDArray[np.int32]]]:
        """For each study with the district: flat indices of voxels of each kind."""
        kinds = []
        for study in self._usable:
            mask = study.mask(self.district)
            assert study.suv is not None  # noqa: S101 - `_usable` saw to it
            voxels = {"body": np.flatnonzero(mask).astype(np.int32)}
            inside = study.suv[mask]
            voxels["hot"] = np.flatnonzero(mask & (study.suv > np.quantile(inside, 0.9))).astype(np.int32)
            if study.lesions is not None:
                voxels["lesions"] = np.flatnonzero(mask & (study.lesions > 0)).astype(np.int32)
            kinds.append({kind: index for kind, index in voxels.items() if index.size})
        return kinds

    @cached_property
    def _usable(self) -> list[PreparedStudy]:
        return [s for s in self.studies if s.suv is not None and self.district in s.boxes]

    def __bool__(self) -> bool:
        return bool(self._usable)

    def batch(self, step: int) -> Batch:
        """The batch of training step `step`."""
        random = np.random.default_rng([self.seed, step, sum(map(ord, self.district))])
        drawn = [self._patch(random) for _ in range(self.recipe.optimisation.batch)]
        inputs, suv, weight, lesions = (torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True))
        return Batch(inputs, suv, weight, lesions)

    def _patch(self, random: np.random.Generator) -> tuple[NDArray[np.float32], ...]:
        rules = self.recipe.sampling
        chosen = int(random.integers(len(self._usable)))
        study, kinds = self._usable[chosen], self._centres[chosen]
        draw = random.random()
        kind = "lesions" if draw < rules.lesions else "hot" if draw < rules.lesions + rules.hot else "body"
        voxels = kinds.get(kind, kinds["body"])
        centre = np.unravel_index(int(random.choice(voxels)), study.hu.shape)
        edge = rules.patch
        # The chosen voxel lies anywhere in the middle half, so that nothing is learnt from being central.
        offset = random.integers(edge // 4, 3 * edge // 4, 3)
        z, y, x = (int(c - o) for c, o in zip(centre, offset, strict=True))
        start, shape = (z, y, x), (edge, edge, edge)
        hu_shift = float(random.normal(0.0, rules.hu_jitter)) if rules.hu_jitter else 0.0
        assert study.suv is not None  # noqa: S101
        low, high = self.recipe.suv_range
        inputs = study.inputs(self.district, start, shape, hu_shift)
        suv = np.clip(cut(study.suv, start, shape, 0.0), low, high)[None]
        body = cut(study.body, start, shape, 0.0)[None]
        weight = np.where(body > 0, np.float32(1.0), np.float32(self.recipe.losses.air))
        lesions = np.zeros_like(suv) if study.lesions is None else cut(study.lesions, start, shape, 0.0)[None]
        for axis in rules.flip:
            if random.random() < 0.5:
                k = 1 + _AXIS[axis]
                inputs, suv, weight, lesions = (np.flip(a, k) for a in (inputs, suv, weight, lesions))
                if _PLACE_CHANNELS[axis]:
                    inputs = inputs.copy()
                    inputs[list(_PLACE_CHANNELS[axis])] *= -1.0
                elif axis == "z":
                    inputs = inputs[[0, 1, 2, 4, 3, 5, 6]]
        return tuple(np.ascontiguousarray(a, np.float32) for a in (inputs, suv, weight, lesions))
