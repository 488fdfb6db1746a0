"""Checking the scanner: a scan of a QC object becomes a calibration sample for the next update."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Literal

import numpy as np

from scantwin.calibration.measure import Measurement, measure_cylinder, measure_spheres
from scantwin.calibration.samples import CalibrationSample, sample_of
from scantwin.errors import InputError
from scantwin.imaging.reading import find_studies, read_study
from scantwin.imaging.study import Study
from scantwin.imaging.suv_times import PetOrigin
from scantwin.imaging.volume import Volume
from scantwin_clients.pseudonyms import mac
from scantwin_clients.samples import WaitingSamples
from scantwin_clients.site import Site

QcKind = Literal["cylinder", "spheres"]

DEFAULT_RATIO = 9.8
"""Ratio of the spheres' activity to the background's if none is given: EARL fills about 1:10."""


def check_scanner(
    site: Site, path: Path, *, kind: QcKind = "cylinder", when: date | None = None,
    expected_suv: float = 1.0, ratio: float = DEFAULT_RATIO,
) -> CalibrationSample:  # fmt: skip
    """Measures the PET of a QC object and keeps the sample until the consortium has it.

    The time of measurement is that in the PET's header. `when` is the day of a scan whose images do not say
    it (NIfTI), by default today. Scans of one day keep the order in which they are measured here: one before
    a recalibration and one after it must not change places. `expected_suv` [g/ml] is the true SUV of the
    cylinder or of the spheres' background, `ratio` the activity of the spheres over that of the background.

    The same scan measured twice is one sample, whatever day is given. While the sample waits, a measurement
    with another truth or of a mended header replaces it. Once it has left, one with another truth is a second
    sample, and the consortium withdraws the first.
    """
    study, pet = _read(path)
    measurement = _measure(study, pet, kind, expected_suv, ratio)
    sample = sample_of(measurement, _measured_at(study.origin, when, datetime.now(UTC)))
    scan = mac(site.secret, "qc-scan", f"{kind} {_mark(study.origin, pet)}").hex()[:16]
    truth = mac(site.secret, "qc-sample", f"{scan} {expected_suv} {ratio}").hex()[:16]
    named = sample.model_copy(update={"id": scan + truth})
    waiting = WaitingSamples(site.calibration)
    former = [known for known in waiting.waiting() if known.id.startswith(scan)]
    timed = study.origin is not None and study.origin.clock is not None
    for known in former:
        if _same(known, named, timed=timed):
            return known
    waiting.add(named)
    waiting.confirm([known.id for known in former if known.id != named.id])
    return named


def _same(known: CalibrationSample, new: CalibrationSample, *, timed: bool) -> bool:
    """Whether at most the moment of measuring differs. A mended header gives another bias or, where it has
    the time (`timed`), another moment."""
    apart = (
        known.measured_at != new.measured_at if timed else known.measured_at.date() != new.measured_at.date()
    )
    return known.id == new.id and known.bias == new.bias and not apart


def _measured_at(origin: PetOrigin | None, when: date | None, now: datetime) -> datetime:
    """When the PET was taken: by its header, on our clock if that names no zone; else on the day `when`."""
    if origin is not None and origin.day is not None:
        if when not in (None, origin.day):
            raise InputError(
                f"The header of this PET says that it was taken on {origin.day}, not on {when}.",
                hint="Leave out --when: it is for images that do not say their day, as NIfTI.",
            )
        if origin.clock is not None:
            return _in_utc(datetime.combine(origin.day, origin.clock, origin.zone))
        return _in_order(origin.day, now)
    today = now.astimezone().date()
    return now if when in (None, today) else _in_order(when or today, now)


def _in_utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError:  # the calendar's last day, which has not come yet: refused as such
        return at.replace(tzinfo=UTC)


def _in_order(day: date, now: datetime) -> datetime:
    """A time on a day of which no more is known: noon plus a microsecond per second until it is measured.

    Noon is UTC's, not that of the hospital's clock: that of Auckland lies on the day before in London, before
    a recalibration that is logged there for this day. So the day is UTC's, as everything that shows it says.
    """
    noon = datetime.combine(day, time(12), UTC)
    return noon + timedelta(microseconds=(now - noon).total_seconds())


def _mark(origin: PetOrigin | None, pet: Volume) -> str:
    """What identifies this scan when it is read again: its SeriesInstanceUID or, without one, its voxels."""
    if origin is not None and origin.series:
        return origin.series
    return hashlib.sha256(np.ascontiguousarray(pet.array, np.float32).tobytes()).hexdigest()


def _read(path: Path) -> tuple[Study, Volume]:
    sources = find_studies(path)
    if len(sources) != 1:
        raise InputError(f"{path} holds {len(sources)} studies.", hint="Give the folder of one QC scan.")
    study = read_study(sources[0], need_pet=True)
    if study.pet is None:
        raise InputError(f"There is no PET in {path}.", hint="Give the folder with PET and CT of the object.")
    return study, study.pet


def _measure(study: Study, pet: Volume, kind: QcKind, expected_suv: float, ratio: float) -> Measurement:
    if kind == "spheres":
        return measure_spheres(pet, ratio=ratio, expected_background=expected_suv, ct=study.ct)[0]
    return measure_cylinder(pet, study.ct, expected_suv)
