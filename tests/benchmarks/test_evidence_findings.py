"""What experiments find: aims, spreads, and ratios with their intervals."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # benchmarks are no part of the package

from benchmarks.evidence import tables
from benchmarks.evidence.distances import distance_over
from benchmarks.evidence.findings import Aim, Ratio, Spread
from benchmarks.evidence.measuring import Standing

from scantwin.evaluation.frechet import Gaussian, frechet_distance


@pytest.mark.parametrize(
    ("aim", "met"),
    [
        (Aim.at_most("a", 0.70, 0.70, ""), True),
        (Aim.at_most("a", 0.71, 0.70, ""), False),
        (Aim.at_most("a", None, 0.70, ""), False),
        (Aim.at_least("a", 1.15, 1.15, ""), True),
        (Aim.at_least("a", 1.149, 1.15, ""), False),
        (Aim.between("a", 0.75, 0.75, 0.85, ""), True),
        (Aim.between("a", 0.851, 0.75, 0.85, ""), False),
        (Aim.between("a", None, 0.75, 0.85, ""), False),
        (Aim.at_most("a", math.nan, 0.70, ""), False),
        (Aim.below("a", 1.0, 1.0, ""), False),
        (Aim.below("a", Ratio(0.999, 0.9, 1.2, 5), 1.0, ""), True),
    ],
)
def test_an_aim_is_met_at_its_limit_and_not_beyond(aim: Aim, met: bool) -> None:
    assert aim.met is met


def test_a_spread_leaves_out_what_does_not_exist() -> None:
    found = Spread.of([1.0, math.nan, 3.0])
    assert found == Spread(2.0, pytest.approx(math.sqrt(2.0)), 2)
    assert Spread.of([math.nan]) is None
    assert Spread.of([2.0]) == Spread(2.0, 0.0, 1)


def test_a_ratio_is_that_of_means_over_the_same_patients() -> None:
    nan = math.nan
    found = Ratio.of([1.0, 3.0, nan, 9.0], [2.0, 6.0, 5.0, nan])
    assert found is not None and (found.value, found.low, found.high, found.n) == (0.5, 0.5, 0.5, 2)
    assert Ratio.of([nan], [1.0]) is None and Ratio.of([], []) is None and Ratio.of([1.0], [0.0]) is None
    share = Ratio.of([0.7, 0.9])
    assert share is not None and share.value == pytest.approx(0.8) and (share.low, share.high) == (0.7, 0.9)


def test_the_interval_of_a_ratio_is_as_wide_as_chance() -> None:
    """Against the standard error of a ratio of means by the delta method (Cochran, Sampling Techniques)."""
    random = np.random.default_rng(3)
    other = random.gamma(20.0, 0.05, 400)
    one = 0.9 * other + random.normal(0.0, 0.2, 400)
    found = Ratio.of(list(one), list(other))
    assert found is not None
    error = float((one - found.value * other).std(ddof=1) / (np.sqrt(400) * other.mean()))
    # The ends are quantiles of 2000 resamples: they vary by some 3 % of the width.
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.12)
    assert found.low < found.value < found.high


def test_lesions_of_one_patient_are_drawn_together() -> None:
    random = np.random.default_rng(5)
    one, other = random.gamma(20.0, 0.05, 12).tolist(), [1.0] * 12
    patients = Ratio.of(one, other)
    alone = Ratio.of(one * 5, other * 5)
    lesions = Ratio.of(one * 5, other * 5, of=[f"patient {k}" for k in range(12)] * 5)
    assert patients is not None and alone is not None and lesions is not None
    # Five lesions that are all alike tell no more than one.
    assert (lesions.low, lesions.high) == (pytest.approx(patients.low), pytest.approx(patients.high))
    assert alone.high - alone.low < 0.6 * (lesions.high - lesions.low), "as if they were 60 patients"
    assert (lesions.n, lesions.patients, patients.patients) == (60, 12, None)


def test_a_patient_weighs_as_many_lesions_as_there_are() -> None:
    found = Ratio.of([1.0, 1.0, 1.0, 2.0, math.nan], [1.0] * 5, of=[7, 7, 7, 3, 5])
    assert found == Ratio(1.25, 1.0, 2.0, 4, 2), "of whom nothing is known is no patient"


def test_a_ratio_over_lesions_knows_their_patients() -> None:
    made = Standing()
    made.tally.lesions["suvmax_error"] = [1.0, 1.0, 3.0]
    made.tally.lesion_patients = [0, 0, 4]
    over = tables.against_in_lesions(made, made, "suvmax_error")
    assert over is not None and (over.n, over.patients) == (3, 2)


def gaussians(seed: int, wide: float, patients: int = 6) -> list[Gaussian]:
    """Forty slices of each patient, whose features lie `wide` about a mean that is the patient's own."""
    made = []
    for patient in range(patients):
        features = np.random.default_rng([seed, patient]).normal(size=(40, 3))
        made.append(Gaussian())
        made[-1].add(wide * features + 0.3 * patient)
    return made


def test_a_distance_over_another_says_what_chance_of_who_was_measured_does() -> None:
    true, near, far = gaussians(0, 1.0), gaussians(1, 1.1), gaussians(2, 2.0)
    same = distance_over(far, far, true)
    assert same is not None and (same.value, same.low, same.high, same.n) == (1.0, 1.0, 1.0, 6)
    over = distance_over(near, far, true)
    assert over is not None and 0 < over.low < over.value < over.high < 0.5
    alone = frechet_distance(Gaussian.together(near), Gaussian.together(true))
    assert over.value == pytest.approx(
        alone / frechet_distance(Gaussian.together(far), Gaussian.together(true))
    )
    assert distance_over([], [], []) is None and distance_over(far, true, true) is None, "nothing to be over"
