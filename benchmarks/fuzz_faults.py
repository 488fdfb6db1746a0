"""Faults to put into the reader on purpose: the fuzz must find each, or it could not find one of ours.

python -m benchmarks.fuzz_imaging --n 300 --fault admin-decayed      must end with exit 1
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from scantwin.imaging import dicom_read, suv, suv_checks, suv_reference_time
from scantwin.imaging.suv_body import DICOM_SUV_TYPES
from scantwin.imaging.suv_reference_time import ReferenceTime
from scantwin.imaging.suv_times import acquisition_at

Patch = Callable[[Any, str, Any], None]
"""Sets an attribute of a module; `setattr`, or pytest's, which takes it back."""


def _frame_reference_first(patch: Patch) -> None:
    """The widespread mistake: back-computing from FrameReferenceTime before anything else."""
    right = suv_reference_time.reference_time

    def wrong(headers: Any, half_life: float) -> ReferenceTime:
        known = [t for t in map(acquisition_at, headers) if t is not None]
        if len(known) == len(headers):
            found, _ = suv_reference_time._back_computed(headers, known, half_life)
            if found is not None:
                return ReferenceTime("frame-reference-time", found, "wrong")
        return right(headers, half_life)

    patch(suv, "reference_time", wrong)


def _acquisition_time(patch: Patch) -> None:
    """The latest acquisition taken for the reference."""

    def wrong(headers: Any, _half_life: float) -> ReferenceTime:
        known = [t for t in map(acquisition_at, headers) if t is not None]
        return ReferenceTime("earliest-acquisition", max(known), "wrong")

    patch(suv, "reference_time", wrong)


def _admin_decayed(patch: Patch) -> None:
    """Decayed a second time, as a well-known viewer did."""
    patch(suv, "_admin", suv._start)


def _first_slope(patch: Patch) -> None:
    """The first slice's slope for all."""
    first: list[tuple[float, float]] = []

    def wrong(frame: Any) -> tuple[float, float]:
        if str(frame.header.get("Modality")) == "CT":
            first.clear()
            return right(frame)
        first.append(right(frame))
        return first[0]

    right = dicom_read._rescale
    patch(dicom_read, "_rescale", wrong)


def _not_corrected(patch: Patch) -> None:
    """A series without attenuation correction is accepted."""
    right = suv_checks._check_instance
    patch(suv_checks, "_check_instance",
          lambda header: right(replace(header, corrected=("ATTN", "DECY"))))  # fmt: skip


def _any_nuclide(patch: Patch) -> None:
    patch(suv_checks, "F18_TOLERANCE", 10.0)


def _grams(patch: Patch) -> None:
    patch(suv_checks, "WEIGHT_IN_G_ABOVE", 1e9)
    patch(suv_checks, "WEIGHT_LIMITS_KG", (0.0, 1e12))


def _counts_are_becquerel(patch: Patch) -> None:
    patch(suv, "_counts_scale", lambda _header: 1.0)


def _no_frame_decay(patch: Patch) -> None:
    """DecayCorrection NONE without the decay in the frame: 1.3 % in 150 s."""
    patch(suv, "frame_decay", lambda _duration, _half_life: 1.0)


def _lean_is_weight(patch: Patch) -> None:
    """SUVType LBM read as BW."""
    patch(suv, "DICOM_SUV_TYPES", dict.fromkeys(DICOM_SUV_TYPES, "bw"))


FAULTS: dict[str, Callable[[Patch], None]] = {
    "frame-reference-first": _frame_reference_first, "acquisition-time": _acquisition_time,
    "admin-decayed": _admin_decayed, "first-slope": _first_slope, "not-corrected": _not_corrected,
    "any-nuclide": _any_nuclide, "weight-in-grams": _grams,
    "counts-are-bq": _counts_are_becquerel, "no-frame-decay": _no_frame_decay,
    "lean-is-weight": _lean_is_weight,
}  # fmt: skip
"""Name -> what puts the fault in. A dose in MBq read as Bq is none: an SUV of millions is refused anyway."""
