from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from scantwin.calibration.measure import Measurement
from scantwin.calibration.samples import CalibrationSample, sample_of
from scantwin.errors import InputError

NOW = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)


def test_a_measurement_becomes_a_sample() -> None:
    sample = sample_of(Measurement("cylinder", 0.08, 0.09, 70_000, 70_000, {"mean_suv": 1.08}), NOW)
    assert sample.bias == 0.08
    assert sample.may_leave
    assert len(sample.id) == 32
    assert CalibrationSample.model_validate(sample.model_dump()) == sample


def test_too_little_does_not_become_a_sample() -> None:
    with pytest.raises(InputError, match="Only 12"):
        sample_of(Measurement("cylinder", 0.0, 0.1, 12, 12), NOW)
    assert not CalibrationSample(kind="model-residual", measured_at=NOW, bias=0.1, n=4).may_leave


def test_times_carry_a_zone_and_are_kept_in_utc() -> None:
    with pytest.raises(ValidationError):
        CalibrationSample(kind="liver", measured_at=NOW.replace(tzinfo=None), bias=0, n=200)
    local = NOW.astimezone(timezone(timedelta(hours=2)))
    assert CalibrationSample(kind="liver", measured_at=local, bias=0, n=200).measured_at.tzinfo is UTC


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValidationError):
        CalibrationSample(kind="liver", measured_at=NOW, bias=0, n=200, patient="x")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "odd",
    [
        {"measured_at": "0001-01-01T00:00:00+14:00"},
        {"measured_at": "1989-12-31T00:00:00Z"},
        {"measured_at": (datetime.now(UTC) + timedelta(days=3)).isoformat()},
        {"n": 2**31},
        {"sd": float("inf")},
        {"sd": 11.0},
        {"detail": {"recovery": float("nan")}},
    ],
)
def test_what_no_database_can_hold_is_no_sample(odd: dict[str, object]) -> None:
    usual = {"kind": "liver", "measured_at": NOW, "bias": 0.0, "n": 200}
    assert CalibrationSample.model_validate(usual).n == 200
    with pytest.raises(ValidationError):
        CalibrationSample.model_validate({**usual, **odd})


def test_a_measurement_that_cannot_be_true_is_bad_input() -> None:
    with pytest.raises(InputError, match=r"cannot be true \(measured_at: .*not come yet"):
        sample_of(
            Measurement("cylinder", 0.08, 0.09, 70_000, 70_000), datetime.now(UTC) + timedelta(days=400)
        )
