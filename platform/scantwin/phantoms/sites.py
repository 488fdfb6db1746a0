"""Three sites as found in practice: a university hospital, a regional hospital, a rural clinic.

Voxels are `quick` for work on phantoms, `coarse` for a demo on two cores, or `full`, as on the vendors'
systems (survey of 3,433 PET series, SV). The faults of the rural scanner are assumed.
"""

from __future__ import annotations

from datetime import date
from typing import Final, Literal

from scantwin.phantoms.scanner import ScannerSpec

SITE_PRESETS: Final[dict[str, ScannerSpec]] = {
    "university": ScannerSpec(
        name="university", vendor="siemens", ct_spacing_mm=(3.0, 2.5, 2.5), pet_spacing_mm=(4.0, 4.07, 4.07),
        ct_dose=1.0, pet_fwhm_mm=5.0, pet_counts=1.25, breathing_mm=8.0, table=True,
    ),
    "regional": ScannerSpec(
        name="regional", vendor="ge", ct_spacing_mm=(3.75, 3.0, 3.0), pet_spacing_mm=(4.0, 4.69, 4.69),
        ct_dose=0.35, pet_fwhm_mm=6.5, pet_counts=0.8, suv_scale=1.03, breathing_mm=12.0, hu_shift=-4.0,
    ),
    "rural": ScannerSpec(
        name="rural", vendor="philips", ct_spacing_mm=(4.0, 3.5, 3.5), pet_spacing_mm=(4.0, 5.0, 5.0),
        ct_dose=0.12, pet_fwhm_mm=7.5, pet_counts=0.45, hu_shift=14.0, suv_scale=0.85,
        suv_drift_per_month=-0.012, calibrated_on=date(2026, 1, 1), breathing_mm=14.0,
    ),
}  # fmt: skip
"""Quick voxels, for demonstrations and tests."""

FULL_PRESETS: Final[dict[str, ScannerSpec]] = {
    "university": SITE_PRESETS["university"].model_copy(
        update={"ct_spacing_mm": (2.0, 0.977, 0.977), "pet_spacing_mm": (3.0, 2.036, 2.036)}
    ),
    "regional": SITE_PRESETS["regional"].model_copy(
        update={"ct_spacing_mm": (3.27, 1.37, 1.37), "pet_spacing_mm": (3.27, 3.65, 3.65)}
    ),
    "rural": SITE_PRESETS["rural"].model_copy(
        update={"ct_spacing_mm": (5.0, 1.17, 1.17), "pet_spacing_mm": (4.0, 4.0, 4.0)}
    ),
}
"""The voxels of the real systems: mCT 400 matrix, Discovery 192, GEMINI TF."""

COARSE_PRESETS: Final[dict[str, ScannerSpec]] = {
    name: scanner.model_copy(
        update={
            "ct_spacing_mm": tuple(max(4.0, side) for side in scanner.ct_spacing_mm),
            "pet_spacing_mm": (5.0, *scanner.pet_spacing_mm[1:]),
            "suv_drift_per_month": 0.0,
        }
    )
    for name, scanner in SITE_PRESETS.items()
}
"""Voxels of 4 mm or more: a patient costs a quarter of a quick one. Nothing depends on the day."""

PRESETS: Final = {"coarse": COARSE_PRESETS, "quick": SITE_PRESETS, "full": FULL_PRESETS}

SiteName = Literal["university", "regional", "rural"]
