"""The prior of each class before anything is known of the patient: a typical CT number and its variation.

Networks predict how far a patient's tissue deviates from it, in units of that variation. So the level of lung
or bone need not be learnt, and an error in fat counts as much as one in bone.
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
"""CT number between those without and with contrast, and its deviation [HU]: half the step due to contrast
(sources.md, 1), the noise of a routine scan (20-35 HU: sources.md, 4), what else the class contains (vessels
in lung, marrow in bone) and its blurred borders."""

_AIR_HU: Final = (-1000.0, 100.0)
"""For voxels without a class: air outside the body, and the blur of the skin into it."""

_ENOUGH: Final = 24
"""Voxels of a class around a region that tell its level: the noise of their median is a quarter of theirs."""

_REACH: Final = 6
_STRIDE: Final = 2
"""Known pixels up to six pixels away tell the level of their class; every other one is used."""
_DOUBT: Final = 2.0
"""The median of all known pixels of the class counts as much as this many pixels."""


def _tables() -> tuple[Tensor, Tensor]:
    hu = torch.tensor([_AIR_HU, *(TYPICAL_HU[name] for name in ORGAN_CLASSES)])
    middle = to_unit(hu[:, 0])
    spread = (to_unit(hu[:, 0] + hu[:, 1]) - to_unit(hu[:, 0] - hu[:, 1])) / 2
    return middle, spread


_MIDDLE, _SPREAD = _tables()


def levels_around(image: Tensor, region: Tensor, classes: Tensor) -> Tensor:
    """The level of each voxel's class around it, on the bent scale. All are (B, slices, H, W).

    Near known pixels of the class in the same slice it is their mean; further in, the median of all that is
    known of the class outside `region`; where little is known, the level typical of anybody. So before
    anything is learnt, a regenerated liver is as dense as the liver beside it, and so is each side of a lung.
    """
    known = region == 0
    anybody = _MIDDLE.to(image.device).expand(len(image), -1)
    table = medians_around(image, known, region, classes, anybody, enough=_ENOUGH)
    levels = by_class(table, classes)
    # A vessel in lung differs ten times as much, and does not tell the level of the lung beside it.
    most = _SPREAD.to(image.device)[classes] / 2
    off, near = sums_around((image - levels).clamp(-most, most), known, classes, reach=_REACH, stride=_STRIDE)
    return levels + off / (near + _DOUBT)


def from_deviation(deviation: Tensor, classes: Tensor, levels: Tensor) -> Tensor:
    """The image on the bent scale: `levels` plus `deviation` in SDs of each class; all have the same axes."""
    return levels + _SPREAD.to(levels.device)[classes] * deviation
