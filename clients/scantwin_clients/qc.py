"""Checking the scanner: a scan of a QC object becomes a calibration sample for the next update."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Literal

from scantwin.calibration.measure import Measurement, measure_cylinder, measure_spheres
from scantwin.calibration.samples import CalibrationSample, sample_of
from scantwin.errors import InputError
from scantwin.imaging.reading import find_studies, read_study
from scantwin_clients.samples import WaitingSamples
from scantwin_clients.site import Site

QcKind = Literal["cylinder", "spheres"]

DEFAULT_RATIO = 9.8
"""Activity of the spheres over the background when nothing is said: EARL fills about 1:10."""


def check_scanner(
    site: Site, path: Path, *, kind: QcKind = "cylinder", when: date | None = None,
    expected_suv: float = 1.0, ratio: float = DEFAULT_RATIO,
) -> CalibrationSample:  # fmt: skip
    """Measures the PET of a QC object and keeps the sample until the consortium has it.

    `when` is the day of the scan, today if not given; `expected_suv` [g/ml] is the true SUV of the cylinder
    or of the spheres' background. The same scan measured twice is one sample. Scans of one day keep the order
    in which they are measured here: one before a recalibration and one after it must not change places.
    """
    measurement = _measure(path, kind, expected_suv, ratio)
    now = datetime.now(UTC)
    today = now.astimezone().date()
    day = when or today
    sample = sample_of(measurement, now if day == today else _in_order(day, now))
    identity = f"{site.name}:{kind}:{day.isoformat()}:{measurement.bias:.9f}:{measurement.n}"
    named = sample.model_copy(update={"id": hashlib.sha256(identity.encode()).hexdigest()[:32]})
    waiting = WaitingSamples(site.calibration)
    for known in waiting.waiting():
        if known.id == named.id:
            return known
    waiting.add(named)
    return named


def _in_order(day: date, now: datetime) -> datetime:
    """A time on another day than today: noon, a microsecond later for every second until it is measured.

    Noon, for only the day is known, and the day it stays in every hospital's time zone.
    """
    noon = datetime.combine(day, time(12), UTC)
    return noon + timedelta(microseconds=(now - noon).total_seconds())


def _measure(path: Path, kind: QcKind, expected_suv: float, ratio: float) -> Measurement:
    sources = find_studies(path)
    if len(sources) != 1:
        raise InputError(f"{path} holds {len(sources)} studies.", hint="Give the folder of one QC scan.")
    study = read_study(sources[0], need_pet=True)
    if study.pet is None:
        raise InputError(f"There is no PET in {path}.", hint="Give the folder with PET and CT of the object.")
    if kind == "spheres":
        return measure_spheres(study.pet, ratio=ratio, expected_background=expected_suv, ct=study.ct)[0]
    return measure_cylinder(study.pet, study.ct, expected_suv)
