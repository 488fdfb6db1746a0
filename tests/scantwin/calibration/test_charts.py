from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from scantwin.calibration.charts import (
    CLIP,
    CUSUM_LIMIT,
    CUSUM_SLACK,
    EWMA_LAMBDA,
    EWMA_LIMIT,
    SHEWHART_LIMIT,
    ChartName,
    Floats,
    cusum,
    ewma,
    shewhart,
    standardise,
)

# Published average run lengths (sources.md, 8). Length of the simulated series: long enough that a series
# without a signal is rare, or counts for little.
CASES = [
    ("shewhart", 0.0, 370.4, 3500), ("shewhart", 1.0, 43.9, 500),
    ("ewma", 0.0, 500.0, 4500), ("ewma", 0.5, 41.8, 500), ("ewma", 1.0, 10.5, 120),
    ("cusum", 0.0, 465.0, 4500), ("cusum", 0.5, 38.0, 500), ("cusum", 1.0, 10.4, 120),
]  # fmt: skip


def run_lengths(name: ChartName, z: Floats) -> NDArray[np.int64]:
    """Samples until the first signal of many series at once: `z` has axes (series, sample), in sigma; a
    series without a signal gets its length + 1."""
    count, length = z.shape
    result = np.full(count, length + 1, np.int64)
    level = {"shewhart": SHEWHART_LIMIT, "ewma": EWMA_LIMIT, "cusum": CUSUM_LIMIT}[name]
    up, down = np.zeros(count), np.zeros(count)
    for t in range(length):
        if name == "shewhart":
            out = np.abs(z[:, t]) > level
        elif name == "ewma":
            up = (1 - EWMA_LAMBDA) * up + EWMA_LAMBDA * z[:, t]
            shrink = 1 - (1 - EWMA_LAMBDA) ** (2 * (t + 1))
            out = np.abs(up) > level * np.sqrt(EWMA_LAMBDA / (2 - EWMA_LAMBDA) * shrink)
        else:
            up = np.maximum(0, up + z[:, t] - CUSUM_SLACK)
            down = np.maximum(0, down - z[:, t] - CUSUM_SLACK)
            out = np.maximum(up, down) > level
        result[out & (result > length)] = t + 1
    return result


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


@pytest.mark.parametrize("name", ["ewma", "cusum"])
@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0, 2.0])
def test_clipping_changes_no_average_run_length(name: str, shift: float) -> None:
    z = np.random.default_rng(11).standard_normal((1200, 4500 if shift == 0 else 500)) + shift
    plain = run_lengths(name, z)  # type: ignore[arg-type]
    clipped = run_lengths(name, np.clip(z, -CLIP, CLIP))  # type: ignore[arg-type]
    assert clipped.mean() == pytest.approx(plain.mean(), rel=0.01)


@pytest.mark.parametrize("wild", [7.0, 29.0, 257.0])
@pytest.mark.parametrize("draw", [ewma, cusum])
def test_a_wild_sample_does_not_blind_a_chart_and_two_in_a_row_are_seen(draw: object, wild: float) -> None:
    settled, after = np.zeros(20), np.zeros(40)
    assert not draw(np.concatenate([settled, [wild], after])).signals.any()  # type: ignore[operator]
    twice = draw(np.concatenate([settled, [wild, wild], after])).signals  # type: ignore[operator]
    assert twice[21] and not twice[21 + 6 :].any(), "what one of 29 sigma did lasted 47 samples"


def test_standard_units() -> None:
    assert np.allclose(standardise([0.05, 0.0], target=0.01, sigma=0.02), [2.0, -0.5])
    with pytest.raises(ValueError, match="sigma"):
        standardise([0.0], 0.0, 0.0)
    assert shewhart([0.5, -3.2, 3.0]).first_signal == 1
