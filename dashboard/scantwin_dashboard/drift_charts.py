"""EWMA and CUSUM of a site's phantoms beside their limits, in standard deviations."""

from __future__ import annotations

import altair as alt
import pandas as pd

from scantwin.calibration.charts import ChartName
from scantwin_dashboard.charts import SILENT, Chart, utc_axis
from scantwin_dashboard.drift import drift
from scantwin_dashboard.look import INK, STATUS_COLOUR, moment

TITLE: dict[ChartName, str] = {"shewhart": "Deviation [SD]", "ewma": "EWMA [SD]", "cusum": "CUSUM [SD]"}


def drift_frame(samples: pd.DataFrame, events: pd.DataFrame, name: ChartName) -> pd.DataFrame:
    """A row per sample: measured_at, bias, statistic, upper, lower [SD], out, stretch (between restarts)."""
    part = samples.reset_index(drop=True)
    chart, begin = drift(part, events, name)
    stretch = [sum(k >= start for start in begin) for k in range(len(part))]
    return part[["measured_at", "bias"]].assign(
        statistic=chart.statistic, upper=chart.upper, lower=chart.lower, out=chart.signals, stretch=stretch
    )


def drift_chart(frame: pd.DataFrame, name: ChartName, colour: str, *, height: int = 210) -> Chart:
    """`frame` as `drift_frame` returns it: the statistic, its limits, and in red where it is outside."""
    top = 1.15 * float(pd.concat([frame.statistic.abs(), frame.upper]).max())
    y = alt.Scale(domain=[-top, top], nice=False)
    base = alt.Chart(frame.assign(when=frame.measured_at.map(moment))).encode(
        x=utc_axis("measured_at", 4),
        detail="stretch:N",
        tooltip=[
            alt.Tooltip("when:N", title="Measured (UTC)"),
            alt.Tooltip("bias:Q", title="SUV bias", format="+.1%"),
            alt.Tooltip("statistic:Q", title=TITLE[name], format="+.2f"),
            alt.Tooltip("upper:Q", title="Limit [SD]", format=".2f"),
        ],
    )
    limits = [
        base.mark_line(color=INK, strokeDash=[5, 3], strokeWidth=1.2, interpolate="step-after").encode(
            y=alt.Y(f"{side}:Q", title=TITLE[name], scale=y)
        )
        for side in ("upper", "lower")
    ]
    line = base.mark_line(color=colour, strokeWidth=1.6, opacity=0.7)
    red = alt.condition(alt.datum.out, alt.value(STATUS_COLOUR["refused"]), alt.value(colour))
    points = base.mark_circle(size=55, opacity=1).encode(y=alt.Y("statistic:Q", scale=y), color=red)
    zero = alt.Chart(pd.DataFrame({"zero": [0.0]})).mark_rule(color=INK, opacity=0.4)
    return alt.layer(
        zero.encode(y="zero:Q", **SILENT),
        *limits, line.encode(y=alt.Y("statistic:Q", scale=y)), points,
    ).properties(height=height)  # fmt: skip
