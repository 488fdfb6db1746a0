"""Which CT and PET of an examination are used when there are several, and whether they belong together."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from scantwin.imaging.dicom_geometry import MIN_PLANES
from scantwin.imaging.dicom_series import Series
from scantwin.imaging.reasons import reject, warn
from scantwin.imaging.volume import Volume

MIN_OVERLAP: Final = 0.25
"""Share of the smaller field of view that CT and PET must have in common, along each of the three axes."""
_ALONG: Final = ("from right to left", "from front to back", "along the patient")
"""The axes x, y, z of the world in words."""
_FULL_OVERLAP: Final = 0.95
"""A PET that covers at least this share of the CT gives no warning."""
_EQUAL_MM: Final = 50.0
"""Lengths that differ by less [mm] count as equal; kernel, time and number of slices then decide."""
_SHARP: Final = re.compile(
    r"LUNG|BONE|EDGE|SHARP|DETAIL|\b[BHUI][RV]?[56789]\d|FC[58]\d|\bY[CD]|\bE\b", re.IGNORECASE
)
"""Convolution kernels for lung and bone, whose HU overshoot at edges (GE, Siemens, Canon, Philips names)."""


@dataclass(frozen=True)
class Choice:
    """The series of one modality, best first."""

    series: tuple[Series, ...]
    reason: str
    """What decided between the first and the second; "" where there is nothing to choose."""


def choose_pet(series: list[Series]) -> Choice:
    """PET series, best first: measured, attenuation-corrected, not dynamic, covering most."""

    def worth(s: Series) -> dict[str, float]:
        return {
            "measured": bool(s.measured),
            "axial": s.axial,
            "attenuation": "ATTN" in s.corrected,
            "static": not re.search("DYNAMIC|GATED", s.series_type),
            "original": s.image_type.startswith("ORIGINAL"),
            "coverage": round((s.high - s.low) / _EQUAL_MM),
            "slices": len(set(s.heights)),
        }

    return _ordered([s for s in series if s.modality == "PT" and len(s.frames) >= MIN_PLANES], worth)


def choose_ct(series: list[Series], pet: Series | None) -> Choice:
    """CT series, best first. For a PET: in its frame of reference, covering most of it, nearest in time."""

    def worth(s: Series) -> dict[str, float]:
        covered, apart = s.high - s.low, 0.0
        if pet is not None:
            covered = min(s.high, pet.high) - max(s.low, pet.low)
            apart = abs((s.when - pet.when).total_seconds()) if s.when and pet.when else 86_400.0
        same = pet is None or bool(s.frame_of_reference and s.frame_of_reference == pet.frame_of_reference)
        return {
            "axial": s.axial,
            "frame of reference": same,
            "coverage": round(covered / _EQUAL_MM),
            "kernel": not _SHARP.search(s.kernel),
            "original": s.image_type.startswith("ORIGINAL"),
            "time": -round(apart / 60),
            "slices": len(s.frames),
        }

    return _ordered([s for s in series if s.modality == "CT" and len(s.measured) >= MIN_PLANES], worth)


def _ordered(found: list[Series], worth: Callable[[Series], dict[str, float]]) -> Choice:
    """The series sorted by the criteria of `worth`; the lowest UID breaks ties, so a choice is repeatable."""
    found = sorted(found, key=lambda s: s.uid)
    found.sort(key=lambda s: tuple(worth(s).values()), reverse=True)
    reason = ""
    if len(found) > 1:
        first, second = worth(found[0]), worth(found[1])
        reason = next((name for name in first if first[name] != second[name]), "none: they are alike")
    return Choice(tuple(found), reason)


def check_pair(ct: Volume, pet: Volume) -> list[str]:
    """Warnings about the overlap of CT and PET. Raises `pair.far-apart` if they hardly overlap."""
    (ct_low, ct_high), (pet_low, pet_high) = ct.bounds, pet.bounds
    common = np.minimum(ct_high, pet_high) - np.maximum(ct_low, pet_low)
    shorter = np.minimum(ct_high - ct_low, pet_high - pet_low)
    if (common < MIN_OVERLAP * shorter).any():
        worst = int(np.argmin(common / shorter))
        found = f"{max(float(common[worst]), 0.0):.0f} mm in common {_ALONG[worst]}"
        raise reject("pair.far-apart", found=found)
    share = float(common[2] / (ct_high - ct_low)[2])
    return [] if share >= _FULL_OVERLAP else [warn("pair.part-overlap", found=f"{100 * share:.0f} %")]


def check_series(ct: Series, pet: Series) -> list[str]:
    """Warnings about the identities of CT and PET. Raises `pair.other-patient`."""
    if ct.patient and pet.patient and ct.patient != pet.patient:
        raise reject("pair.other-patient")
    notes = []
    if ct.frame_of_reference != pet.frame_of_reference:
        notes.append(warn("pair.other-frame"))
    days = round(abs((ct.when - pet.when).total_seconds()) / 86_400) if ct.when and pet.when else 0
    if days:
        notes.append(warn("pair.other-day", found=days))
    return notes
