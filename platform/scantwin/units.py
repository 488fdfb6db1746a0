"""Physical constants and the names of units, each with its source."""

from __future__ import annotations

from typing import Final, Literal

Unit = Literal["HU", "SUV", "Bq/ml", "counts", "label", "mm", "1"]
"""What the numbers of a volume mean; `SUV` is SUVbw [g/ml]."""

F18_HALF_LIFE_S: Final = 6586.2
"""Half-life of fluorine-18 [s]: 109.77 min, as most scanners write it (shared survey: 6586.x or 6588)."""

SUV_RANGE: Final = (0.0, 20.0)
"""Declared range of SUV [g/ml] of the district models and of every metric (arXiv 2503.15555, III.B)."""

FWHM_TO_SD: Final = 1 / 2.3548200450309493
"""Standard deviation of a Gaussian over its full width at half maximum: 1 / (2 sqrt(2 ln 2))."""

AIR_HU: Final = -1000.0
"""CT number of air [HU], by definition of the Hounsfield scale."""

HU_RANGE: Final = (-1024.0, 3071.0)
"""What a 12-bit CT can store [HU]; values outside are padding and are clipped."""
