"""What a PET series must fulfil before SUV makes sense, and the quantities that need judgement.

The limits test plausibility and are wide enough for children, phantoms and heavy patients: a number outside
them is wrong or in another unit, and a wrong SUV is worse than none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, cast

from scantwin.imaging.pet_header import PetHeader
from scantwin.imaging.reasons import reject, warn
from scantwin.imaging.suv_body import Sex, SuvType, body_measure
from scantwin.imaging.suv_reference_time import frame_decay
from scantwin.imaging.suv_times import acquisition_at
from scantwin.units import F18_HALF_LIFE_S

F18_TOLERANCE: Final = 0.01
"""Relative deviation allowed from F-18's half-life: files say 6584 to 6588 s; C-11 is 1223, Ga-68 4070 s."""
DOSE_IN_MBQ_BELOW: Final = 1e5
"""A dose below this is not in Bq (shared SUV rules): 0.1 MBq gives no PET."""
DOSE_LIMITS_BQ: Final = (1e6, 1e10)
"""Nobody is scanned with less than 1 MBq or more than 10 GBq."""
USUAL_DOSE_BQ: Final = (20e6, 1500e6)
"""From a child's dose to a dose of rubidium."""
WEIGHT_IN_G_ABOVE: Final = 1000.0
"""A weight above this is in grams (shared SUV rules)."""
WEIGHT_LIMITS_KG: Final = (0.5, 700.0)
"""From a preterm baby to the heaviest person on record (635 kg)."""
HEIGHT_IN_CM_ABOVE: Final = 3.0
"""A height above this is in centimetres."""
HEIGHT_LIMITS_M: Final = (0.3, 2.75)
"""From a preterm baby to the tallest person on record (2.72 m)."""
DECAY_FACTOR_TOLERANCE: Final = 0.01
"""Relative deviation allowed between GE's DecayFactor and that of the reference time: 95 s."""

_SAME: Final = (
    "series_uid", "units", "suv_type", "decay_correction", "weight", "height", "sex", "dose", "half_life",
    "start_time", "start_datetime", "administrations",
)  # fmt: skip
"""Fields on which all instances of a series must agree."""


def check_series(headers: Sequence[PetHeader], *, any_nuclide: bool) -> tuple[str, ...]:
    """Refuses a series that is not a corrected FDG PET of one kind; returns the warnings about it."""
    if not headers:
        raise reject("study.no-pet", path="the series")
    for header in headers:
        _check_instance(header)
    for name in _SAME:
        values = {repr(getattr(h, name)) for h in headers}
        if len(values) > 1:
            raise reject("suv.mixed-series", field=name, found=", ".join(sorted(values)[:3]))
    first = headers[0]
    if first.administrations > 1:
        raise reject("suv.several-doses", found=first.administrations)
    warnings: list[str] = []
    if any(h.slope is None for h in headers):
        warnings.append(warn("suv.no-slope"))
    warnings += list(_check_nuclide(first, any_nuclide=any_nuclide))
    beds = len({h.acquisition_date + h.acquisition_time for h in headers})
    if 1 < beds < len(headers):
        warnings.append(warn("suv.acquisition-times", found=beds))
    return tuple(warnings)


def _check_instance(header: PetHeader) -> None:
    if header.modality != "PT":
        raise reject("pet.not-pet", modality=header.modality)
    corrected = "\\".join(header.corrected) or "(empty)"
    if "ATTN" not in header.corrected:
        raise reject("pet.no-attenuation-correction", corrected=corrected)
    # An activity that says NONE declares itself uncorrected, and the formula corrects it.
    by_formula = header.decay_correction == "NONE" and header.units == "BQML"
    if "DECY" not in header.corrected and not by_formula:
        raise reject("pet.no-decay-correction", corrected=corrected)
    slope, intercept = header.slope, header.intercept
    if slope is not None and not slope > 0:
        raise reject("suv.bad-slope", found=slope)
    if intercept is None or intercept != 0:
        raise reject("suv.intercept", found=intercept)


def _check_nuclide(header: PetHeader, *, any_nuclide: bool) -> tuple[str, ...]:
    half_life, other = header.half_life, ""
    if half_life is None:
        # Checked again where the half-life is needed; an image in SUV does not need it.
        if not header.nuclide:
            return (warn("pet.nuclide-unknown"),)
        if not says_f18(header.nuclide):
            other = f"there is no half-life and the code says {header.nuclide}"
    elif not half_life > 0:
        raise reject("suv.no-half-life", found=half_life)
    elif abs(half_life / F18_HALF_LIFE_S - 1) > F18_TOLERANCE:
        other = f"half-life {half_life:.6g} s"
    if other and not any_nuclide:
        raise reject("pet.not-fdg", found=other)
    if other:
        return (warn("pet.other-nuclide", found=other),)
    return () if _may_be_fdg(header.tracer) else (warn("pet.other-tracer", found=header.tracer),)


def _may_be_fdg(tracer: str) -> bool:
    """Whether a tracer's name means FDG, or says no more than fluorine-18."""
    if re.search(r"fdg|fludeoxy|glu[ck]os", tracer, re.IGNORECASE):
        return True
    plain = re.sub(r"fluor(ine|o(?![a-z]))?", "", re.sub(r"[\W_]", "", tracer.lower()))
    return not re.sub(r"f18|18f|\d", "", plain)


def says_f18(nuclide: str) -> bool:
    """Whether a nuclide code or meaning is fluorine-18's (SRT and SNM3 code C-111A1, SCT 77004003)."""
    plain = nuclide.upper().replace("^", "").replace("-", "").replace(" ", "")
    return any(part in plain for part in ("C111A1", "77004003", "18F", "F18", "FLUORINE18"))


def half_life_s(header: PetHeader) -> tuple[float, tuple[str, ...]]:
    """The half-life [s]; that of F-18 if it is missing and the nuclide's code says F-18."""
    if header.half_life is not None and header.half_life > 0:
        return header.half_life, ()
    if header.half_life is None and says_f18(header.nuclide):
        return F18_HALF_LIFE_S, (warn("suv.half-life-assumed", found=header.nuclide),)
    raise reject("suv.no-half-life", found=_shown(header.half_life))


def dose_bq(header: PetHeader) -> tuple[float, tuple[str, ...]]:
    """The injected dose [Bq]; one too small to be in Bq is taken as MBq."""
    dose = header.dose
    if dose is None or not dose > 0:
        raise reject("suv.no-dose", found=_shown(dose))
    warnings: tuple[str, ...] = ()
    if dose < DOSE_IN_MBQ_BELOW:
        warnings = (warn("suv.dose-in-mbq", found=f"{dose:g}"),)
        dose *= 1e6
    if not DOSE_LIMITS_BQ[0] <= dose <= DOSE_LIMITS_BQ[1]:
        raise reject("suv.implausible-dose", found=f"{dose / 1e6:g} MBq")
    if not USUAL_DOSE_BQ[0] <= dose <= USUAL_DOSE_BQ[1]:
        warnings = (*warnings, warn("suv.dose-unusual", found=f"{dose / 1e6:g}"))
    return dose, warnings


@dataclass
class Patient:
    """Weight, height and sex of a header, checked when they are needed, and the warnings about them."""

    header: PetHeader
    warnings: list[str] = field(default_factory=list)

    def measure(self, suv_type: SuvType) -> float:
        """What activity per dose is multiplied by: [g], or [cm2] for `bsa`."""
        if suv_type == "bw":
            return body_measure("bw", self.weight_kg(), None, None)
        found = body_measure(
            suv_type,
            self.weight_kg(),
            self._height_m(suv_type) * 100,
            None if suv_type == "bsa" else self._sex(suv_type),
        )
        # The lean mass formulae fall with weight, even below zero, for heavy, short people.
        if not (math.isfinite(found) and found > 0):
            raise reject("suv.body-size", suv_type=suv_type, found=f"{found:.6g}")
        return found

    def weight_kg(self) -> float:
        """The weight [kg]; one too large to be in kg is taken as grams."""
        weight = self.header.weight
        if weight is None or not weight > 0:
            raise reject("suv.no-weight", found=_shown(weight))
        if weight > WEIGHT_IN_G_ABOVE:
            self._say(warn("suv.weight-in-grams", found=f"{weight:g}"))
            weight /= 1000
        if not WEIGHT_LIMITS_KG[0] <= weight <= WEIGHT_LIMITS_KG[1]:
            raise reject("suv.implausible-weight", found=f"{weight:g} kg")
        if not 3 <= weight <= 300:
            self._say(warn("suv.weight-unusual", found=f"{weight:g}"))
        return weight

    def _height_m(self, suv_type: SuvType) -> float:
        height = self.header.height
        if height is not None and height > HEIGHT_IN_CM_ABOVE:
            self._say(warn("suv.height-in-cm", found=f"{height:g}"))
            height /= 100
        if height is None or not HEIGHT_LIMITS_M[0] <= height <= HEIGHT_LIMITS_M[1]:
            raise reject("suv.no-height", found=_shown(self.header.height), suv_type=suv_type)
        return height

    def _sex(self, suv_type: SuvType) -> Sex:
        if self.header.sex not in ("M", "F", "O"):
            raise reject("suv.no-sex", found=self.header.sex or "(missing)", suv_type=suv_type)
        return cast(Sex, self.header.sex)

    def _say(self, warning: str) -> None:
        if warning not in self.warnings:
            self.warnings.append(warning)


def check_decay_factor(
    headers: Sequence[PetHeader], reference: datetime, half_life: float
) -> tuple[str, ...]:
    """Warns unless GE's DecayFactor is 2^(dt/T_half) lT/(1-e^-lT), dt from reference to the frame's start.

    On GE Discovery ST and STE, all beds share one AcquisitionTime; FrameReferenceTime is the bed's offset.
    """
    starts = [acquisition_at(h) for h in headers]
    several = len(set(starts)) > 1
    worst = 0.0
    for header, start in zip(headers, starts, strict=True):
        factor, duration, offset = header.decay_factor, header.frame_duration_ms, header.frame_reference_ms
        if not header.is_ge or factor is None or duration is None or not (factor > 1 and duration > 0):
            continue
        seconds = (
            (start - reference).total_seconds() if several and start is not None else (offset or 0) / 1000
        )
        if not abs(seconds) < 10 * half_life or not duration / 1000 < 10 * half_life:
            continue
        expected = math.exp(math.log(2) * seconds / half_life) * frame_decay(duration / 1000, half_life)
        worst = max(worst, abs(expected / factor - 1))
    if worst > DECAY_FACTOR_TOLERANCE:
        return (warn("suv.decay-factor-differs", found=f"{100 * worst:.1f}"),)
    return ()


def _shown(value: float | None) -> str:
    if value is None:
        return "(missing)"
    return "not a number" if math.isnan(value) else f"{value:g}"
