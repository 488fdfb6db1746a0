"""What is measured in inpainted regions, by organ and by way of making them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from scantwin.evaluation.frechet import Gaussian, RandomFeatures, frechet_distance
from scantwin.generation.inpainting import METHODS
from scantwin.imaging.organs import OrganClass

ORGANS: Final[tuple[OrganClass, ...]] = ("kidney", "lung", "liver", "tumour")

REGION_MM: Final = (40.0, 60.0)
"""Least and greatest diameter [mm] of the ellipsoids in which a part of an organ is made anew."""


@cache
def extractors() -> tuple[RandomFeatures, RandomFeatures]:
    """The extractors of shapes (the aims use this one) and of grain (the first layer of the same network)."""
    whole = RandomFeatures()
    return whole, RandomFeatures(whole.widths[:1])


@dataclass
class Made:
    """What one way of making gives for one organ, over the patients."""

    features: list[Gaussian] = field(default_factory=list)
    """Features of shapes, by region; a patient has one region per organ."""
    grain: list[Gaussian] = field(default_factory=list)
    mae: list[float] = field(default_factory=list)
    border: list[float] = field(default_factory=list)
    """Jump across the border, over that in the real CT."""
    step: list[float] = field(default_factory=list)
    """Step from slice to slice, over that in the real CT."""


Found = dict[OrganClass, dict[str, Made]]
"""Organ -> way of making -> what was measured."""

Distances = dict[OrganClass, dict[str, float]]
"""Organ -> way of making -> Frechet distance to the real slices; empty without two slices."""


def distances_of(
    made: dict[str, Made], of: Callable[[Made], list[Gaussian]] = lambda made: made.features
) -> dict[str, float]:
    """Way of making one organ -> Frechet distance to the real slices, by the features that `of` gives."""
    gathered = {way: Gaussian.together(of(one)) for way, one in made.items()}
    real = gathered["real"]
    if real.count < 2:
        return {}
    return {way: frechet_distance(gathered[way], real) for way in (*METHODS, "neighbour")}


def slices_of(made: dict[str, Made]) -> int:
    """Number of slices of an organ."""
    return sum(one.count for one in made["real"].features)
