"""Dates and times of PET headers: parsing, time zones, when the scan began and the dose was given.

All times are compared on one clock, that of the file's times without a zone (TimezoneOffsetFromUTC says which
it is). A file without any date is put on `NO_DATE`, so that intervals within a day still work.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from typing import Final

from scantwin.imaging.pet_header import PetHeader
from scantwin.imaging.reasons import reject, warn

NO_DATE: Final = date(1900, 1, 1)
"""Stands for the date of a file whose dates were removed; DICOM's own dummy."""
FIRST_YEAR: Final = 1990
"""A date before this [calendar year] is a dummy: whole-body PET came into the clinics in the 1990s."""
DAY: Final = timedelta(days=1)
HALF_DAY: Final = timedelta(hours=12)
LONGEST_UPTAKE_HALF_LIVES: Final = 6.0
"""No patient is scanned after six half-lives (11 h for F-18): 1.6 % of the dose is left. A longer interval
means a wrong date."""
_USUAL_UPTAKE_S: Final = (1800, 10800)
"""FDG is scanned 30 to 180 min after its injection; EANM asks for 55 to 75 min."""
_SAME_S: Final = 60
"""Two records of one injection may differ by this much [s]: one of them may be given to the minute."""

_TM: Final = re.compile(r"(\d{2}):?(\d{2})(?::?(\d{2})(?:\.(\d{1,6}))?)?", re.ASCII)
_DA: Final = re.compile(r"(\d{4})([.\-/]?)(\d{2})\2(\d{2})", re.ASCII)
_DT: Final = re.compile(r"(\d{8})(\d{4}(?:\d{2}(?:\.\d{1,6})?)?)([+-]\d{4})?", re.ASCII)
_ZONE: Final = re.compile(r"([+-])(\d{2})(\d{2})", re.ASCII)


@dataclass(frozen=True)
class PetOrigin:
    """Which PET it was, and when, by its own header. It can identify the patient, so it stays in memory."""

    series: str
    """SeriesInstanceUID; that of one bed where several were joined. Empty if the header has none."""
    day: date | None = None
    """Day of the acquisition; None where the header has none or only a dummy."""
    clock: time | None = None
    """Time of that day on the clock of `zone`."""
    zone: timezone | None = None
    """TimezoneOffsetFromUTC; None where the header does not say which clock it is on."""


def parse_time(value: str) -> time | None:
    """The time of a DICOM TM with at least minutes, also with ACR-NEMA's colons; None if it is not one."""
    match = _TM.fullmatch(value.strip())
    if not match:
        return None
    hour, minute, second, fraction = match.groups()
    leap = second == "60"  # DICOM's leap second, which Python lacks
    try:
        return time(
            int(hour), int(minute), 59 if leap else int(second or 0), int((fraction or "").ljust(6, "0"))
        )
    except ValueError:
        return None


def parse_date(value: str) -> date | None:
    """The date of a DICOM DA, also with ACR-NEMA's separators; None if it is not one."""
    match = _DA.fullmatch(value.strip())
    try:
        return date(int(match[1]), int(match[3]), int(match[4])) if match else None
    except ValueError:
        return None


def parse_datetime(value: str, zone: str = "") -> datetime | None:
    """The time of a DICOM DT with at least minutes, on the clock of `zone`; None if it is not one.

    A value with a zone of its own is converted to `zone`; if `zone` is not known, the clock reading is kept.
    """
    match = _DT.fullmatch(value.strip())
    if not match:
        return None
    day, clock = parse_date(match[1]), parse_time(match[2])
    if day is None or clock is None:
        return None
    at = datetime.combine(day, clock)
    own, files = parse_zone(match[3] or ""), parse_zone(zone)
    if own is None or files is None:
        return at
    try:
        return at.replace(tzinfo=own).astimezone(files).replace(tzinfo=None)
    except OverflowError:
        return None


def parse_zone(value: str) -> timezone | None:
    """An offset from UTC like +0100; None if it is not one."""
    match = _ZONE.fullmatch(value.strip())
    if not match:
        return None
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    if offset > timedelta(hours=14) or int(match[3]) > 59:
        return None
    return timezone(-offset if match[1] == "-" else offset)


def acquisition_at(header: PetHeader) -> datetime | None:
    """When the acquisition of this instance began; None if that is missing or not a time."""
    clock = parse_time(header.acquisition_time)
    if clock is None:
        return None
    own = parse_date(header.acquisition_date)
    at = datetime.combine(own or parse_date(header.series_date) or NO_DATE, clock)
    series = parse_time(header.series_time)
    if own is None and series is not None and datetime.combine(at.date(), series) - at > HALF_DAY:
        at = _moved(at, 1)  # the series began before midnight and only its date is known
    return at


def series_at(header: PetHeader) -> datetime | None:
    """Series date and time; None if that is missing or not a time."""
    clock = parse_time(header.series_time)
    if clock is None:
        return None
    own = parse_date(header.series_date)
    at = datetime.combine(own or parse_date(header.acquisition_date) or NO_DATE, clock)
    acquisition = acquisition_at(header)
    if own is None and acquisition is not None and at - acquisition > HALF_DAY:
        at = _moved(at, -1)
    return at


def origin_of(series: str, headers: Sequence[PetHeader]) -> PetOrigin:
    """Which series it was, and when its first instance was acquired or, failing that, the series began.

    Without a time, it has the day alone; without a date, neither, as nobody knows which day the time is of.
    """
    moments = [at for h in headers if (at := acquisition_at(h) or series_at(h)) is not None]
    moments = [at for at in moments if at.year >= FIRST_YEAR]
    zone = next((z for h in headers if (z := parse_zone(h.zone)) is not None), None)
    if moments:
        first = min(moments)
        return PetOrigin(series, first.date(), first.time(), zone)
    days = [day for h in headers if (day := parse_date(h.acquisition_date) or parse_date(h.series_date))]
    return PetOrigin(series, min((day for day in days if day.year >= FIRST_YEAR), default=None), zone=zone)


def days_off(at: datetime, expected: datetime) -> int:
    """By how many whole days `at` must be moved to come nearest to `expected`."""
    return round((expected - at) / DAY)


def administration_at(
    header: PetHeader, scan: datetime, half_life: float
) -> tuple[datetime, tuple[str, ...]]:
    """When the dose was given, on the clock of `scan`, and the warnings about it.

    The date-time (0018,1078) comes first, then the time (0018,1072) on the day of the scan, then GE's private
    one; if the first two contradict each other and only the time gives a usual uptake, the time is used. An
    injection after the scan, or longer before it than anybody waits, keeps its clock reading and moves to the
    last such time before the scan. Raises `suv.no-time`.
    """
    clock = parse_time(header.start_time)
    stamp, zone_said = _stamp(header, clock)
    if stamp is None and clock is None:
        found = " ".join(filter(None, (header.start_datetime, header.start_time))) or "(missing)"
        raise reject("suv.no-time", which="injection", found=found)
    if stamp is None:
        assert clock is not None  # noqa: S101 - checked above
        return _by_clock(clock, scan)
    given, said = _by_stamp(stamp, scan, half_life)
    warnings = (*zone_said, *said)
    if clock is None:
        return given, warnings
    apart = abs(datetime.combine(given.date(), clock) - given)
    apart_s = min(apart, DAY - apart).total_seconds()  # 23:59 and 00:01 are two minutes apart
    if apart_s <= _SAME_S:
        return given, warnings
    other, said = _by_clock(clock, scan)
    given_usual, other_usual = (
        is_usual_uptake((scan - at).total_seconds(), half_life) for at in (given, other)
    )
    if other_usual and not given_usual:
        return other, (*said, warn("suv.start-datetime-off", found=f"{apart_s:.0f}"))
    return given, (*warnings, warn("suv.start-times-differ", found=f"{apart_s:.0f}"))


def is_usual_uptake(uptake: float, half_life: float) -> bool:
    """Whether this uptake time [s] is usual for FDG; true for other nuclides, which have their own habits."""
    return not 6000 < half_life < 7000 or _USUAL_UPTAKE_S[0] <= uptake <= _USUAL_UPTAKE_S[1]


def _stamp(header: PetHeader, clock: time | None) -> tuple[datetime | None, tuple[str, ...]]:
    """The injection's date-time, and the warnings about it; None where the time alone is to be used."""
    stamp = parse_datetime(header.start_datetime, header.zone)
    if stamp is None:
        return (parse_datetime(header.vendor_start, header.zone) if clock is None else None), ()
    as_written = parse_datetime(header.start_datetime)
    if clock is not None and as_written is not None and as_written.time() == time.min:
        # De-identification removes the time and leaves the date.
        return datetime.combine(as_written.date(), clock), ()
    if re.search(r"[+-]\d{4}\s*$", header.start_datetime) is None or parse_zone(header.zone) is not None:
        return stamp, ()
    # The file does not say which clock its other times are on.
    if clock is not None:
        return None, ()
    return stamp, (warn("suv.zone-unknown", found=header.start_datetime),)


def _by_stamp(stamp: datetime, scan: datetime, half_life: float) -> tuple[datetime, tuple[str, ...]]:
    """The injection by its date-time, moved to another day if need be."""
    if stamp <= scan and (scan - stamp).total_seconds() <= LONGEST_UPTAKE_HALF_LIVES * half_life:
        return stamp, ()
    given, _ = _last_before(stamp.time(), scan)
    code = "suv.midnight" if stamp - given == DAY else "suv.start-date-off"
    return given, (warn(code, found=f"{stamp:%Y-%m-%d %H:%M:%S}"),)


def _by_clock(clock: time, scan: datetime) -> tuple[datetime, tuple[str, ...]]:
    """The injection by its time of day."""
    given, moved = _last_before(clock, scan)
    return given, (warn("suv.midnight", found=clock.strftime("%H:%M:%S")),) if moved else ()


def _last_before(clock: time, scan: datetime) -> tuple[datetime, bool]:
    """The last moment up to `scan` with this clock reading, and whether that is the day before."""
    same_day = datetime.combine(scan.date(), clock)
    return (same_day, False) if same_day <= scan else (_moved(same_day, -1), True)


def _moved(at: datetime, days: int) -> datetime:
    try:
        return at + days * DAY
    except OverflowError:
        return at
