"""Measures of made CTs, on bodies where the answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scantwin.evaluation.made_ct import (
    dice,
    litres,
    mask_regions,
    nearest,
    organ_means,
    small_copy,
    told_regions,
)
from scantwin.imaging.organs import ORGAN_LABEL
from scantwin.imaging.volume import Volume

SPACING = (5.0, 5.0, 5.0)


def body(lung_hu: float = -780.0) -> tuple[Volume, np.ndarray]:
    """A cylinder of muscle in a rind of fat, with two lungs and a spine; its organ classes."""
    z, y, x = np.ogrid[:40, :50, :60]
    hu, classes = np.full((40, 50, 60), -1000.0, np.float32), np.zeros((40, 50, 60), np.uint8)

    def put(mask: np.ndarray, value: float, name: str) -> None:
        hu[mask], classes[mask] = value, ORGAN_LABEL[name]

    put(((y - 25) / 21) ** 2 + ((x - 30) / 26) ** 2 + 0 * z < 1, -105, "fat")
    put(((y - 25) / 17) ** 2 + ((x - 30) / 22) ** 2 + 0 * z < 1, 55, "soft-tissue")
    for middle in (20, 40):
        put(((z - 20) / 12) ** 2 + ((y - 23) / 10) ** 2 + ((x - middle) / 8) ** 2 < 1, lung_hu, "lung")
    put((abs(y - 36) < 4) & (abs(x - 30) < 4) & (z >= 0), 400, "bone")
    put(((z - 36) / 3) ** 2 + ((y - 22) / 7) ** 2 + ((x - 30) / 9) ** 2 < 1, 110, "liver")
    return Volume(hu, SPACING, unit="HU"), classes


def test_a_ct_follows_its_own_mask() -> None:
    ct, classes = body()
    told, wanted = told_regions(ct), mask_regions(classes)
    assert set(told) == set(wanted) == {"body", "lung", "bone", "fat", "soft-tissue"}
    for name in told:
        # Borders are blurred by the smoothing before CT numbers are told apart: a voxel of 5 mm at most.
        assert dice(told[name], wanted[name]) > (0.97 if name == "body" else 0.8), name
    shifted = mask_regions(np.roll(classes, 10, axis=2))
    assert dice(told["lung"], shifted["lung"]) < 0.6


def test_dice_and_litres() -> None:
    one, two = np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
    assert math.isnan(dice(one, two))
    one[:2], two[1:3] = True, True
    assert dice(one, two) == pytest.approx(0.5)
    assert litres({"one": one}, 125.0) == {"one": pytest.approx(32 * 0.125)}


def test_organ_means_are_of_the_mask() -> None:
    ct, classes = body(lung_hu=-700.0)
    means = organ_means(ct.array, classes)
    assert means["liver"] == pytest.approx(110) and means["lung"] == pytest.approx(-700)
    assert "brain" not in means


def test_a_copy_is_nearer_than_a_stranger() -> None:
    ct, classes = body()
    inside = classes > 0
    known = small_copy(ct.array, inside)
    random = np.random.default_rng(0)
    noisy = small_copy(np.asarray(ct.array) + random.normal(0, 20, ct.shape), inside)
    # Another patient: no lungs, a spine in front.
    other = np.where(inside, 55.0, -1000.0)
    other[:, 10:16, 27:33] = 400.0
    stranger = small_copy(other, inside)
    assert nearest(known, [known, stranger]) == 0.0
    assert nearest(noisy, [known]) < 0.2 * nearest(stranger, [known])
    nobody = small_copy(np.full(ct.shape, -1000.0), np.zeros(ct.shape, bool))
    assert nearest(nobody, [known]) > nearest(stranger, [known])


def test_place_and_size_do_not_count() -> None:
    ct, classes = body()
    hu = np.asarray(ct.array)
    moved = np.pad(hu, ((5, 0), (0, 7), (3, 1)), constant_values=-1000.0)
    body_moved = np.pad(classes > 0, ((5, 0), (0, 7), (3, 1)))
    assert nearest(small_copy(moved, body_moved), [small_copy(hu, classes > 0)]) == 0.0
