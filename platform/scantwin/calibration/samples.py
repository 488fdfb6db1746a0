"""A calibration sample: counts and moments of one measurement, never voxels."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from scantwin.calibration.measure import Measurement
from scantwin.errors import InputError
from scantwin.imaging.suv_times import FIRST_YEAR

SampleKind = Literal["cylinder", "spheres", "liver", "model-residual"]

MINIMUM_COUNT: Final[dict[str, int]] = {"cylinder": 1000, "spheres": 5, "liver": 100, "model-residual": 5}
"""Fewest voxels (cylinder, liver), spheres or patients behind a sample that may leave a site; assumed: with
fewer, a mean says more about one patient or about noise than about the scanner."""

_AHEAD: Final = timedelta(days=2)
"""How far ahead of our clock a sample may be: a day for a distant time zone, and a clock that is off."""


class CalibrationSample(BaseModel):
    """One point of a chart."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(default_factory=lambda: uuid4().hex, pattern=r"^[0-9a-f]{32}$")
    kind: SampleKind
    measured_at: datetime
    bias: float = Field(gt=-1, lt=10, allow_inf_nan=False)
    """Shown over true, minus one: +0.08 reads 8 % high."""
    sd: float | None = Field(default=None, ge=0, le=10, allow_inf_nan=False)
    """SD of the averaged values, as a fraction of the true value; bounded like the bias."""
    n: int = Field(ge=1, le=2**31 - 1)
    """Number of voxels, spheres or patients behind it; the maximum is that of PostgreSQL's column."""
    detail: dict[str, Any] = Field(default_factory=dict)
    """Numbers for the record: profile, recovery coefficients. No identifiers."""

    @field_validator("measured_at")
    @classmethod
    def _aware(cls, value: datetime) -> datetime:
        if value.tzinfo is None:
            raise ValueError("the time needs a time zone")
        try:
            moment = value.astimezone(UTC)
        except OverflowError:  # its offset takes it out of the calendar
            raise ValueError("the time is not one of the calendar") from None
        if moment.year < FIRST_YEAR or moment > datetime.now(UTC) + _AHEAD:
            raise ValueError(f"the time is before {FIRST_YEAR} or has not come yet")
        return moment

    @field_validator("detail")
    @classmethod
    def _plain(cls, value: dict[str, Any]) -> dict[str, Any]:
        json.dumps(value, allow_nan=False, default=str)  # JSON has no NaN, and PostgreSQL takes none
        return value

    @property
    def may_leave(self) -> bool:
        """Whether it has enough values behind it to leave the site."""
        return self.n >= MINIMUM_COUNT[self.kind]


def sample_of(measurement: Measurement, measured_at: datetime) -> CalibrationSample:
    """The sample of a measurement. Raises `InputError` if it cannot be true or has too little behind it."""
    try:
        sample = CalibrationSample(
            kind=measurement.kind, measured_at=measured_at, bias=measurement.bias, sd=measurement.sd,
            n=measurement.n, detail=measurement.detail,
        )  # fmt: skip
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"This {measurement.kind} measurement cannot be true ({first['loc'][0]}: {first['msg']}).",
            hint="Check the day of the scan, the activity that was filled in and the phantom.",
        ) from None
    if not sample.may_leave:
        raise InputError(
            f"Only {sample.n} values are behind this {sample.kind} measurement, "
            f"{MINIMUM_COUNT[sample.kind]} are needed.",
            hint="Scan the object whole and in the middle of the field of view.",
        )
    return sample
