"""Charts as pure functions: a data frame in, an Altair chart out. Every axis has its unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from scantwin_dashboard.attention import EARL
from scantwin_dashboard.drift import PHANTOM_SD, RECHECK
from scantwin_dashboard.look import (
    DISTRICT_COLOUR,
    INK,
    METRIC,
    REFERENCE_DASH,
    STATUS_COLOUR,
    STATUS_SIGN,
    Metric,
    moment,
)

MOST = 3 * EARL
"""Largest bias of a phantom that is drawn to scale (fraction): one of +900 %, a typing error, would flatten
all others. What lies beyond is drawn at the edge as a triangle, with its number."""

_MOST_OF_PATIENTS = 1.0
"""The same for livers and patients, who differ by 22 % (SD)."""

SILENT: dict[str, Any] = {"tooltip": alt.value(None)}
"""Encoding of marks that show nothing on hover: Streamlit would show their raw numbers."""


Chart = alt.Chart | alt.LayerChart | alt.FacetChart

_ROUND_AXIS = alt.Axis(format="d", tickMinStep=1, grid=False)


def metric_chart(
    frame: pd.DataFrame, district: str, metric: str, known: Mapping[str, Metric] = METRIC, *,
    height: int = 230,
) -> Chart:  # fmt: skip
    """One held-out metric of one district over the rounds, with the simple references as dashed lines.

    `frame` as `queries.metrics_frame` returns it. The band is one standard deviation over patients.
    """
    title, digits = known[metric].title, known[metric].digits
    part = frame[(frame.district == district) & (frame.metric == metric)]
    model = part[part.who == "model"]
    # Measured once, at the end of a run: one value each, whatever the round.
    references = part[part.who != "model"].sort_values("round").groupby("who").tail(1)
    colour = DISTRICT_COLOUR.get(district, INK)
    x = alt.X("round:Q", title="Round", axis=_ROUND_AXIS, scale=alt.Scale(nice=False, padding=12))
    y = alt.Y("mean:Q", title=title, scale=alt.Scale(zero=False, nice=True))
    tooltip = [
        alt.Tooltip("who:N", title="Who"),
        alt.Tooltip("round:Q", title="Round"),
        alt.Tooltip("mean:Q", title=title, format=f".{digits}f"),
        alt.Tooltip("sd:Q", title="SD over patients", format=f".{digits}f"),
        alt.Tooltip("n:Q", title="Patients", format=".0f"),
    ]
    lines = alt.Chart(references).mark_rule(color=INK, strokeWidth=1.3, opacity=0.9)
    lines = lines.encode(
        y=y,
        tooltip=tooltip,
        strokeDash=alt.StrokeDash(
            "who:N",
            scale=alt.Scale(domain=list(REFERENCE_DASH), range=list(REFERENCE_DASH.values())),
            legend=None,  # the page explains the three dashes once, below all charts
        ),
    )
    learnt = alt.Chart(model).encode(x=x, y=y, tooltip=tooltip)
    low_high = model.assign(low=model["mean"] - model["sd"], high=model["mean"] + model["sd"])
    band = alt.Chart(low_high).mark_area(color=colour, opacity=0.12)
    band = band.encode(x=x, y=alt.Y("low:Q", title=title), y2="high:Q", **SILENT)
    line = learnt.mark_line(color=colour, strokeWidth=2.6)
    points = learnt.mark_point(color=colour, filled=True, size=55, opacity=1)
    return alt.layer(band, lines, line, points).properties(height=height)


def updates_chart(frame: pd.DataFrame, sites: Sequence[str]) -> Chart:
    """Site by round: accepted, refused or missing, with the reason on hover. `queries.updates_frame`."""
    gap = alt.Scale(paddingInner=0.08, paddingOuter=0.04)
    x = alt.X("round:O", title="Round", axis=alt.Axis(labelAngle=0, format="d"), scale=gap)
    y = alt.Y("site:N", title=None, sort=list(sites), axis=alt.Axis(labelLimit=160), scale=gap)
    signed = frame.assign(sign=frame.status.map(STATUS_SIGN))
    base = alt.Chart(signed).encode(
        x=x,
        y=y,
        tooltip=[
            alt.Tooltip("site:N", title="Site"),
            alt.Tooltip("round:O", title="Round"),
            alt.Tooltip("status:N", title="Update"),
            alt.Tooltip("reason:N", title="Reason"),
            alt.Tooltip("patches:Q", title="Patches", format=",d"),
            alt.Tooltip("seconds:Q", title="Seconds", format=".0f"),
        ],
    )
    cells = base.mark_rect(cornerRadius=4).encode(
        color=alt.Color(
            "status:N",
            title=None,
            scale=alt.Scale(domain=list(STATUS_COLOUR), range=list(STATUS_COLOUR.values())),
            legend=alt.Legend(orient="top"),
        )
    )
    signs = base.mark_text(color="white", fontSize=13, fontWeight="bold").encode(text="sign:N")
    return alt.layer(cells, signs).properties(height=alt.Step(34), width=alt.Step(76))


def cost_chart(frame: pd.DataFrame, colours: Mapping[str, str], what: str, title: str) -> Chart:
    """A cost of each update over the rounds, one line per site: `what` is a column, `title` has its unit."""
    chart: alt.Chart = (
        alt.Chart(frame)
        .mark_line(point=alt.OverlayMarkDef(size=45, filled=True), strokeWidth=1.8)
        .encode(
            x=alt.X("round:Q", title="Round", axis=_ROUND_AXIS, scale=alt.Scale(nice=False, padding=12)),
            y=alt.Y(f"{what}:Q", title=title, scale=alt.Scale(zero=True)),
            color=_by_site(colours),
            tooltip=[
                alt.Tooltip("site:N", title="Site"),
                alt.Tooltip("round:Q", title="Round"),
                alt.Tooltip(f"{what}:Q", title=title, format=",.1f"),
            ],
        )
        .properties(height=210)
    )
    return chart


def patches_chart(frame: pd.DataFrame, colours: Mapping[str, str]) -> Chart:
    """Who taught what: the patches behind each district, by site, summed over rounds."""
    summed = frame.groupby(["district", "site"], as_index=False).patches.sum()
    chart: alt.Chart = (
        alt.Chart(summed)
        .mark_bar(cornerRadius=2, height={"band": 0.7})
        .encode(
            x=alt.X("patches:Q", title="Patches [1]", axis=alt.Axis(format=",d", tickCount=4)),
            y=alt.Y("district:N", title=None, sort=list(DISTRICT_COLOUR)),
            color=_by_site(colours),
            order=alt.Order("site:N"),
            tooltip=[
                alt.Tooltip("site:N", title="Site"),
                alt.Tooltip("district:N", title="District"),
                alt.Tooltip("patches:Q", title="Patches", format=",d"),
            ],
        )
        .properties(height=alt.Step(40))
    )
    return chart


def bias_overview(frame: pd.DataFrame, colours: Mapping[str, str]) -> Chart:
    """The newest cylinder of every site against the limits: columns site, bias (fraction), measured."""
    drawn = frame.bias.clip(-MOST, MOST)
    top = max(0.135, float(drawn.abs().max()) * 1.12) if len(frame) else 0.135
    x = alt.X(
        "drawn:Q", title="SUV bias [%]", scale=alt.Scale(domain=[-top, top], nice=False), axis=_percent_axis()
    )
    base = alt.Chart(frame.assign(drawn=drawn)).encode(
        x=x,
        y=alt.Y("site:N", title=None, sort=list(colours), axis=alt.Axis(labelLimit=160, grid=True)),
        color=_within_earl(_by_site(colours)),
        tooltip=[
            alt.Tooltip("site:N", title="Site"),
            alt.Tooltip("bias:Q", title="SUV bias", format="+.1%"),
            alt.Tooltip("measured:N", title="Measured (UTC)"),
        ],
    )
    points = base.transform_filter(abs(alt.datum.bias) <= MOST).mark_circle(size=150, opacity=1)
    beyond = _beyond(base, frame, MOST, ("triangle-right", "triangle-left"), dy=-12)
    chart = alt.layer(*_limits("x", top), points, *beyond).properties(height=alt.Step(36))
    resolved: Chart = chart.resolve_scale(color="independent", strokeDash="independent")
    return resolved


def control_chart(
    frame: pd.DataFrame, colour: str, *, phantom: bool, patients: bool = False,
    events: pd.DataFrame | None = None, height: int = 320,
) -> Chart:  # fmt: skip
    """SUV bias of one site over time. `frame` as `queries.samples_frame` returns it, one kind only.

    A phantom has Shewhart's zones at 1, 2 and 3 standard deviations (3.5 % each, sources.md, 8), and EARL's
    limits. If n counts `patients`, a point is their mean with its 95 % interval; other points have none,
    since the spread over the voxels of one scan says nothing about the next scan.
    `events` (columns at, what) are logged recalibrations, repairs and updates: the chart restarts there.
    Samples beyond the axis, which is limited to `MOST` for a phantom, are drawn at its edge.
    """
    events = pd.DataFrame({"at": [], "what": []}) if events is None else events
    spread = 1.96 * frame.sd.fillna(0) / frame.n.clip(lower=1) ** 0.5 if patients else 0.0
    most = MOST if phantom else _MOST_OF_PATIENTS
    shown = frame.assign(
        when=frame.measured_at.map(moment),
        sample=frame["id"].str[:8],
        drawn=frame.bias.clip(-most, most),
        low=(frame.bias - spread).clip(-most, most),
        high=(frame.bias + spread).clip(-most, most),
        stretch=[int((events["at"] <= at).sum()) if len(events) else 0 for at in frame.measured_at],
    )
    reach = float(pd.concat([shown.low.abs(), shown.high.abs()]).max()) if len(shown) else 0.0
    top = max(0.13, reach * 1.12)
    y = alt.Y(
        "drawn:Q", title="SUV bias [%]", scale=alt.Scale(domain=[-top, top], nice=False), axis=_percent_axis()
    )
    base = alt.Chart(shown).encode(
        x=utc_axis("measured_at"),
        tooltip=[
            alt.Tooltip("when:N", title="Measured (UTC)"),
            alt.Tooltip("bias:Q", title="SUV bias", format="+.1%"),
            alt.Tooltip("sd:Q", title="SD", format=".1%"),
            alt.Tooltip("n:Q", title="n", format=",d"),
            alt.Tooltip("sample:N", title="Sample"),
            alt.Tooltip("detail:N", title="Detail"),
        ],
    )
    point = _within_earl(alt.value(colour)) if phantom else alt.value(colour)
    return alt.layer(
        *(_zones(colour, top) if phantom else []),
        *_limits("y", top, named=phantom),
        *([base.mark_rule(color=colour, opacity=0.45).encode(y="low:Q", y2="high:Q")] if patients else []),
        base.mark_line(color=colour, opacity=0.55, strokeWidth=1.4).encode(y=y, detail="stretch:N"),
        base.transform_filter(abs(alt.datum.bias) <= most)
        .mark_circle(size=70, opacity=1)
        .encode(y=y, color=point),
        *_beyond(base.encode(y=y, color=point), frame, most, ("triangle-up", "triangle-down"), dx=22),
        *(_events(events) if len(events) else []),
    ).properties(height=height)


def _events(events: pd.DataFrame) -> list[Any]:
    marks = alt.Chart(events).encode(x=utc_axis("at"), tooltip=[alt.Tooltip("what:N", title="Logged")])
    words = marks.mark_text(align="left", dx=5, color=INK, fontSize=11)
    return [
        marks.mark_rule(color=INK, strokeDash=[4, 3], strokeWidth=1.5),
        words.encode(text="what:N", y=alt.value(10)),
    ]


def _beyond(
    base: alt.Chart, frame: pd.DataFrame, most: float, shapes: tuple[str, str], *, dx: int = 0, dy: int = 0
) -> list[Any]:
    """Samples farther off than `most`, at the edge: a triangle that points outwards, and its number."""
    if not (frame.bias.abs() > most).any():
        return []
    far = base.transform_filter(abs(alt.datum.bias) > most)
    shape = alt.condition(alt.datum.bias > 0, alt.value(shapes[0]), alt.value(shapes[1]))
    number = far.mark_text(fontSize=11, dx=dx, dy=dy).encode(text=alt.Text("bias:Q", format="+.0%"))
    return [far.mark_point(size=110, filled=True, opacity=1).encode(shape=shape), number]


def _within_earl(colour: Any) -> Any:
    """`colour` for a bias within EARL's limits; beyond them never a site's own, which may be green."""
    return alt.condition(abs(alt.datum.bias) > EARL, alt.value(STATUS_COLOUR["refused"]), colour)


def _by_site(colours: Mapping[str, str]) -> alt.Color:
    # No legend: the page draws one for all its charts, or the axis names the sites.
    return alt.Color(
        "site:N", legend=None, scale=alt.Scale(domain=list(colours), range=list(colours.values()))
    )


def utc_axis(field: str, ticks: int = 8) -> alt.X:
    """A UTC axis for a column of times with a zone: Vega-Lite's default scale is in the browser's time zone.

    It has whole dates: a site's history may be weeks or years, and "Aug" five times over says nothing. A
    tooltip has no scale, and is given its time as text.
    """
    axis = alt.Axis(grid=False, format="%Y-%m-%d", tickCount=ticks)
    return alt.X(f"{field}:T", title="Measured (UTC)", axis=axis, scale=alt.Scale(type="utc", padding=14))


def _percent_axis() -> alt.Axis:
    # The axis says [%]; a fraction of 0.05 is labelled +5.
    return alt.Axis(
        labelExpr="datum.value == 0 ? '0' : format(datum.value * 100, '+.0f')", grid=False, tickCount=7
    )


def _zones(colour: str, top: float) -> list[Any]:
    """Shewhart's zones: three bands of one standard deviation each on both sides of zero."""
    edges = pd.DataFrame(
        {"low": [-k * PHANTOM_SD for k in (1, 2, 3)], "high": [k * PHANTOM_SD for k in (1, 2, 3)]}
    )
    return [
        alt.Chart(edges.clip(-top, top))
        .mark_rect(color=colour, opacity=0.055)
        .encode(y=alt.Y("low:Q"), y2="high:Q", **SILENT)
    ]


def _limits(axis: str, top: float, *, named: bool = True) -> list[Any]:
    """A rule at zero and, when `named`, at 5 % (recheck) and at 10 % (EARL), with their names at the end."""
    rows = [
        {"at": sign * limit, "name": name}
        for limit, name in ((RECHECK, "recheck 5 %"), (EARL, "EARL 10 %"))
        for sign in (-1, 1)
        if named and limit <= top
    ]
    rows.append({"at": 0.0, "name": ""})
    frame = pd.DataFrame(rows)
    names = ["", "recheck 5 %", "EARL 10 %"]
    dash = alt.StrokeDash(
        "name:N", legend=None, scale=alt.Scale(domain=names, range=[[1, 0], [3, 3], [7, 3]])
    )
    colour = alt.Color(
        "name:N",
        legend=None,
        scale=alt.Scale(domain=names, range=[INK, "#C98A00", STATUS_COLOUR["refused"]]),
    )
    base = alt.Chart(frame).encode(color=colour, **SILENT)
    if axis == "y":
        rules = base.mark_rule(strokeWidth=1.2).encode(y="at:Q", strokeDash=dash)
        words = base.mark_text(align="right", dy=-6, dx=-4, fontSize=10.5)
        return [rules, words.encode(y="at:Q", text="name:N", x=alt.value("width"))]
    rules = base.mark_rule(strokeWidth=1.2).encode(x="at:Q", strokeDash=dash)
    # On one line the two names would overlap.
    words = [
        base.transform_filter(alt.datum.name == name)
        .mark_text(baseline="bottom", dy=dy, fontSize=10.5)
        .encode(x="at:Q", text="name:N", y=alt.value(0))
        for name, dy in ((names[1], -3), (names[2], -16))
    ]
    return [rules, *words]
