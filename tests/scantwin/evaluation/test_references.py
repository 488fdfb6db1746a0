from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scantwin.evaluation.references import SUV_STEP, predict_reference, training_statistics


def test_mean_median_and_curve_are_those_of_the_pooled_voxels(bar_cohort):
    statistics = training_statistics(bar_cohort.training)
    suv = np.concatenate([s.suv[s.mask("legs")] for s in bar_cohort.training])
    hu = np.array([-90.0, 55.0], np.float32)
    mean = predict_reference("training-mean", statistics, "legs", hu)
    median = predict_reference("training-median", statistics, "legs", hu)
    curve = predict_reference("hu-curve", statistics, "legs", hu)
    assert mean[0] == pytest.approx(suv.mean(), rel=1e-5)
    assert median[0] == pytest.approx(np.median(suv), abs=SUV_STEP)
    assert curve == pytest.approx([0.3, 1.0], abs=0.05), "fat 0.3 and core 1.0 by construction"


def test_a_pet_without_a_ct_has_no_part_in_the_curve(bar_cohort):
    whole, *rest = bar_cohort.training
    alone = replace(whole, hu=np.full_like(whole.hu, -1000.0), has_ct=False)
    statistics, without = training_statistics([alone, *rest]), training_statistics(rest)
    assert np.array_equal(statistics["curve/legs"], without["curve/legs"])
    assert statistics["sum/legs"][0] > without["sum/legs"][0]
    hu = np.zeros(3, np.float32)
    assert predict_reference("hu-curve", training_statistics([alone]), "legs", hu) is None


def test_sites_can_be_added_up(bar_cohort):
    together = training_statistics(bar_cohort.training)
    apart = [training_statistics([study]) for study in bar_cohort.training]
    for name, value in together.items():
        assert np.allclose(sum(part[name] for part in apart), value)


def test_a_district_nobody_has_has_no_reference(bar_cohort):
    statistics = training_statistics(bar_cohort.training)
    assert predict_reference("training-mean", statistics, "arms", np.zeros(3, np.float32)) is None
