"""The statistics that cross the wire: which sums a site sends in each phase, and their shapes."""

from __future__ import annotations

from typing import Final

from scantwin.federation.wire import Phase
from scantwin.imaging.study import DISTRICTS
from scantwin.learning.recipe import Recipe

Layout = dict[str, tuple[int, ...]]
"""Statistic name -> shape."""

# Written again here, since what makes them stands above this floor; a test holds the two together.
_KINDS: Final[dict[Phase, Layout]] = {
    "train": {"suv": (1001,), "sum": (2,), "curve": (2, 93)},
    "final": {"residual": (3, 16), "ratio": (16, 80)},
}
"""Per district: histograms behind the simple references (`evaluation.references`), and errors of held-out
patients behind the error bar (`translation.uncertainty`)."""


def layout_of(recipe: Recipe, phase: Phase) -> Layout:
    """What a site's statistics look like: always all of them, zeros where it has nothing of a district.

    A system that makes CT has none. No name belongs to both phases, so none can take another's place.
    """
    if recipe.makes_ct:
        return {}
    return {f"{kind}/{district}": shape for kind, shape in _KINDS[phase].items() for district in DISTRICTS}
