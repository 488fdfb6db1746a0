"""What a class is like before anything is known of the patient: a typical CT number and how far it varies.

Networks say by how much a patient's tissue differs from it, in units of that variation: the level of lung or
bone needs no learning, and the noise of a diffusion is of the size of what is uncertain, in fat as in bone.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from scantwin.generation.hu_scale import to_unit
from scantwin.imaging.organs import ORGAN_CLASSES, OrganClass

TYPICAL_HU: Final[dict[OrganClass, tuple[float, float]]] = {
    "lung": (-770.0, 250.0),
    "liver": (85.0, 45.0),
    "kidney": (100.0, 80.0),
    "spleen": (85.0, 50.0),
    "pancreas": (65.0, 50.0),
    "heart": (80.0, 50.0),
    "vessel": (95.0, 65.0),
    "brain": (35.0, 40.0),
    "bowel": (45.0, 60.0),
    "fluid": (8.0, 30.0),
    "bone": (300.0, 300.0),
    "fat": (-100.0, 60.0),
    "gas": (-930.0, 250.0),
    "soft-tissue": (52.0, 55.0),
    "tumour": (45.0, 60.0),
}
"""CT number between that without and with contrast, and its deviation [HU]: half the step that contrast makes
(TISSUES.md, 1), the noise of a routine scan (20-35 HU: TISSUES.md, 4), what the class holds besides (vessels
in lung, marrow in bone) and its blurred borders; such that deviations in phantoms have an SD of about 1."""

_AIR_HU: Final = (-1000.0, 100.0)
"""Of voxels without a class: air outside the body, and the skin's blur into it."""

LARGEST: Final = 6.0
"""Largest deviation that is learnt and said: rarer ones are labels that miss their organ by a voxel."""


def _tables() -> tuple[Tensor, Tensor]:
    hu = torch.tensor([_AIR_HU, *(TYPICAL_HU[name] for name in ORGAN_CLASSES)])
    middle = to_unit(hu[:, 0])
    spread = (to_unit(hu[:, 0] + hu[:, 1]) - to_unit(hu[:, 0] - hu[:, 1])) / 2
    return middle, spread


_MIDDLE, _SPREAD = _tables()


def to_deviation(image: Tensor, classes: Tensor) -> Tensor:
    """By how many of its class's deviations each voxel of `image` (bent scale) differs from typical."""
    return ((image - _MIDDLE[classes]) / _SPREAD[classes]).clamp(-LARGEST, LARGEST)


def from_deviation(deviation: Tensor, classes: Tensor) -> Tensor:
    """The image on the bent scale that `to_deviation` gave `deviation` of."""
    return _MIDDLE[classes] + _SPREAD[classes] * deviation
