from __future__ import annotations

import numpy as np
import pytest

from scantwin.evaluation.held_out import Case
from scantwin.evaluation.tally import Tally, spread
from scantwin.evaluation.uptake import compare_lesions
from scantwin.imaging.study import DISTRICT_LABEL
from scantwin.imaging.volume import Volume

SHAPE = (16, 16, 16)
LESION = (slice(4, 7),) * 3
MARK = (slice(10, 12),) * 3


def patient(*, lesion: bool) -> Case:
    """A body of SUV 1 that fills the field of view, voxels of a millilitre; a lesion of SUV 8."""
    lesions, true = np.zeros(SHAPE, bool), np.ones(SHAPE, np.float32)
    if lesion:
        lesions[LESION], true[LESION] = True, 8.0
    return Case(
        hu=np.zeros(SHAPE, np.float32), true=true, body=np.ones(SHAPE, bool),
        labels=np.full(SHAPE, DISTRICT_LABEL["trunk"], np.uint8), lesions=lesions,
        grid=Volume(true, (10.0, 10.0, 10.0), unit="SUV"),
    )  # fmt: skip


def with_a_false_mark(case: Case) -> np.ndarray:
    predicted = case.true.copy()
    predicted[MARK] = 6.0
    return predicted


def test_false_marks_are_counted_where_every_patient_is_negative():
    tally = Tally()
    for _ in range(2):
        case = patient(lesion=False)
        tally.add(with_a_false_mark(case), case)
    lesions = tally.report()["lesions"]
    assert lesions["n"] == 0 and lesions["sensitivity"] == {"threshold": 4.0, "value": None}
    at_four = next(point for point in lesions["free_response"] if point["threshold"] == 4.0)
    assert at_four == {"threshold": 4.0, "sensitivity": None, "false_marks_per_patient": 1.0}
    assert lesions["overlap"] == {"threshold": 4.0, "false_positive_ml": {"mean": 8.0, "sd": 0.0, "n": 2}}


def test_lesions_are_a_region_and_have_an_overlap_over_patients():
    tally = Tally()
    with_one, without = patient(lesion=True), patient(lesion=False)
    tally.add(with_a_false_mark(with_one) - np.float32(0.5), with_one)
    tally.add(without.true, without)
    report = tally.report()
    assert report["lesion_regions"]["mae"] == {"mean": pytest.approx(0.5), "sd": 0.0, "n": 1}
    assert {"psnr", "ssim"} <= set(report["lesion_regions"])
    overlap, true = report["lesions"]["overlap"], report["lesions"]["overlap_of_true_pet"]
    assert overlap["dice"] == {"mean": pytest.approx(2 * 27 / (27 + 27 + 8)), "sd": 0.0, "n": 1}
    assert overlap["false_positive_ml"]["n"] == 2, "a patient without lesions has false volume too"
    assert overlap["false_positive_ml"]["mean"] == pytest.approx(4.0)
    assert overlap["false_negative_ml"] == {"mean": 0.0, "sd": 0.0, "n": 1}
    assert true["dice"]["mean"] == 1.0 and true["false_positive_ml"]["mean"] == 0.0


def test_lesions_know_whose_they_are():
    tally = Tally(multi_scale=False)
    two = patient(lesion=True)
    two.lesions[MARK] = True
    for case in (two, patient(lesion=False), patient(lesion=True)):
        tally.add(case.true, case)
    assert tally.lesion_patients == [0, 0, 2]
    assert {len(values) for values in (*tally.lesions.values(), tally.pairs["lesions"])} == {3}


def test_organs_have_suvpeak_and_a_share_inside_over_all_of_them():
    tally = Tally(multi_scale=False)
    case = patient(lesion=True)
    organs = {"liver": np.zeros(SHAPE, bool), "spleen": np.zeros(SHAPE, bool)}
    organs["liver"][0:3, 0:9, 0:9], organs["spleen"][12:15, 3:12, 3:12] = True, True
    predicted = case.true.copy()
    predicted[organs["spleen"]] = 1.3
    predicted[0:3, 0:3, 0:3] = 3.0  # a hot part of the liver: its mean is 1.22
    tally.add(predicted, case, organs)
    report = tally.report()
    assert report["organs"]["n"] == 2 and report["organs"]["suvmean_inside"] == 1.0
    assert report["organs"]["suvpeak_inside"] == report["organs"]["inside_limits"] == 0.5
    mean, peak = report["agreement"], report["peak_agreement"]
    assert mean["liver"]["bias"] == pytest.approx(2.0 / 9) and peak["liver"]["bias"] == pytest.approx(2.0)
    assert mean["spleen"]["bias"] == pytest.approx(0.3) and peak["spleen"]["bias"] == pytest.approx(0.3)
    assert peak["lesions"]["n"] == 1 and peak["lesions"]["bias"] == pytest.approx(0.0)


def test_a_spread_says_of_how_many():
    assert spread([1.0, 3.0]) == {"mean": 2.0, "sd": pytest.approx(2**0.5), "n": 2}
    assert spread([1.0]) == {"mean": 1.0, "sd": 0.0, "n": 1}


@pytest.mark.parametrize(
    ("said", "inside"),
    [(6.5, 1.0), (10.5, 1.0), (5.5, 0.0), (11.0, 0.0)],  # 25 % less than 8 is 6, 33 % more is 10.64
)
def test_a_lesions_figures_are_what_was_said_less_what_is_true(said, inside):
    case = patient(lesion=True)
    predicted = case.true.copy()
    predicted[LESION] = said
    (lesion,) = compare_lesions(predicted, case.true, case.lesions_in_body, case.grid.spacing)
    figures = lesion.figures()
    off = said - 8.0
    assert figures["suvmean_bias"] == pytest.approx(off), "negative where too little is said"
    assert figures["mae"] == figures["suvmax_error"] == pytest.approx(abs(off))
    # A sphere of a millilitre fits into a lesion of 30 mm.
    assert figures["suvpeak_error"] == pytest.approx(abs(off), rel=1e-3)
    assert figures["inside_limits"] == figures["suvmean_inside"] == figures["suvpeak_inside"] == inside


def test_patients_measured_apart_are_the_same_patients_together():
    organs = {"liver": np.ones(SHAPE, bool)}
    together, gathered = Tally(), Tally()
    for lesion in (True, False, True):
        case = patient(lesion=lesion)
        predicted = with_a_false_mark(case) - np.float32(0.5)
        apart = Tally()
        apart.add(predicted, case, organs)
        gathered.include(apart)
        together.add(predicted, case, organs)
    assert gathered.lesion_patients == [0, 2]
    assert gathered.report() == together.report()
    for name, value in vars(together).items():
        assert (
            np.array_equal(vars(gathered)[name], value)
            if isinstance(value, np.ndarray)
            else (vars(gathered)[name] == value)
        ), name
