"""A CT and what is known of it: its organs and the lesions it already has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scantwin.errors import InputError
from scantwin.generation.regions import Region
from scantwin.imaging.organs import ORGAN_CLASSES, ORGAN_LABEL, OrganClass
from scantwin.imaging.study import Study
from scantwin.imaging.volume import Volume
from scantwin.learning.prepared import organ_classes

OUTSIDE_MM: Final = 20.0
"""Margin of the box around an organ in which its surroundings are regenerated [mm]."""
_MOST_KNOWN: Final = 65_000
"""Most known lesions of a CT: labels are uint16, and some hundreds of made ones must fit beside them."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One patient's CT on its own grid. Arrays have axes (z, y, x)."""

    name: str
    """A pseudonym."""
    ct: Volume
    """CT [HU], canonical."""
    classes: NDArray[np.uint8]
    """Organ classes (ORGAN_LABEL), known lesions as tumour, 0 outside the body."""
    lesions: NDArray[np.uint16]
    """Known lesions, numbered from 1 in the order of the file's values; 0 elsewhere."""
    labelled: bool
    """Whether organs were labelled; otherwise the classes are lung, gas, fat, soft tissue and bone only."""

    @classmethod
    def of(cls, study: Study) -> Scene:
        """The scene of a study."""
        ct = study.ct
        hu = np.asarray(ct.array, np.float32)
        classes = organ_classes(study, ct, hu, study.body)
        given = study.lesions_on(ct)
        lesions = np.zeros(ct.shape, np.uint16) if given is None else _numbered(given.array, study.name)
        return cls(study.name, ct, classes, lesions, study.organs is not None)

    def organ(self, *names: OrganClass) -> Region:
        """Voxels of these classes."""
        return np.asarray(np.isin(self.classes, [ORGAN_LABEL[name] for name in names]), np.bool_)


def _numbered(labels: NDArray[np.generic], name: str) -> NDArray[np.uint16]:
    """Lesions numbered 1, 2, ..: some programs write 0 and 255, which is one lesion and not the 255th."""
    whole = np.asarray(labels)
    found = np.zeros(whole.shape, np.uint16)
    marked = whole > 0
    values, order = np.unique(whole[marked], return_inverse=True)
    if len(values) > _MOST_KNOWN:
        raise InputError(
            f"The lesion labels of {name} hold {len(values):,} numbers, the most are {_MOST_KNOWN:,}.",
            hint="A lesion has one number; is the file a label map?",
        )
    found[marked] = order + 1
    return found


def inside_organs(scene: Scene, names: Sequence[OrganClass]) -> Region:
    """The region of these organs. Raises `InputError` if the CT lacks one of them."""
    for name in names:
        if not (scene.classes == ORGAN_LABEL[name]).any():
            present = [c for c in ORGAN_CLASSES if (scene.classes == ORGAN_LABEL[c]).any()]
            hint = "" if scene.labelled else " Give its organ labels as organs.nii.gz beside the CT."
            raise InputError(
                f"There is no {name} in {scene.name}.", hint=f"It has {', '.join(present)}.{hint}"
            )
    return scene.organ(*names)


def around_organs(scene: Scene, names: Sequence[OrganClass], margin_mm: float = OUTSIDE_MM) -> Region:
    """The surroundings of these organs in a box with a margin, without the organs themselves.

    Raises `InputError` if there are none: nothing is made outside the body.
    """
    organs = inside_organs(scene, names)
    region = np.zeros_like(organs)
    box = []
    for axis, spacing in enumerate(scene.ct.spacing):
        along = np.flatnonzero(organs.any(axis=tuple(a for a in range(3) if a != axis)))
        reach = int(np.ceil(margin_mm / spacing))
        box.append(slice(max(int(along[0]) - reach, 0), int(along[-1]) + 1 + reach))
    region[tuple(box)] = True
    region &= ~organs & (scene.classes > 0)
    if not region.any():
        raise InputError(
            f"In {scene.name} there is nothing within {margin_mm:g} mm around {' and '.join(names)}.",
            hint="Take a larger margin, or make the organs anew instead.",
        )
    return region
