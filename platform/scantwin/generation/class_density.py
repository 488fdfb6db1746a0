"""What a class is like before anything is known of the patient: a typical CT number and how far it varies.

Networks say by how much a patient's tissue differs from it, in units of that variation: the level of lung or
bone needs no learning, and an error in fat counts as much as one in bone.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from scantwin.generation.hu_scale import to_unit
from scantwin.generation.same_class import by_class, medians_around, sums_around
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
(sources.md, 1), the noise of a routine scan (20-35 HU: sources.md, 4), what the class holds besides (vessels
in lung, marrow in bone) and its blurred borders."""

_AIR_HU: Final = (-1000.0, 100.0)
"""Of voxels without a class: air outside the body, and the skin's blur into it."""

_ENOUGH: Final = 24
"""Voxels of a class around a region that tell its level: their median has a quarter of their noise."""

_REACH: Final = 6
_STRIDE: Final = 2
"""What is known tells the level of its class up to six pixels away; every other one is asked."""
_DOUBT: Final = 2.0
"""That many pixels count as much as the median of all that is known of the class."""


def _tables() -> tuple[Tensor, Tensor]:
    hu = torch.tensor([_AIR_HU, *(TYPICAL_HU[name] for name in ORGAN_CLASSES)])
    middle = to_unit(hu[:, 0])
    spread = (to_unit(hu[:, 0] + hu[:, 1]) - to_unit(hu[:, 0] - hu[:, 1])) / 2
    return middle, spread


_MIDDLE, _SPREAD = _tables()


def levels_around(image: Tensor, region: Tensor, classes: Tensor) -> Tensor:
    """What each voxel's class is like around it, of (B, slices, H, W) each: the same axes, on the bent scale.

    Near what is known of the class in the same slice, its mean there; further in, the median of all that is
    known of it outside of `region`; where little is, what the class is like in anybody. A liver that is made
    anew is then as dense as the liver beside it before anything is learnt, and so is each side of a lung.
    """
    known = region == 0
    anybody = _MIDDLE.to(image.device).expand(len(image), -1)
    table = medians_around(image, known, region, classes, anybody, enough=_ENOUGH)
    levels = by_class(table, classes)
    # A vessel in lung differs by ten times as much, and is not what lung is like beside it.
    most = _SPREAD.to(image.device)[classes] / 2
    off, near = sums_around((image - levels).clamp(-most, most), known, classes, reach=_REACH, stride=_STRIDE)
    return levels + off / (near + _DOUBT)


def from_deviation(deviation: Tensor, classes: Tensor, levels: Tensor) -> Tensor:
    """The image on the bent scale that is `deviation`, in each class's SDs, off `levels`; same axes each."""
    return levels + _SPREAD.to(levels.device)[classes] * deviation
