"""Where a site's SUV has left the limits of its control charts: the alerts, as pure rules over samples.

Phantoms only: their truth is known (bias 0), and even with quality assurance they vary by 3.5 %
(sources.md, 8). Every chart restarts at a logged recalibration, repair or software update.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import numpy as np
import pandas as pd

from scantwin.calibration.charts import (
    SHEWHART_LIMIT,
    Chart,
    ChartName,
    cusum,
    ewma,
    shewhart,
    standardise,
)

RECHECK: Final = 0.05
"""Recheck when a calibration is off by more than about 5 % (fraction; sources.md, 8)."""

PHANTOM_SD: Final = 0.035
"""Variability of phantom scans over time that remains even with quality assurance: CV 3.5 % (fraction)."""

RULE: Final[dict[ChartName, str]] = {
    "shewhart": "one sample beyond 3 SD",
    "ewma": "EWMA: the moving average has left its limits",
    "cusum": "CUSUM: small shifts have added up",
}
"""What each chart says when it signals."""

State = Literal["open", "over", "ended"]


@dataclass(frozen=True)
class Outlier:
    """A sample without which a site would be in control, and what was measured since."""

    at: datetime
    bias: float
    """A fraction."""
    inside: int
    """How many samples came after it and any others like it, all of them within 5 %."""


@dataclass(frozen=True)
class Alert:
    """Consecutive samples that are out of control by one rule."""

    site: str
    kind: str
    rule: ChartName
    since: datetime
    """When the first of them was measured."""
    last: datetime
    points: int
    bias: float
    """The bias of the sample that is farthest off, a fraction."""
    state: State
    """`open`: the newest sample is one of them; `ended`: by a logged recalibration; `over`: by itself."""
    outlier: Outlier | None = None
    """What an open alert comes from, if not from the newest samples."""


def restarts(measured_at: pd.Series, events: pd.DataFrame) -> list[int]:
    """Indices of the first samples after each event (column `at`); none if nothing was measured since."""
    times = pd.DatetimeIndex(measured_at)
    found = {int(times.searchsorted(at)) for at in events["at"]} if len(events) and len(times) else set()
    return sorted(k for k in found if k < len(times))


def drift(frame: pd.DataFrame, events: pd.DataFrame, name: ChartName) -> tuple[Chart, list[int]]:
    """One chart over samples of one kind (columns measured_at, bias; by time), and where it restarts."""
    z = standardise(frame["bias"], 0.0, PHANTOM_SD)
    begin = restarts(frame["measured_at"], events)
    if name == "shewhart":
        return shewhart(z), begin
    return (ewma if name == "ewma" else cusum)(z, restarts=begin), begin


def alerts(site: str, samples: pd.DataFrame, events: pd.DataFrame, kinds: Sequence[str]) -> list[Alert]:
    """Every alert of a site. `samples` and `events` as `queries` returns them, in order of time."""
    found = []
    for kind in kinds:
        part = samples[samples.kind == kind].reset_index(drop=True)
        if len(part):
            for rule in RULE:
                found += _of(site, kind, rule, part, events)
    return found


def in_order(found: Sequence[Alert]) -> list[Alert]:
    """The open ones first, each group newest first."""
    newest = sorted(found, key=lambda alert: alert.last, reverse=True)
    return sorted(newest, key=lambda alert: alert.state != "open")


def _of(site: str, kind: str, rule: ChartName, part: pd.DataFrame, events: pd.DataFrame) -> list[Alert]:
    chart, begin = drift(part, events, rule)
    found = []
    for first, last in _stretches(chart.signals, begin):
        inside = part.iloc[first : last + 1]
        worst = float(inside["bias"].iloc[int(inside["bias"].abs().to_numpy().argmax())])
        times = inside["measured_at"]
        state = _state(last, len(part), begin, times.iloc[-1], events)
        found.append(
            Alert(
                site, kind, rule, times.iloc[0].to_pydatetime(), times.iloc[-1].to_pydatetime(), len(inside),
                worst, state, _outlier(part, events, rule, begin) if state == "open" else None,
            )
        )  # fmt: skip
    return found


def _outlier(
    part: pd.DataFrame, events: pd.DataFrame, rule: ChartName, begin: Sequence[int]
) -> Outlier | None:
    """The farthest of the samples beyond 3 SD since the last restart, if nothing else is out of control: the
    chart without them has no signal at its end, and every sample after them is within 5 %."""
    stretch = part.iloc[max(begin, default=0) :]
    wild = stretch["bias"].abs() > SHEWHART_LIMIT * PHANTOM_SD
    rest = stretch[~wild].reset_index(drop=True)
    if not wild.any() or wild.iloc[-1] or drift(rest, events, rule)[0].signals[-1]:
        return None
    since = stretch[wild.to_numpy().nonzero()[0][-1] + 1 :]
    if (since["bias"].abs() > RECHECK).any():
        return None
    worst = stretch.loc[stretch["bias"].abs().idxmax()]
    return Outlier(worst["measured_at"].to_pydatetime(), float(worst["bias"]), len(since))


def _state(last: int, count: int, begin: Sequence[int], when: pd.Timestamp, events: pd.DataFrame) -> State:
    if last + 1 in begin or (last == count - 1 and len(events) and (events["at"] > when).any()):
        return "ended"
    return "open" if last == count - 1 else "over"


def _stretches(signals: np.ndarray, begin: Sequence[int]) -> list[tuple[int, int]]:
    """First and last index of each run of signals; a restart splits them."""
    found: list[tuple[int, int]] = []
    for k in np.flatnonzero(signals):
        at = int(k)
        if found and found[-1][1] == at - 1 and at not in begin:
            found[-1] = (found[-1][0], at)
        else:
            found.append((at, at))
    return found
