"""The statistics that cross the wire: which sums a site sends in each phase, and their shapes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scantwin.federation.wire import Phase
from scantwin.imaging.study import DISTRICTS
from scantwin.learning.recipe import Recipe

Layout = dict[str, tuple[int, ...]]
"""Statistic name -> shape."""

# Repeated here, since the code that makes them is on a floor above; a test keeps the two consistent.
_KINDS: Final[dict[Phase, Layout]] = {
    "train": {"suv": (1001,), "sum": (2,), "curve": (2, 93)},
    "final": {"residual": (3, 16), "ratio": (16, 80)},
}
"""Per district: the histograms behind the simple references (`evaluation.references`), and the held-out
patients' errors behind the error bar (`translation.uncertainty`)."""


def layout_of(recipe: Recipe, phase: Phase) -> Layout:
    """The shapes of a site's statistics: always all of them, zeros for a district that it does not have.

    A system that makes CT has none. No name occurs in both phases, so none can take another's place.
    """
    if recipe.makes_ct:
        return {}
    return {f"{kind}/{district}": shape for kind, shape in _KINDS[phase].items() for district in DISTRICTS}


def never_negative(name: str, statistic: NDArray[Any]) -> NDArray[Any]:
    """The entries of a statistic that are counts, sums of SUV or of squares.

    That is all but a residual's second row: a model may read low.
    """
    return np.delete(statistic, 1, axis=0) if name.startswith("residual/") else statistic
