"""The time to which an image with DecayCorrection START was corrected, by four rules, in order.

1. The scanner wrote it: an enhanced PET (0018,9701), GE (0009,xx0D), Siemens (0071,xx22).
2. The series date and time, if it is not later than the earliest acquisition.
3. Back-computed from FrameReferenceTime, which is the time from the reference to the moment in the frame at
   which the activity was average: t_ref = t_acq + T_ave - FRT (GE leaves T_ave out).
4. The earliest acquisition.

Rule 3 must not come first: some scanners write a constant AcquisitionTime with a FrameReferenceTime per bed
(GE Discovery ST), or a FrameReferenceTime that does not fit the times (one Philips series: -12.5 %).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from scantwin.imaging.pet_header import PetHeader
from scantwin.imaging.reasons import reject, warn
from scantwin.imaging.suv_times import DAY, acquisition_at, days_off, parse_datetime, series_at

ReferenceRule = Literal[
    "decay-correction-time", "vendor-private", "series-time", "frame-reference-time", "earliest-acquisition",
    "administration", "each-acquisition", "already-suv", "vendor-factor",
]  # fmt: skip
"""How the reference of decay was found: rules 1 to 4 of START, then ADMIN, NONE, and images that are already
SUV or carry Philips' own factor, which need no reference."""

RULE_NUMBER: Final[dict[str, int]] = {
    "decay-correction-time": 1, "vendor-private": 1, "series-time": 2, "frame-reference-time": 3,
    "earliest-acquisition": 4,
}  # fmt: skip
"""Number of the rule in the order above."""

EARLIEST_BEFORE_SCAN: Final = timedelta(hours=6)
"""A reference lies at most this long before the first acquisition; the longest dynamic FDG scans take 2 h."""
ROUNDING: Final = timedelta(seconds=1)
"""One of two times may have lost its fraction of a second."""
VENDOR_TOLERANCE: Final = timedelta(seconds=60)
"""A private reference may lie this much after the first acquisition (two computers' clocks); 0.6 % of SUV."""
SPREAD: Final = timedelta(seconds=30)
"""Slices must agree on a back-computed reference to within this; 0.3 % of SUV."""


@dataclass(frozen=True)
class ReferenceTime:
    """The time to which the image was corrected, the rule that gave it, and why that rule."""

    rule: ReferenceRule
    time: datetime
    why: str
    warnings: tuple[str, ...] = ()


def average_activity_s(duration: float, half_life: float) -> float:
    """Time from a frame's start to the moment of average activity [s]; `duration`, `half_life` [s]."""
    x = math.log(2) / half_life * duration
    if x < 1e-6:
        return duration / 2  # series expansion: T/2 (1 - x/12 + ..)
    return math.log(x / -math.expm1(-x)) * half_life / math.log(2)


def frame_decay(duration: float, half_life: float) -> float:
    """Decay within a frame, lT / (1 - e^-lT); `duration`, `half_life` [s]."""
    x = math.log(2) / half_life * duration
    return 1.0 if x == 0 else x / -math.expm1(-x)


def reference_time(headers: Sequence[PetHeader], half_life: float) -> ReferenceTime:
    """The reference of decay of a series with DecayCorrection START. `half_life` [s].

    Raises `suv.no-time` and `suv.no-frame-duration`.
    """
    acquisitions = [acquisition_at(h) for h in headers]
    known = [t for t in acquisitions if t is not None]
    earliest = min(known) if len(known) == len(headers) else None
    series = min((t for t in map(series_at, headers) if t is not None), default=None)
    warnings: list[str] = []

    near, zone = earliest or series, headers[0].zone
    stated = _written({h.corrected_to for h in headers}, zone, near, EARLIEST_BEFORE_SCAN, warnings)
    if stated is not None:
        why = "the file states it in DecayCorrectionDateTime"
        return ReferenceTime("decay-correction-time", stated, why, tuple(warnings))
    private = _written({h.vendor_reference for h in headers}, zone, near, VENDOR_TOLERANCE, warnings)
    if private is not None:
        return ReferenceTime(
            "vendor-private", private, "the scanner wrote it in a private field", tuple(warnings)
        )
    if earliest is None:
        missing = next(h for h, t in zip(headers, acquisitions, strict=True) if t is None)
        raise reject("suv.no-time", which="acquisition", found=missing.acquisition_time or "(missing)")
    if series is not None and series - earliest <= ROUNDING:
        if earliest - series <= EARLIEST_BEFORE_SCAN:
            why = "the series time is not later than the earliest acquisition"
            return ReferenceTime("series-time", series, why, tuple(warnings))
        warnings.append(warn("suv.series-time-early", found=f"{(earliest - series).total_seconds():.0f}"))
    elif series is not None:
        warnings.append(warn("suv.series-time-late", found=f"{(series - earliest).total_seconds():.0f}"))

    no_series = (
        "the series time is missing" if series is None else "the series time does not fit the acquisitions"
    )
    computed, why_not = _back_computed(headers, known, half_life)
    if computed is not None:
        why = f"{no_series}, FrameReferenceTime leads back to one moment"
        if not headers[0].manufacturer:
            warnings.append(warn("pet.unknown-maker"))
        return ReferenceTime("frame-reference-time", computed, why, tuple(warnings))
    if any((h.frame_reference_ms or 0) > 0 for h in headers):
        warnings.append(warn("suv.frame-reference-unusable", found=why_not))
    return ReferenceTime("earliest-acquisition", earliest, f"{no_series} and {why_not}", tuple(warnings))


def _written(
    said: set[str], zone: str, near: datetime | None, late: timedelta, warnings: list[str]
) -> datetime | None:
    """The reference that the scanner wrote, moved to the day of the scan, if all slices agree and it fits."""
    written = sorted(said - {""})
    if not written:
        return None
    at = parse_datetime(written[0], zone)
    if len(written) > 1 or at is None or near is None:
        warnings.append(warn("suv.private-time-unusable", found=" / ".join(written[:3])))
        return None
    if _fits(at, near, late):
        return at
    # If all dates but private ones were shifted, it is off by whole days; its clock reading is still right.
    days = days_off(at, near)
    try:
        moved = at + days * DAY
    except OverflowError:
        moved = at
    if days and _fits(moved, near, late):
        warnings.append(warn("suv.date-shifted", found=f"{-days * 86400}"))
        return moved
    warnings.append(warn("suv.private-time-unusable", found=written[0]))
    return None


def _fits(at: datetime, earliest: datetime, late: timedelta = VENDOR_TOLERANCE) -> bool:
    return -late <= earliest - at <= EARLIEST_BEFORE_SCAN


def _back_computed(
    headers: Sequence[PetHeader], acquisitions: Sequence[datetime], half_life: float
) -> tuple[datetime | None, str]:
    """Rule 3: the reference, or None and why it does not apply."""
    found: list[datetime] = []
    if all(h.frame_reference_ms is None or h.frame_reference_ms <= 0 for h in headers):
        return None, "FrameReferenceTime is 0 or missing"
    for header, acquisition in zip(headers, acquisitions, strict=True):
        reference = header.frame_reference_ms
        if reference is None:
            continue  # 0 beside larger ones does count: it is the offset of the first bed
        if math.isnan(reference):
            raise reject("suv.no-time", which="frame reference", found="not a number")
        duration = header.frame_duration_ms
        if not header.is_ge and (duration is None or not duration > 0):
            raise reject("suv.no-frame-duration", found=duration)
        average = 0.0 if header.is_ge or duration is None else average_activity_s(duration / 1000, half_life)
        try:
            found.append(acquisition + timedelta(seconds=average - reference / 1000))
        except OverflowError:
            return None, "FrameReferenceTime is out of range"
    if max(found) - min(found) > SPREAD:
        return None, "FrameReferenceTime leads the slices back to different moments"
    first, earliest = min(found), min(acquisitions)
    if not _fits(first, earliest):
        return None, "FrameReferenceTime leads to a moment that does not fit the acquisitions"
    return first, ""
