"""One run: is the model getting better than the simple references, and what did each site send?"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from scantwin_dashboard import charts, queries
from scantwin_dashboard.look import (
    DISTRICT_COLOUR,
    METRIC,
    METRIC_OF_CT,
    Metric,
    duration,
    moment,
    number,
    plain,
    signed,
    site_colours,
    size,
)
from scantwin_dashboard.parts import choose, empty, facts, heading, legend, status_badge
from scantwin_dashboard.state import ask, told

_PET = (
    "Coloured: the model, with a band of one standard deviation over patients. Grey, on the same patients:"
    " the training mean (dotted), the training median (dashed) and the HU curve, uptake by CT number (solid)."
    " A useful model beats all three. Measured inside the body, in the SUV range 0–20."
)
_CT = "The model, with a band of one standard deviation over patients. There are no references for CT."
_OF_CT = {
    "ct-inpainting": (
        f"{_CT} Measured inside the regions that were made anew, one sample of each. Not even a perfect model"
        " reaches 0: a sample differs from the truth as much as one truth differs from another."
    ),
    "low-resource-3d": f"{_CT} Measured on the reconstructed CT, inside the body.",
}
"""What the charts of a system that makes CT show."""


@told
def show() -> None:
    """Draws the page."""
    heading(
        "Rounds and metrics",
        "The error on held-out patients after every round, and what became of each site's update.",
    )
    runs = {run.id: run for run in ask(queries.runs)}
    if not runs:
        empty("Nothing has been trained together yet.", "scantwin demo")
        return
    run_id = choose(
        "Run",
        "run",
        {r.id: f"{r.name} · {r.system} · {moment(r.started_at)} · {r.status}" for r in runs.values()},
    )
    if run_id is None:
        return
    run = runs[run_id]
    known = METRIC_OF_CT if run.system in _OF_CT else METRIC
    metrics, rounds = ask(queries.metrics_frame, run_id), ask(queries.rounds_frame, run_id)
    metrics = metrics[metrics.metric.isin(known)]
    updates = ask(queries.updates_frame, run_id=run_id)
    sites = [site.name for site in ask(queries.sites)]
    with st.container(horizontal=True, vertical_alignment="center"):
        status_badge(run.status)
        st.caption(
            f"seed {run.seed} · from `{run.base_version}` to `{run.final_version or 'no final version yet'}`"
        )
        if len(rounds) and rounds.status.iloc[-1] == "running":
            open_round, since = rounds["round"].iloc[-1], rounds.started_at.iloc[-1]
            st.caption(f"round {open_round} has been running since {moment(since)}")
    if run.error:
        st.warning(plain(run.error), icon=":material/sticky_note_2:")
    _figures(run, rounds, metrics, updates, known["mae"])
    _metrics(metrics, known, _OF_CT.get(run.system, _PET))
    _updates(updates, sites)
    if len(updates):
        _contributions(run_id, updates, sites)


def _figures(
    run: queries.RunRow, rounds: pd.DataFrame, metrics: pd.DataFrame, updates: pd.DataFrame, mae: Metric
) -> None:
    whole = metrics[metrics.district == "whole-body"]
    newest = whole[whole["round"] == whole[whole.who == "model"]["round"].max()]
    took = rounds.seconds.dropna()
    counts = updates.status.value_counts()
    median = (
        "MAE of the median",
        _error(newest[newest.who == "training-median"], mae),
        "The same for the best constant, the training median of each district, on the same whole bodies.",
    )
    facts(
        [
            ("Rounds", f"{run.rounds_done} of {run.rounds_planned}", "Rounds whose updates were merged."),
            (
                "MAE now",
                _error(newest[newest.who == "model"], mae),
                "Whole body in the newest measured round: MAE and bias, means over held-out patients.",
            ),
            *([] if run.system in _OF_CT else [median]),
            (
                "Updates accepted",
                f"{counts.get('accepted', 0)} of {len(updates)}",
                "The others were refused or missing.",
            ),
            ("One round", duration(took.median()) if len(took) else "–", "Median over the rounds."),
            ("Received", size(updates.bytes_in.sum()), "From all sites, over all rounds."),
        ]
    )


def _error(part: pd.DataFrame, shown: Metric) -> str:
    """MAE and, if measured, bias of one of them in one round: a low MAE may come from reading low."""
    found = dict(zip(part.metric, part["mean"], strict=True))
    mae, bias = found.get("mae"), found.get("bias")
    error = f"{number(mae, shown.digits)} {shown.unit}"
    return error if bias is None else f"{error}, bias {signed(bias, shown.digits)}"


def _metrics(metrics: pd.DataFrame, known: Mapping[str, Metric], caption: str) -> None:
    st.subheader("Held-out patients", anchor=False)
    if metrics.empty:
        empty("No round has been measured yet. The first figures appear when a round has been evaluated.")
        return
    present = [m for m in known if m in set(metrics.metric)]
    metric = (
        st.segmented_control(
            "Metric",
            present,
            default=present[0],
            format_func=lambda m: known[m].name,
            label_visibility="collapsed",
        )
        or present[0]
    )
    found = set(metrics.district)
    districts = [d for d in DISTRICT_COLOUR if d in found] + sorted(found - set(DISTRICT_COLOUR))
    width = len(districts) if len(districts) <= 4 else 3
    for start in range(0, len(districts), width):
        for column, district in zip(st.columns(width), districts[start : start + width], strict=False):
            with column:
                st.markdown(f"**{district.capitalize()}**")
                chart = charts.metric_chart(metrics, district, metric, known)
                st.altair_chart(chart, alt=f"{known[metric].name} in the {district} over the rounds")
    better = {"mae": "Lower", "bias": "Nearer to 0"}.get(metric, "Higher")
    st.caption(f"{better} is better. {caption}")
    with st.expander("Figures of the newest round"):
        _table(metrics, known)


def _table(metrics: pd.DataFrame, known: Mapping[str, Metric]) -> None:
    newest = metrics[metrics["round"] == metrics["round"].max()]
    rows = [
        {
            "District": district, "Who": who,
            **{shown.title: _mean_sd(part[part.metric == m], shown.digits) for m, shown in known.items()},
            "Patients": number(part["n"].max(), 0),
        }
        for (district, who), part in newest.groupby(["district", "who"], sort=False)
    ]  # fmt: skip
    st.dataframe(rows, hide_index=True)


def _updates(updates: pd.DataFrame, sites: list[str]) -> None:
    st.subheader("Updates of the sites", anchor=False)
    if updates.empty:
        empty("No site has answered yet.")
        return
    few = updates["round"].nunique() <= 12
    chart = charts.updates_chart(updates, sites)
    st.altair_chart(chart, alt="Accepted, refused and missing updates", width="content" if few else "stretch")
    reasons = updates[updates.reason != ""]
    if len(reasons):
        st.markdown("**Why updates were left out**")
        st.dataframe(
            [
                {"Round": row["round"], "Site": row["site"], "Update": row["status"], "Reason": row["reason"]}
                for row in reasons.to_dict("records")
            ],
            hide_index=True,
            column_config={"Reason": st.column_config.TextColumn(width="large")},
        )


def _contributions(run_id: str, updates: pd.DataFrame, sites: list[str]) -> None:
    colours = site_colours(sites)
    colours = {name: colour for name, colour in colours.items() if name in set(updates.site)}
    answered = updates[updates.status != "missing"].assign(mb_in=updates.bytes_in / 1e6)
    titles = ("Patches by district", "Received from a site", "Time of a round at a site")
    patches = ask(queries.patches_frame, run_id=run_id)
    drawn = (
        charts.patches_chart(patches, colours) if len(patches) else None,
        charts.cost_chart(answered, colours, "mb_in", "Received [MB]") if len(answered) else None,
        charts.cost_chart(answered, colours, "seconds", "Time [s]") if len(answered) else None,
    )
    legend(colours)
    for column, title, chart in zip(st.columns(3, gap="medium"), titles, drawn, strict=True):
        with column:
            st.markdown(f"**{title}**")
            if chart is None:
                st.caption("Nothing yet.")
            else:
                st.altair_chart(chart, alt=title)


def _mean_sd(part: pd.DataFrame, digits: int) -> str:
    if part.empty:
        return "–"
    return f"{number(part['mean'].iloc[0], digits)} ± {number(_real(part['sd'].iloc[0]), digits)}"


def _real(value: float | None) -> float | None:
    return None if value is None or pd.isna(value) else float(value)
