"""SUV factors of a PET series by the rules of `docs/imaging.md`: pure functions over `PetHeader`s.

    SUV = factor * (stored value * RescaleSlope)          slice by slice

    BQML, START, ADMIN, NONE   factor = M / D_ref         M [g] or [cm2] of the SUV type, D_ref [Bq]
    GML, CM2ML                 factor = M_wanted / M_own  the image is already SUV, of its own type
    CNTS (Philips)             the private SUV factor, or the private activity factor times that of BQML

A series that lacks what the formula needs is refused with a reason of the catalogue; nothing is guessed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from scantwin.errors import Rejection
from scantwin.imaging.pet_header import PetHeader
from scantwin.imaging.reasons import reject, warn
from scantwin.imaging.suv_body import DICOM_SUV_TYPES, SuvType
from scantwin.imaging.suv_checks import (
    Patient,
    check_decay_factor,
    check_series,
    dose_bq,
    half_life_s,
)
from scantwin.imaging.suv_reference_time import RULE_NUMBER, ReferenceRule, frame_decay, reference_time
from scantwin.imaging.suv_times import (
    LONGEST_UPTAKE_HALF_LIVES,
    acquisition_at,
    administration_at,
    is_usual_uptake,
)

EQUAL = 1e-9
"""Factors within this relative difference count as one number."""


@dataclass(frozen=True)
class SuvFactors:
    """The factors that turn a series into SUV, and how they were derived."""

    suv_type: SuvType
    units: str
    """Units (0054,1001) of the stored values after the rescale slope."""
    factors: tuple[float, ...]
    """SUV per rescaled value, one per header in the order given."""
    reference_rule: ReferenceRule
    reference_why: str
    reference_time: datetime | None
    """The time to which decay is corrected; None if the image needs none."""
    dose_at_reference_bq: float | None
    """Dose remaining at the reference [Bq]; None if the image needs none."""
    warnings: tuple[str, ...] = ()
    derivation: tuple[str, ...] = ()
    """The calculation step by step, one line each."""

    @property
    def factor(self) -> float | tuple[float, ...]:
        """One number if all slices agree within `EQUAL`, else one per slice."""
        first = self.factors[0]
        same = all(abs(f - first) <= EQUAL * first for f in self.factors)
        return first if same else self.factors


@dataclass(frozen=True)
class _PerDose:
    """Inverse effective dose of each slice [1/Bq], and how it was found."""

    inverse: tuple[float, ...]
    rule: ReferenceRule
    why: str
    reference: datetime | None
    dose: float
    warnings: tuple[str, ...]
    derivation: tuple[str, ...]


def suv_factors(
    headers: Sequence[PetHeader], suv_type: SuvType = "bw", *, any_nuclide: bool = False
) -> SuvFactors:
    """The SUV factors of the instances of one series, in their order. Raises a `Rejection` of the catalogue.

    With `any_nuclide`, tracers other than F-18 are converted too, with a warning.
    """
    warnings = list(check_series(headers, any_nuclide=any_nuclide))
    first = headers[0]
    patient = Patient(first)
    own = _own_type(first)
    if own is not None:
        result = _from_suv(headers, own, suv_type, patient)
    elif first.units == "CNTS" and all(_positive(h.philips_suv) for h in headers):
        result = _from_philips(headers, suv_type, patient)
    elif first.units in ("BQML", "CNTS"):
        result = _from_activity(headers, suv_type, patient)
    else:
        raise reject("suv.units-unknown", found=first.units or "(missing)")
    bad = [f for f in result.factors if not (math.isfinite(f) and f > 0)]
    if bad:
        raise reject("suv.bad-result", found=bad[0])
    result = replace(result, warnings=(*warnings, *patient.warnings, *result.warnings))
    return replace(result, derivation=(*result.derivation, _factor_line(result)))


def activity_scales(headers: Sequence[PetHeader]) -> tuple[float, ...]:
    """Activity [Bq/ml] per rescaled value of each instance, which remains when SUV cannot be computed.

    Raises a `Rejection` if the values are not an activity at all.
    """
    if not headers:
        raise reject("study.no-pet", path="the series")
    scales: list[float] = []
    for header in headers:
        if header.units == "BQML":
            scales.append(1.0)
        elif header.units == "CNTS":
            scales.append(_counts_scale(header))
        else:
            raise reject("suv.units-unknown", found=header.units or "(missing)")
    return tuple(scales)


def _own_type(header: PetHeader) -> SuvType | None:
    """The SUV type that the stored values already have, or None if they are not SUV."""
    if header.units not in ("GML", "CM2ML"):
        return None
    own = DICOM_SUV_TYPES.get(header.suv_type)
    if header.units == "CM2ML" and header.suv_type == "":
        own = "bsa"
    if own is None or (own == "bsa") != (header.units == "CM2ML"):
        raise reject("suv.suv-type-unknown", found=f"{header.suv_type} with units {header.units}")
    return own


def _from_suv(headers: Sequence[PetHeader], own: SuvType, wanted: SuvType, patient: Patient) -> SuvFactors:
    why = f"the image is SUV ({own}) already"
    ratio, line = 1.0, f"Units {headers[0].units}, SUVType {headers[0].suv_type or '(empty)'}: {why}."
    if own != wanted:
        ratio = patient.measure(wanted) / patient.measure(own)
        line += f" {wanted} / {own} = {patient.measure(wanted):.6g} / {patient.measure(own):.6g}."
    factors = (ratio,) * len(headers)
    return SuvFactors(wanted, headers[0].units, factors, "already-suv", why, None, None, (), (line,))


def _from_philips(headers: Sequence[PetHeader], wanted: SuvType, patient: Patient) -> SuvFactors:
    why = "Units are CNTS and the Philips private SUV factor (7053,xx00) is there"
    own = tuple(float(h.philips_suv or math.nan) for h in headers)
    ratio, line = 1.0, f"{why}: SUVbw per count {own[0]:.6g}."
    if wanted != "bw":
        ratio = patient.measure(wanted) / patient.measure("bw")
        line += f" {wanted} / bw = {patient.measure(wanted):.6g} / {patient.measure('bw'):.6g}."
    factors = tuple(f * ratio for f in own)
    warnings = _philips_differs(headers, own, patient)
    return SuvFactors(wanted, "CNTS", factors, "vendor-factor", why, None, None, warnings, (line,))


def _philips_differs(
    headers: Sequence[PetHeader], own: tuple[float, ...], patient: Patient
) -> tuple[str, ...]:
    """A warning if dose and weight, where present, lead to another factor than the private one."""
    try:
        other = _from_activity(headers, "bw", patient).factors
    except Rejection:
        return ()
    apart = max(abs(b / a - 1) for a, b in zip(own, other, strict=True))
    # The private factor has three digits; 5 % is 8 min of decay.
    return (warn("suv.philips-factor-differs", found=f"{100 * apart:.1f}"),) if apart > 0.05 else ()


def _from_activity(headers: Sequence[PetHeader], wanted: SuvType, patient: Patient) -> SuvFactors:
    scales = activity_scales(headers)
    measure = patient.measure(wanted)
    per_dose = _per_dose(headers)
    factors = tuple(measure * s * k for s, k in zip(scales, per_dose.inverse, strict=True))
    lines = [*per_dose.derivation]
    if headers[0].units == "CNTS":
        lines.append(f"Counts times the private activity factor (7053,xx09) {scales[0]:.6g} are Bq/ml.")
    unit = "cm2" if wanted == "bsa" else "g"
    lines.append(f"SUV {wanted}: activity [Bq/ml] x {measure:.8g} {unit} / dose [Bq].")
    return SuvFactors(
        wanted, headers[0].units, factors, per_dose.rule, per_dose.why, per_dose.reference, per_dose.dose,
        per_dose.warnings, tuple(lines),
    )  # fmt: skip


def _counts_scale(header: PetHeader) -> float:
    scale = header.philips_activity
    if scale is None or not _positive(scale):
        found = f"{header.philips_suv}, {header.philips_activity}"
        raise reject("suv.counts-without-scale", found=found)
    return scale


def _per_dose(headers: Sequence[PetHeader]) -> _PerDose:
    first = headers[0]
    dose, warnings = dose_bq(first)
    match first.decay_correction:
        case "ADMIN":
            return _admin(headers, dose, warnings)
        case "START":
            return _start(headers, dose, warnings)
        case "NONE":
            return _none(headers, dose, warnings)
    raise reject("suv.no-decay-rule", found=first.decay_correction or "(missing)")


def _admin(headers: Sequence[PetHeader], dose: float, warnings: tuple[str, ...]) -> _PerDose:
    why = "DecayCorrection is ADMIN: the image is corrected to the injection, the dose is not decayed again"
    line = f"{why}: dose at the reference {dose:.8g} Bq."
    return _PerDose((1 / dose,) * len(headers), "administration", why, None, dose, warnings, (line,))


def _start(headers: Sequence[PetHeader], dose: float, warnings: tuple[str, ...]) -> _PerDose:
    half_life, assumed = half_life_s(headers[0])
    reference = reference_time(headers, half_life)
    given, said = administration_at(headers[0], reference.time, half_life)
    uptake = _uptake(given, reference.time, half_life)
    left = math.exp(-math.log(2) * uptake / half_life)
    lines = (
        f"Reference of decay {_clock(reference.time)}, rule {RULE_NUMBER[reference.rule]}: {reference.why}.",
        f"Injection {_clock(given)}, {uptake:.3f} s earlier; half-life {half_life:.8g} s.",
        f"Dose at the reference: {dose:.8g} Bq x 2^(-{uptake:.3f} / {half_life:.8g}) = {dose * left:.8g} Bq.",
    )
    warnings = (
        *warnings, *assumed, *reference.warnings, *said, *_unusual(uptake, half_life),
        *check_decay_factor(headers, reference.time, half_life),
    )  # fmt: skip
    inverse = (1 / (dose * left),) * len(headers)
    return _PerDose(inverse, reference.rule, reference.why, reference.time, dose * left, warnings, lines)


def _none(headers: Sequence[PetHeader], dose: float, warnings: tuple[str, ...]) -> _PerDose:
    """For an image not corrected for decay: each slice is corrected from its own frame to the injection."""
    half_life, assumed = half_life_s(headers[0])
    starts = [acquisition_at(h) for h in headers]
    inverse: list[float] = []
    uptakes: list[float] = []
    given: datetime | None = None
    said: tuple[str, ...] = ()
    for header, start in zip(headers, starts, strict=True):
        if start is None:
            raise reject("suv.no-time", which="acquisition", found=header.acquisition_time or "(missing)")
        duration = header.frame_duration_ms
        if duration is None or not 0 < duration / 1000 < LONGEST_UPTAKE_HALF_LIVES * half_life:
            raise reject("suv.no-frame-duration", found=duration)
        if given is None:
            given, said = administration_at(header, min(t for t in starts if t is not None), half_life)
        uptakes.append(_uptake(given, start, half_life))
        grown = math.exp(math.log(2) * uptakes[-1] / half_life)
        inverse.append(frame_decay(duration / 1000, half_life) * grown / dose)
    why = "DecayCorrection is NONE: each slice is brought from its own frame to the injection"
    lines = (
        f"{why}; injection {given and _clock(given)}, half-life {half_life:.8g} s.",
        f"First slice: dose {dose:.8g} Bq, lT/(1-e^-lT) x e^(l(t_acq - t_adm)) = {inverse[0] * dose:.8g}.",
    )
    contradiction = (warn("suv.decay-contradiction"),) if "DECY" in headers[0].corrected else ()
    every = (*warnings, *assumed, *said, *_unusual(min(uptakes), half_life), *contradiction)
    return _PerDose(tuple(inverse), "each-acquisition", why, given, dose, every, lines)


def _uptake(given: datetime, reference: datetime, half_life: float) -> float:
    uptake = (reference - given).total_seconds()
    if not 0 <= uptake <= LONGEST_UPTAKE_HALF_LIVES * half_life:
        raise reject("suv.implausible-uptake-time", found=f"{uptake / 60:.1f} min")
    return uptake


def _unusual(uptake: float, half_life: float) -> tuple[str, ...]:
    usual = is_usual_uptake(uptake, half_life)
    return () if usual else (warn("suv.uptake-unusual", found=f"{uptake / 60:.0f}"),)


def _positive(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0


def _clock(at: datetime) -> str:
    return at.isoformat(sep=" ", timespec="milliseconds" if at.microsecond else "seconds")


def _factor_line(result: SuvFactors) -> str:
    factor = result.factor
    if isinstance(factor, float):
        return f"Factor {factor:.10g}: SUV {result.suv_type} = factor x stored value x rescale slope."
    return f"Factors {min(factor):.10g} to {max(factor):.10g}, one per slice."
