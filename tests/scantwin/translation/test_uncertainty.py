from __future__ import annotations

import numpy as np
import pytest

from scantwin.translation.noise import NoiseField
from scantwin.translation.uncertainty import (
    DEVIATES,
    INTERVAL,
    ratio_counts,
    ratio_key,
    standard_deviation,
)


def patients(seed, count=60_000):
    """Predictions with errors of long tails, wider where uptake and spread are high."""
    random = np.random.default_rng(seed)
    predicted = random.gamma(1.5, 1.2, count).astype(np.float32)
    spread = (predicted * random.uniform(0.05, 0.4, count)).astype(np.float32)
    width = 0.05 + 0.15 * predicted + spread
    true = (predicted + width * random.standard_t(3, count)).astype(np.float32)
    return predicted, spread, true


def test_the_stated_interval_holds_its_share_of_patients_not_measured():
    predicted, spread, true = patients(0)
    statistics = {ratio_key("trunk"): ratio_counts(predicted, true, spread)}
    predicted, spread, true = patients(1)
    std = standard_deviation(predicted, statistics, "trunk", spread)
    inside = np.abs(predicted - true) <= DEVIATES * std
    assert inside.mean() == pytest.approx(INTERVAL, abs=0.01)
    for low, high in ((0, 1), (1, 2), (2, 5)):  # at every uptake, not only on the whole
        part = (predicted >= low) & (predicted < high)
        assert inside[part].mean() == pytest.approx(INTERVAL, abs=0.03)


def test_histograms_of_two_sites_add_up():
    one, two = patients(0), patients(1)
    both = [np.concatenate(pair) for pair in zip(one, two, strict=True)]
    apart = sum(ratio_counts(p, t, s) for p, s, t in (one, two))
    assert np.array_equal(apart, ratio_counts(both[0], both[2], both[1]))


def test_overlapping_windows_see_the_same_noise():
    field = NoiseField(2, (20, 20, 20), 4, (7, "trunk"))
    one, two = field.cut((-3, 0, 2), (12, 12, 12)), field.cut((1, 0, 2), (12, 12, 12))
    assert one.shape == (2, 1, 12, 12, 12)
    assert (one[:, :, 4:] == two[:, :, :8]).all()
    again = NoiseField(2, (20, 20, 20), 4, (7, "trunk")).cut((-3, 0, 2), (12, 12, 12))
    assert (one == again).all()
    other = NoiseField(2, (20, 20, 20), 4, (8, "trunk")).cut((-3, 0, 2), (12, 12, 12))
    assert not (one == other).any()
    assert abs(float(one[0].mean())) < 0.1 and abs(float((one[0] * one[1]).mean())) < 0.1
