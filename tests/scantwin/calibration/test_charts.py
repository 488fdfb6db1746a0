from __future__ import annotations

import numpy as np
import pytest

from scantwin.calibration.charts import cusum, ewma, run_lengths, shewhart, standardise

# Published average run lengths (METRICS.md). Length of the simulated series: long enough that a series
# without a signal is rare, or counts for little.
CASES = [
    ("shewhart", 0.0, 370.4, 3500), ("shewhart", 1.0, 43.9, 500),
    ("ewma", 0.0, 500.0, 4500), ("ewma", 0.5, 41.8, 500), ("ewma", 1.0, 10.5, 120),
    ("cusum", 0.0, 465.0, 4500), ("cusum", 0.5, 38.0, 500), ("cusum", 1.0, 10.4, 120),
]  # fmt: skip


@pytest.mark.parametrize(("name", "shift", "published", "length"), CASES)
def test_average_run_lengths(name: str, shift: float, published: float, length: int) -> None:
    rng = np.random.default_rng(8)
    runs = run_lengths(name, rng.standard_normal((1200, length)) + shift)  # type: ignore[arg-type]
    error = runs.std() / np.sqrt(len(runs))
    # The published EWMA lengths are for constant limits; limits that start narrow signal about one sooner.
    early = 1.6 if name == "ewma" and shift else 0.0
    assert runs.mean() == pytest.approx(published, abs=4 * error + early)


@pytest.mark.parametrize("name", ["shewhart", "ewma", "cusum"])
def test_the_charts_and_the_simulation_agree(name: str) -> None:
    rng = np.random.default_rng(3)
    z = rng.standard_normal((40, 300)) + 0.7
    draw = {"shewhart": shewhart, "ewma": ewma, "cusum": cusum}[name]
    for series, run in zip(z, run_lengths(name, z), strict=True):  # type: ignore[arg-type]
        first = draw(series).first_signal
        assert (301 if first is None else first + 1) == run


def test_ewma_limits_start_narrow_and_settle() -> None:
    chart = ewma(np.zeros(60))
    assert chart.upper[0] == pytest.approx(2.962 * 0.2)
    assert chart.upper[-1] == pytest.approx(2.962 * np.sqrt(0.2 / 1.8), rel=1e-4)
    assert np.array_equal(chart.lower, -chart.upper)


@pytest.mark.parametrize("draw", [ewma, cusum])
def test_a_chart_restarts_after_a_recalibration(draw: object) -> None:
    z = np.concatenate([np.full(30, 2.0), np.zeros(20)])
    old, new = draw(z), draw(z, restarts=[30])  # type: ignore[operator]
    assert old.signals[30]
    assert not new.signals[30:].any()
    assert np.array_equal(old.statistic[:30], new.statistic[:30])


def test_standard_units() -> None:
    assert np.allclose(standardise([0.05, 0.0], target=0.01, sigma=0.02), [2.0, -0.5])
    with pytest.raises(ValueError, match="sigma"):
        standardise([0.0], 0.0, 0.0)
    assert shewhart([0.5, -3.2, 3.0]).first_signal == 1
