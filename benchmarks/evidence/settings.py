"""The two settings: what two cores do in 20 minutes, and what issue 4 asks for."""

from __future__ import annotations

from typing import Final

from benchmarks.evidence.findings import Setting

QUICK: Final = Setting(name="quick", training=24, held_out=10, spacing_mm=7.0, steps=400)
"""Coarse phantoms, hundreds of steps: shows which way a difference points, not how well a model can do."""

FULL: Final = Setting(name="full", training=64, held_out=24, spacing_mm=4.0, steps=8000)
"""At least 60 training and 20 held-out patients (issue 4), at about a clinical PET's voxels."""
