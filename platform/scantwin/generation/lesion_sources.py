"""The three sources of lesion masks, each a `Masks` of lesion_data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from scantwin.errors import InputError
from scantwin.generation.lesion_cases import Found
from scantwin.generation.lesion_masks import Shape, borrowed, drawn, organ_at, sampled
from scantwin.generation.regions import Region, with_ring
from scantwin.generation.scene import Scene
from scantwin.imaging.organs import OrganClass
from scantwin.imaging.volume import Volume

_TOUCHING: Final = 1.8
"""Voxels nearer than this touch [voxels]: those that share only a corner are the root of 3 apart."""


class Sampled:
    """Random shapes at random places."""

    name = "sampled"

    def __call__(
        self, scene: Scene, organs: Sequence[OrganClass], random: np.random.Generator
    ) -> list[Found] | None:
        """A random lesion in each organ."""

        def one(organ: OrganClass, taken: Region) -> Found | None:
            region = sampled(scene, organ, random, taken)
            return None if region is None else Found(region, organ, self.name)

        return _apart(scene, organs, one)


@dataclass(frozen=True)
class FromPatients:
    """Shapes of other patients' lesions at random places."""

    shapes: list[Shape]
    patients: Mapping[str, set[str]] = field(default_factory=dict)
    """Name of a CT's study -> its patients; several if studies share the name. A study not named here is a
    patient of its own."""
    name: str = "patients"

    def __post_init__(self) -> None:
        if not self.shapes:
            raise InputError(
                "No study has a lesion whose shape could be taken.",
                hint="Lesion labels lie beside a CT as SEG.nii.gz. --masks-from takes other studies; --masks "
                "sampled needs none.",
            )
        if self.patients and all(not self.others(study) for study in self.patients):
            raise InputError(
                f"All lesions are of the patient of {self.shapes[0].study}, and so are all CTs: no shape is "
                "another patient's.",
                hint="--masks-from takes the shapes of other studies; --masks sampled needs none.",
            )

    def others(self, study: str) -> list[Shape]:
        """The shapes from other patients than the study's."""
        own = self.patients.get(study, {study})
        return [shape for shape in self.shapes if shape.patient not in own]

    def __call__(
        self, scene: Scene, organs: Sequence[OrganClass], random: np.random.Generator
    ) -> list[Found] | None:
        """Another patient's lesion in each organ; None if all lesions are the patient's own."""
        others = self.others(scene.name)

        def one(organ: OrganClass, taken: Region) -> Found | None:
            found = borrowed(scene, organ, random, others, taken)
            return None if found is None else Found(found[0], organ, f"of {found[1].study}")

        return _apart(scene, organs, one)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Lesions drawn into a mask by hand: they stay where they are."""

    mask: Volume
    name: str = "drawn"

    def __call__(
        self, scene: Scene, organs: Sequence[OrganClass], random: np.random.Generator
    ) -> list[Found] | None:
        """All of them, wherever they lie."""
        del organs, random
        parts, count = drawn(scene, self.mask)
        return [
            Found(parts, organ_at(scene, parts == number), self.name, number)
            for number in range(1, count + 1)
        ]


def _apart(
    scene: Scene, organs: Sequence[OrganClass], one: Callable[[OrganClass, Region], Found | None]
) -> list[Found] | None:
    """A lesion for each organ, none touching another; None if there is no room.

    `one` is given the voxels already taken, so that it looks for room beside them.
    """
    found: list[Found] = []
    taken = np.zeros(scene.ct.shape, bool)
    for organ in organs:
        new = one(organ, taken)
        if new is None:
            return None
        found.append(new)
        if len(found) < len(organs):
            taken |= with_ring(new.region, (1.0, 1.0, 1.0), _TOUCHING)
    return found
