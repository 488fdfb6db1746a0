"""Lesion candidates follow their stated rule and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from scantwin import NOTICE
from scantwin.imaging.volume import Volume
from scantwin.translation.candidates import MOST, lesion_candidates


def pet(array: np.ndarray, spacing: tuple[float, float, float] = (5.0, 5.0, 5.0)) -> Volume:
    return Volume(array.astype(np.float32), spacing, (10.0, 20.0, 30.0), unit="SUV")


def test_threshold_and_volume_are_inclusive() -> None:
    array = np.zeros((10, 20, 20))
    array[1, 1, 1:5] = 4.0  # 4 voxels of 0.125 ml: 0.5 ml exactly
    array[4, 4, 4:7] = 50.0  # 0.375 ml: too small
    array[7:9, 8:10, 8:12] = 3.999  # too cold
    found = lesion_candidates(pet(array))
    assert [c.volume_ml for c in found.found] == pytest.approx([0.5])
    assert int(found.labels.array.sum()) == 4


def test_figures_are_those_of_the_region() -> None:
    array = np.zeros((8, 16, 16))
    array[2:4, 3:5, 5:7] = 6.0
    array[2, 3, 5] = 10.0
    (one,) = lesion_candidates(pet(array)).found
    assert one.volume_ml == pytest.approx(1.0)
    assert (one.suv_max, one.suv_mean) == pytest.approx((10.0, 6.5))
    assert one.centre_mm == pytest.approx((10 + 5 * 5.5, 20 + 5 * 3.5, 30 + 5 * 2.5))


def test_largest_first_and_corners_join() -> None:
    array = np.zeros((8, 20, 20))
    array[0:2, 0:2, 0:2] = 5.0
    array[4:6, 4:6, 4:6] = 5.0
    array[6:8, 6:8, 6:8] = 5.0  # touches the one before by a corner
    found = lesion_candidates(pet(array))
    assert [c.volume_ml for c in found.found] == pytest.approx([2.0, 1.0])
    assert found.labels.array[4, 4, 4] == 1 and found.labels.array[0, 0, 0] == 2


def test_a_cold_pet_has_none_and_nan_is_cold() -> None:
    found = lesion_candidates(pet(np.full((4, 4, 4), np.nan)))
    assert found.found == () and not found.labels.array.any()


def test_the_rule_says_what_it_cannot_do() -> None:
    rule = lesion_candidates(pet(np.zeros((2, 2, 2))), threshold=2.5, min_ml=1).rule
    assert "SUV 2.5" in rule and "1 ml" in rule and "brain, heart" in rule and NOTICE in rule


def test_no_more_than_a_label_volume_can_hold() -> None:
    array = np.zeros((30, 40, 40))
    array[::2, ::2, ::2] = 5.0
    found = lesion_candidates(pet(array, (10.0, 10.0, 10.0)))
    assert len(found.found) == MOST and found.left_out == 15 * 20 * 20 - MOST
