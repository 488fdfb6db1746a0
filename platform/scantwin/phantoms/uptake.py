"""The uptake of one patient: a mean for every tissue, with the correlations of TISSUES.md."""

from __future__ import annotations

import numpy as np

from scantwin.phantoms.tissues import TISSUES


def sample_uptake(rng: np.random.Generator) -> dict[str, float]:
    """SUV [g/ml] of every tissue for one patient."""
    return {
        name: float(max(t.suv_mean + t.suv_sd * np.clip(rng.standard_normal(), -2, 2.5), 0.25 * t.suv_mean))
        for name, t in TISSUES.items()
    }
