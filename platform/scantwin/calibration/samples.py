"""A calibration sample: counts and moments of one measurement, never voxels."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, field_validator

from scantwin.calibration.measure import Measurement
from scantwin.errors import InputError

SampleKind = Literal["cylinder", "spheres", "liver", "model-residual"]

MINIMUM_COUNT: Final[dict[str, int]] = {"cylinder": 1000, "spheres": 5, "liver": 100, "model-residual": 5}
"""Fewest voxels (cylinder, liver), spheres or patients behind a sample that may leave a site; assumed: below
them a mean says more of one patient or of noise than of the scanner."""


class CalibrationSample(BaseModel):
    """One point of a chart."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(default_factory=lambda: uuid4().hex, pattern=r"^[0-9a-f]{32}$")
    kind: SampleKind
    measured_at: datetime
    bias: float = Field(gt=-1, lt=10)
    """Shown over true, less one: +0.08 reads 8 % high."""
    sd: float | None = Field(default=None, ge=0)
    """SD of what was averaged, as a fraction of the true value."""
    n: int = Field(ge=1)
    """How many voxels, spheres or patients are behind it."""
    detail: dict[str, Any] = Field(default_factory=dict)
    """Numbers for the record: profile, recovery coefficients. No identifiers."""

    @field_validator("measured_at")
    @classmethod
    def _aware(cls, value: datetime) -> datetime:
        if value.tzinfo is None:
            raise ValueError("the time needs a time zone")
        return value.astimezone(UTC)

    @property
    def may_leave(self) -> bool:
        """Whether enough is behind it to be sent from the site."""
        return self.n >= MINIMUM_COUNT[self.kind]


def sample_of(measurement: Measurement, measured_at: datetime) -> CalibrationSample:
    """The sample of a measurement. Raises `InputError` when too little is behind it."""
    sample = CalibrationSample(
        kind=measurement.kind, measured_at=measured_at, bias=measurement.bias, sd=measurement.sd,
        n=measurement.n,
        detail=measurement.detail,
    )  # fmt: skip
    if not sample.may_leave:
        raise InputError(
            f"Only {sample.n} values are behind this {sample.kind} measurement, "
            f"{MINIMUM_COUNT[sample.kind]} are needed.",
            hint="Scan the object whole and in the middle of the field of view.",
        )
    return sample
