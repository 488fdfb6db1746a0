"""The consortium at a glance: what needs attention, sites, runs, model versions, the audit log."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from scantwin_dashboard import attention, charts, queries
from scantwin_dashboard.look import ago, duration, moment, percent, plain, site_colours, size
from scantwin_dashboard.parts import alerts_table, empty, facts, heading
from scantwin_dashboard.state import ask, told


@told
def show() -> None:
    """Draws the page."""
    heading("Consortium", "The sites that train together, what they are doing, and what needs attention.")
    sites, runs, scans = ask(queries.sites), ask(queries.runs), ask(queries.scans)
    models, drifts = ask(queries.models), ask(queries.site_alerts)
    if not (sites or runs or scans or models):
        empty("No site is enrolled and nothing has been trained yet.", "scantwin demo")
        return
    active = sum(site.status == "active" for site in sites)
    facts(
        [
            (
                "Active sites",
                f"{active} of {len(sites)}",
                "Enrolled sites that have taken part in a round.",
            ),
            ("Runs", str(len(runs)), "All federated trainings, however they ended."),
            ("Running now", str(sum(run.status == "running" for run in runs)), "Runs in progress."),
            ("Model versions", str(len(models)), "Only the newest 20 are counted."),
            ("Scans", str(len(scans)), "Virtual PETs; only the newest 200 are counted."),
        ]
    )
    left, right = st.columns([5, 4], gap="large")
    with left:
        _attention(attention.notices(sites, runs, scans, drifts), attention.looked_at(sites, runs, scans))
    with right:
        _bias(sites)
    st.subheader("Alerts", anchor=False)
    alerts_table(drifts)
    _sites(sites)
    _runs(runs)
    audit, versions = st.tabs(["Audit log", "Model versions"])
    with audit:
        _audit()
    with versions:
        _models(models)


def _attention(notices: list[attention.Notice], looked_at: str) -> None:
    st.subheader("Needs attention", anchor=False)
    if not notices:
        st.success(f"Nothing needs attention.  \n{looked_at}", icon="✅")
    for notice in notices[:8]:
        box = st.error if notice.level == "act" else st.warning
        icon = ":material/priority_high:" if notice.level == "act" else ":material/visibility:"
        box(f"**{plain(notice.subject)}** {plain(notice.sentence)}  \n{plain(notice.advice)}", icon=icon)
    if len(notices) > 8:
        st.caption(f"And {len(notices) - 8} more.")


def _bias(sites: list[queries.SiteRow]) -> None:
    st.subheader("SUV calibration now", anchor=False)
    rows = [
        {"site": s.name, "bias": s.bias, "measured": f"{s.measured_at:%Y-%m-%d %H:%M}"}
        for s in sites if s.bias is not None and s.measured_at
    ]  # fmt: skip
    if not rows:
        empty("No site has measured a calibration phantom yet.", "scantwin site qc --help")
        return
    chart = charts.bias_overview(pd.DataFrame(rows), site_colours([s.name for s in sites]))
    st.altair_chart(chart, alt="Newest SUV bias of each site against the limits of 5 % and 10 %")
    st.caption("The newest uniform cylinder of each site. At 0 %, the SUV is right.")


def _sites(sites: list[queries.SiteRow]) -> None:
    st.subheader("Sites", anchor=False)
    if not sites:
        empty("No site is enrolled yet.", "scantwin consortium enrol --help")
        return
    rows = [
        {
            "Site": s.name, "Kind": s.kind, "Status": s.status, "SUV bias": percent(s.bias),
            "Measured": ago(s.measured_at), "Accepted": s.accepted, "Refused": s.refused,
            "Missing": s.missing, "Last answer": ago(s.last_update), "Enrolled (UTC)": moment(s.enrolled_at),
        }
        for s in sites
    ]  # fmt: skip
    st.dataframe(rows, hide_index=True)


def _runs(runs: list[queries.RunRow]) -> None:
    st.subheader("Runs", anchor=False)
    if not runs:
        empty("Nothing has been trained together yet.", "scantwin consortium train --help")
        return
    rows = [
        {
            "Run": r.name, "System": r.system, "Status": r.status,
            "Rounds": 100 * r.rounds_done / max(r.rounds_planned, 1),
            "Done": f"{r.rounds_done} of {r.rounds_planned}", "Started (UTC)": moment(r.started_at),
            "Took": duration((r.finished_at - r.started_at).total_seconds())
            if r.finished_at and r.started_at else "–",
            "Version": r.final_version or r.base_version, "Remark": r.error or "",
        }
        for r in runs
    ]  # fmt: skip
    bar = st.column_config.ProgressColumn("Rounds", format="%.0f %%", min_value=0, max_value=100)
    st.dataframe(rows, hide_index=True, column_config={"Rounds": bar})


def _models(models: list[queries.ModelRow]) -> None:
    if not models:
        empty("The registry is empty.", "scantwin models publish DIR --name NAME")
        return
    rows = [
        {
            "Version": m.id, "Name": m.name, "Size": size(m.size_bytes),
            "Published (UTC)": moment(m.created_at), "From": m.parent or "–",
        }
        for m in models
    ]  # fmt: skip
    st.dataframe(rows, hide_index=True)


def _audit() -> None:
    entries = ask(queries.audit_tail)
    if not entries:
        empty("The audit log is empty.")
        return
    rows = [
        {
            "When (UTC)": moment(e.at), "Who": e.actor, "Action": e.action, "Subject": e.subject,
            "Detail": ", ".join(f"{key}: {value}" for key, value in e.detail.items()),
        }
        for e in entries
    ]  # fmt: skip
    st.dataframe(rows, hide_index=True)
