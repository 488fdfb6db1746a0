"""What is found of inpainted regions: by organ, and by way of making them."""

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
"""Diameters of the regions in organs [mm]: the part of an organ inside of one is made anew."""


@cache
def extractors() -> tuple[RandomFeatures, RandomFeatures]:
    """Of shapes, which the aims are taken with, and of grain: the first layer of the same, by itself."""
    whole = RandomFeatures()
    return whole, RandomFeatures(whole.widths[:1])


@dataclass
class Made:
    """What one way of making says of one organ, over the patients."""

    features: list[Gaussian] = field(default_factory=list)
    """Of shapes, region by region: a patient has one."""
    grain: list[Gaussian] = field(default_factory=list)
    mae: list[float] = field(default_factory=list)
    border: list[float] = field(default_factory=list)
    """Jump across the border over that of the real CT."""
    step: list[float] = field(default_factory=list)
    """Step from slice to slice over that of the real CT."""


Found = dict[OrganClass, dict[str, Made]]
"""Of each organ: what each way of making says."""

Distances = dict[OrganClass, dict[str, float]]
"""Of each organ: the distance of each way of making to what is real; empty where there are no two slices."""


def distances_of(
    made: dict[str, Made], of: Callable[[Made], list[Gaussian]] = lambda made: made.features
) -> dict[str, float]:
    """Of each way of making one organ: how far what `of` gives lies from what is real."""
    gathered = {way: Gaussian.together(of(one)) for way, one in made.items()}
    real = gathered["real"]
    if real.count < 2:
        return {}
    return {way: frechet_distance(gathered[way], real) for way in (*METHODS, "neighbour")}


def slices_of(made: dict[str, Made]) -> int:
    """How many slices there are of an organ."""
    return sum(one.count for one in made["real"].features)
