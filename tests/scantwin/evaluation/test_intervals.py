from __future__ import annotations

import numpy as np
import pytest

from scantwin.evaluation.held_out import Case
from scantwin.evaluation.intervals import Intervals
from scantwin.imaging.volume import Volume
from scantwin.translation.uncertainty import DEVIATES

SHAPE = (4, 6, 6)


def case_of(true: np.ndarray, lesions: np.ndarray | None = None) -> Case:
    """A body that fills all but the last row."""
    body = np.ones(true.shape, bool)
    body[:, -1] = False
    return Case(
        hu=np.zeros(true.shape, np.float32), true=true, body=body,
        labels=body.astype(np.uint8), lesions=lesions, grid=Volume(true, (5.0, 5.0, 5.0), unit="SUV"),
    )  # fmt: skip


def test_organ_means_and_errors_are_held_to_what_is_stated_of_them():
    true, said, bar = (np.full(SHAPE, value, np.float32) for value in (1.0, 1.0, 0.05))
    organs = {}
    for row, (name, is_said, is_true, sd) in enumerate(
        (
            ("liver", 2.0, 1.8, 0.2),
            ("spleen", 3.0, 2.0, 0.2),
            ("bladder", 20.0, 35.0, 5.0),
            ("lung", 9.0, 1.0, np.nan),
        )
    ):
        organs[name] = np.zeros(SHAPE, bool)
        organs[name][:, row] = True
        said[:, row], true[:, row], bar[:, row] = is_said, is_true, sd
    said[:, -1] = 9.0  # outside the body nothing is asked
    found = Intervals()
    found.add(said, bar, case_of(true), organs)
    row = SHAPE[0] * SHAPE[2]
    # The spleen is 1 off where 0.26 is allowed; above SUV 20 nothing is asked; of the lung nothing is stated.
    assert found.organs == [pytest.approx(2 / 3)]
    assert found.voxels == [pytest.approx(3 / 4)]
    voxels, squares, inside = found.by_sigma
    assert voxels.tolist() == [row, 0, 2 * row, 0, 0, 0, row], "0.05; 0.2 begins a bin; 5"
    assert squares[2] == pytest.approx(row * (0.2**2 + 1.0**2)) and inside[2] == row
    report = found.report()
    assert [one["from"] for one in report["by_stated_sd"]] == [0.0, 0.2, 3.2]
    assert report["by_stated_sd"][1]["rmse"] == pytest.approx(np.sqrt((0.2**2 + 1.0**2) / 2))
    assert report["by_stated_sd"][1]["inside"] == 0.5
    assert report["n"] == 1 and report["organ_means"]["n"] == 1


def test_a_normal_error_lies_in_its_interval_four_times_of_five():
    random = np.random.default_rng(0)
    true = np.full((40, 40, 40), 5.0, np.float32)
    bar = random.uniform(0.05, 2.0, true.shape).astype(np.float32)
    said = (true + bar * random.standard_normal(true.shape)).astype(np.float32)
    found = Intervals()
    found.add(said, bar, case_of(true), {})
    assert found.voxels == [pytest.approx(0.8, abs=0.01)] and found.organs == []
    for one in found.report()["by_stated_sd"]:
        assert one["inside"] == pytest.approx(0.8, abs=0.03)


def test_a_patient_of_whom_nothing_is_stated_counts_nowhere():
    true = np.ones(SHAPE, np.float32)
    found = Intervals()
    found.add(true, np.full(SHAPE, np.nan, np.float32), case_of(true), {"liver": np.ones(SHAPE, bool)})
    assert found.voxels == found.organs == [] and found.report()["coverage"] is None
    assert found.report()["lesions"] is None
    half = np.where(np.arange(SHAPE[0])[:, None, None] < 2, 1.0, np.nan) * np.ones(SHAPE)
    found.add(true, half.astype(np.float32), case_of(true), {"liver": np.ones(SHAPE, bool)})
    assert found.voxels == [1.0] and found.organs == [], "half an organ's mean is not the organ's"


def test_lesions_are_held_to_what_is_stated_in_them():
    true = np.ones(SHAPE, np.float32)
    lesions = np.zeros(SHAPE, bool)
    lesions[0, :, 0] = True  # six voxels, the last of them outside the body
    true[0, 2:, 0] = 4.0  # too hot for an interval of 1 +- 1.28
    bar = np.ones(SHAPE, np.float32)
    found = Intervals()
    found.add(np.ones(SHAPE, np.float32), bar, case_of(true, lesions), {})
    assert found.lesions == [pytest.approx(2 / 5)]
    bar[0, 1, 0] = np.nan  # where nothing is stated, nothing is asked
    found.add(np.ones(SHAPE, np.float32), bar, case_of(true, lesions), {})
    assert found.lesions[1] == pytest.approx(1 / 4)
    for none in (None, np.zeros(SHAPE, bool), np.isnan(bar)):
        found.add(np.ones(SHAPE, np.float32), bar, case_of(true, none), {})
    report = found.report()
    assert report["n"] == 5 and report["lesions"]["n"] == 2, "over patients whose lesions have an interval"
    assert report["lesions"]["mean"] == pytest.approx((2 / 5 + 1 / 4) / 2)
    assert report["lesions"]["sd"] == pytest.approx((2 / 5 - 1 / 4) / np.sqrt(2))


def test_limits_of_the_interval_are_those_of_a_normal_deviate():
    true = np.zeros(SHAPE, np.float32)
    for off, inside in ((DEVIATES - 0.01, 1.0), (DEVIATES + 0.01, 0.0)):
        found = Intervals()
        found.add(true + np.float32(off), np.ones(SHAPE, np.float32), case_of(true), {})
        assert found.voxels == [inside]
