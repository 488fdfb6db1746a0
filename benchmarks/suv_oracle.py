"""What docs/imaging.md says the factor is, written again and on its own: nothing here imports scantwin.

Input: the raw texts of the fields as they stand in the file (None: missing). Output: the factor that the
rules give when read to the letter, and all factors that a reader may give if it says by a warning that it
departs from the letter (a date put back by a day, an unusable private time, an assumed half-life).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product

F18_S = 6586.2
HEIGHT_CM = 170.0


@dataclass(frozen=True)
class Answer:
    """Factors from rescaled value to SUVbw, one per slice each; empty is a refusal."""

    literal: tuple[tuple[float, ...], ...]
    """Several where docs/imaging.md leaves the choice: the injection's time and its date-time."""
    with_warning: tuple[tuple[float, ...], ...]


Fields = dict[str, str | None]


def number(text: str | None) -> float | None:
    """A DICOM decimal string, or None if it is not one."""
    if text is None or not re.fullmatch(r" *[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)? *", text, re.ASCII):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def moment(day: str | None, clock: str | None) -> datetime | None:
    """A DICOM date and time, to the minute at least; old files have the colons of ACR-NEMA (PS3.5)."""
    if not day or not clock or not re.fullmatch(r"\d{8}", day.strip(), re.ASCII):
        return None
    match = re.fullmatch(r"(\d\d):?(\d\d):?(\d\d)?(\.\d{1,6})?", clock.strip(), re.ASCII)
    if not match or (match[4] and not match[3]):
        return None
    try:
        start = datetime.strptime(
            day.strip() + match[1] + (match[2] or "00") + (match[3] or "00"), "%Y%m%d%H%M%S"
        )
    except ValueError:
        return None
    return start + timedelta(seconds=float("0" + match[4])) if match[4] else start


def stamp(text: str | None) -> datetime | None:
    """A DICOM date-time without its zone."""
    if not text:
        return None
    bare = re.sub(r"[+-]\d{4}$", "", text.strip())
    return moment(bare[:8], bare[8:])


def answer(fields: Fields, slices: list[Fields]) -> Answer:  # noqa: PLR0912 - the rules, top to bottom
    """The factors of a series with these fields; `slices` hold acquisition, frame and scale of each slice."""
    refused = Answer((), ())
    # Codes in small letters are still those codes.
    corrected = [code.strip() for code in (fields["corrected"] or "").upper().split("\\")]
    decay = (fields["decay"] or "").strip().upper()
    if "ATTN" not in corrected or ("DECY" not in corrected and decay != "NONE"):
        return refused
    for one in slices:
        slope, intercept = number(one["slope"]), number(one["intercept"] or "0")
        if slope is None or slope <= 0 or intercept != 0:
            return refused
    half_life = number(fields["half_life"])
    halves = [half_life] if half_life and half_life > 0 else [F18_S]
    if half_life and half_life > 0 and abs(half_life / F18_S - 1) > 0.01:
        return refused
    weight = number(fields["weight"])
    if weight is not None:
        weight = weight / 1000 if weight > 1000 else weight
    units = (fields["units"] or "").strip().upper()
    n = len(slices)
    if units in ("GML", "CM2ML"):
        factor = _gml(fields, weight) if units == "GML" else _cm2ml(fields, weight)
        return refused if factor is None else _one((factor,) * n)
    if units == "CNTS":
        direct, counts = number(fields["philips_suv"]), number(fields["philips_bq"])
        if direct is not None and direct > 0:
            return _one((direct,) * n)
        if counts is None or counts <= 0:
            return refused
    elif units == "BQML":
        counts = 1.0
    else:
        return refused
    dose = number(fields["dose"])
    if dose is None or dose <= 0 or weight is None or weight <= 0:
        return refused
    dose = dose * 1e6 if dose < 1e5 else dose
    references, injections = _references(fields, slices, halves[0]), _injections(fields)
    literal, all_ = [], []
    for half in halves:
        for k, (reference, injection) in enumerate(product(references or [None], injections or [None])):  # type: ignore[list-item]
            made = _bqml(fields, decay, weight, dose, half, reference, injection, slices) or []
            scaled = [tuple(counts * f for f in one) for one in made]
            all_ += scaled
            # The first reference there is; either way of giving the injection.
            literal += scaled if k < min(len(injections), 2) or decay == "ADMIN" else []
    return Answer(tuple(literal), tuple(all_))


def _one(factors: tuple[float, ...]) -> Answer:
    return Answer((factors,), (factors,))


def _gml(fields: Fields, weight: float | None) -> float | None:
    """From SUV of the file's type to SUVbw; every patient of the fuzz is a woman of 1.70 m."""
    kind = (fields["suv_type"] or "").strip().upper()
    if kind in ("", "BW"):
        return 1.0
    if weight is None or weight <= 0 or kind != "LBM":
        return None
    lean = 1.07 * weight - 148 * (weight / HEIGHT_CM) ** 2
    return weight / lean if lean > 0 else None


def _cm2ml(fields: Fields, weight: float | None) -> float | None:
    kind = (fields["suv_type"] or "").strip().upper()
    if kind not in ("", "BSA") or weight is None or weight <= 0:
        return None
    return weight * 1000 / float(0.007184 * weight**0.425 * HEIGHT_CM**0.725 * 1e4)


def acquisition(fields: Fields, one: Fields) -> datetime | None:
    """When a slice was acquired; a clock without a usable date is on the day of the series."""
    return moment(one["acq_date"], one["acq_time"]) or moment(fields["series_date"], one["acq_time"])


def _references(fields: Fields, slices: list[Fields], half: float) -> list[datetime]:
    """Candidates in the order of the rules."""
    acquired = [acquisition(fields, s) for s in slices]
    known = [a for a in acquired if a is not None]
    earliest = min(known) if known else None
    found = [stamp(fields["private_time"])]
    series = moment(fields["series_date"], fields["series_time"])
    if (
        series is None
    ):  # a clock without a usable date is on the day of the acquisition, or began the day before
        series = moment(slices[0]["acq_date"], fields["series_time"])
        if series is not None and earliest is not None and series - earliest > timedelta(hours=12):
            series -= timedelta(days=1)
    if series is not None and (earliest is None or series <= earliest):
        found.append(series)
    for one, at in zip(slices, acquired, strict=True):
        reference, duration = number(one["frame_reference"]), number(one["duration"])
        if at is not None and reference and reference > 0 and duration and duration > 0:
            x = math.log(2) / half * duration / 1000
            usable = 1e-9 < x < 700  # else the formula has no digits left
            average = math.log(x / (1 - math.exp(-x))) / (math.log(2) / half) if usable else 0.0
            # GE's reference time does not hold the average within the frame; others' does (docs/imaging.md).
            for part in (0.0,) if fields.get("maker") == "ge" else (average, 0.0):
                try:
                    found.append(at + timedelta(seconds=part - reference / 1000))
                except OverflowError:
                    continue
    found.append(earliest)
    found.append(series)
    return [f for f in found if f is not None]


def _injections(fields: Fields) -> list[datetime | tuple[datetime, str]]:
    """Candidates; a bare clock stays a clock until the reference is known."""
    given = stamp(fields["start_datetime"])
    clock = moment("20000101", fields["start_time"])
    private = stamp(fields["ge_start"])
    found = [given, None if clock is None else (clock, "clock"), private]
    return [one for one in found if one is not None]


def _bqml(
    fields: Fields, decay: str, weight: float, dose: float, half: float, reference: datetime | None,
    injection: datetime | tuple[datetime, str] | None, slices: list[Fields],
) -> list[tuple[float, ...]] | None:  # fmt: skip
    if decay == "ADMIN":
        return [(weight * 1000 / dose,) * len(slices)]
    if reference is None or injection is None:
        return None
    made = []
    for given in _before(injection, reference):
        if decay == "START":
            left = dose * 2 ** (-(reference - given).total_seconds() / half)
            if left > 0:
                made.append((weight * 1000 / left,) * len(slices))
        elif decay == "NONE":
            rate, factors = math.log(2) / half, []
            for one in slices:
                at, length = acquisition(fields, one), number(one["duration"])
                if at is None or not length or length <= 0 or rate * length / 1000 > 700:
                    return None
                x = max(rate * length / 1000, 1e-6)  # below, the formula has no digits left and is 1
                late = rate * (at - given).total_seconds()
                if late > 700:
                    return None
                factors.append(weight * 1000 / dose * x / (1 - math.exp(-x)) * math.exp(late))
            made.append(tuple(factors))
    return made or None


def _before(injection: datetime | tuple[datetime, str], reference: datetime) -> list[datetime]:
    """The injection as it stands, and its clock reading as the last such time before the reference."""
    at = injection[0] if isinstance(injection, tuple) else injection
    same_day = reference.replace(hour=at.hour, minute=at.minute, second=at.second, microsecond=at.microsecond)
    last = same_day if same_day <= reference else same_day - timedelta(days=1)
    if isinstance(injection, tuple):
        return [last]
    return [at, last] if at <= reference else [last]
