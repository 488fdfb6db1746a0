"""One site: does its SUV drift, what is in its cohort, what became of its updates?"""

from __future__ import annotations

import pandas as pd
import streamlit as st

from scantwin.calibration.charts import ChartName
from scantwin_dashboard import charts, drift_charts, queries
from scantwin_dashboard.attention import zone
from scantwin_dashboard.look import KIND, ago, moment, number, percent, site_colours, size
from scantwin_dashboard.parts import alerts_table, choose, empty, facts, heading, status_badge
from scantwin_dashboard.state import ask, told

_ZONE = {
    "inside": "within 5 %",
    "recheck": "beyond 5 %: recheck",
    "beyond": "beyond EARL's 10 %: recalibrate",
}

_PHANTOM = (
    "Shaded: one, two and three standard deviations (3.5 % each) of a phantom under quality assurance."
    " Beyond 5 %, scan the phantom again; beyond 10 % (EARL's limit), recalibrate. Vertical lines mark logged"
    " recalibrations, repairs and software updates: the chart restarts at each of them."
)
_LIVER = (
    "Each point is one patient: the mean in a 3 cm sphere in the right lobe of the liver, with n and SD of"
    " its voxels. Patients differ by about 22 %, so a single point says little: it takes 35 to 50 patients to"
    " show a drift of 10 %."
)
_PATIENTS = "Each point is the mean over n patients, with its 95 % confidence interval."


@told
def show() -> None:
    """Draws the page."""
    heading("Sites", "The SUV calibration of one site over time, its cohort in numbers, and its updates.")
    sites = {site.name: site for site in ask(queries.sites)}
    if not sites:
        empty("No site is enrolled yet.", "scantwin consortium enrol --help")
        return
    name = choose("Site", "site", {s.name: f"{s.name} · {s.kind}" for s in sites.values()})
    if name is None:
        return
    site, colour = sites[name], site_colours(list(sites))[name]
    with st.container(horizontal=True, vertical_alignment="center"):
        status_badge(site.status)
        st.caption(f"enrolled {moment(site.enrolled_at)} · last answer: {ago(site.last_update)}")
    samples = ask(queries.samples_frame, site.id)
    events = ask(queries.events_frame, site.name)
    spread = _spread(samples, events)
    facts(
        [
            ("SUV bias now", percent(site.bias), _bias_words(site)),
            ("Measured", ago(site.measured_at), "When the newest uniform cylinder was scanned."),
            (
                "Spread",
                "–" if spread is None else f"{spread * 100:.1f} %",
                "Standard deviation of the newest cylinders, 8 at most, since the last logged recalibration,"
                " repair or software update. About 3.5 % remains even under quality assurance.",
            ),
            ("Updates accepted", str(site.accepted), "Over all runs."),
            ("Refused", str(site.refused), "Over all runs."),
            ("Missing", str(site.missing), "Rounds without an answer."),
        ]
    )
    _calibration(site, samples, events, colour)
    _cohort(site, colour)
    _updates(site)


def _bias_words(site: queries.SiteRow) -> str:
    if site.bias is None:
        return ""
    return (
        "Measured before the last logged event: scan the cylinder again."
        if site.worked_on
        else _ZONE[zone(site.bias)]
    )


def _spread(samples: pd.DataFrame, events: pd.DataFrame) -> float | None:
    """Standard deviation (fraction) of the newest cylinders; never across a recalibration."""
    cylinders = samples[samples.kind == "cylinder"]
    if len(events):
        cylinders = cylinders[cylinders.measured_at >= events["at"].max()]
    return float(cylinders.bias.tail(8).std()) if len(cylinders) > 2 else None


def _calibration(site: queries.SiteRow, samples: pd.DataFrame, events: pd.DataFrame, colour: str) -> None:
    st.subheader("SUV calibration", anchor=False)
    if samples.empty:
        empty("This site has measured nothing yet.", "scantwin site qc --help")
        return
    kinds = [kind for kind in KIND if kind in set(samples.kind)]
    for tab, kind in zip(st.tabs([KIND[kind] for kind in kinds]), kinds, strict=True):
        with tab:
            phantom = kind in queries.PHANTOMS
            part = samples[samples.kind == kind]
            patients = kind == "model-residual"  # for the others, n counts voxels or spheres
            chart = charts.control_chart(part, colour, phantom=phantom, patients=patients, events=events)
            st.altair_chart(chart, alt=f"SUV bias of {site.name}: {KIND[kind]}")
            st.caption(_PHANTOM if phantom else _PATIENTS if patients else _LIVER)
            if phantom:
                _drift(site.name, part, events, colour)
    own = [alert for alert in ask(queries.site_alerts) if alert.site == site.name]
    st.markdown("**Alerts**")
    alerts_table(own)
    st.download_button(
        "Samples as CSV",
        samples.to_csv(index=False),
        file_name=f"scantwin-{site.name}-calibration.csv",
        mime="text/csv",
        icon=":material/download:",
    )


def _drift(site: str, part: pd.DataFrame, events: pd.DataFrame, colour: str) -> None:
    """The two charts that reveal what one sample cannot show."""
    names: tuple[ChartName, ...] = ("ewma", "cusum")
    for column, name in zip(st.columns(2, gap="medium"), names, strict=True):
        with column:
            frame = drift_charts.drift_frame(part, events, name)
            st.altair_chart(drift_charts.drift_chart(frame, name, colour), alt=f"{name.upper()} of {site}")
    st.caption(
        "In units of 3.5 %, the standard deviation (SD) of a phantom under quality assurance. Dashed: the"
        " limits. A site in control leaves those of either chart once in about 500 samples; one of the three"
        " rules (both charts, and one sample beyond 3 SD) signals once in about 200. A shift of one SD shows"
        " after about 10 samples; single samples would take 44. A sample counts for 4 SD at most. Both charts"
        " restart at a logged recalibration, repair or software update."
    )


def _cohort(site: queries.SiteRow, colour: str) -> None:
    st.subheader("Cohort", anchor=False)
    patches = ask(queries.patches_frame, site_id=site.id)
    if patches.empty:
        empty("No update of this site has been accepted yet, so its cohort is not known here.")
        return
    left, right = st.columns([4, 5], gap="large")
    newest = patches[patches["update"] == patches["update"].iloc[-1]]  # of one round, not of several
    with left:
        rows = [
            {
                "District": row["district"], "Patches, newest round": row["patches"],
                "Held-out patients": number(None if pd.isna(row["held_out"]) else row["held_out"], 0),
            }
            for row in newest.to_dict("records")
        ]  # fmt: skip
        st.dataframe(rows, hide_index=True)
        st.caption("Counts only; images never leave a site.")
    with right:
        st.altair_chart(charts.patches_chart(patches, {site.name: colour}), alt="Patches by district")


def _updates(site: queries.SiteRow) -> None:
    st.subheader("Updates", anchor=False)
    updates = ask(queries.updates_frame, site_id=site.id)
    if updates.empty:
        empty("This site has not been asked for an update yet.")
        return
    rows = [
        {
            "Run": row["run"], "Round": row["round"], "Update": row["status"], "Reason": row["reason"],
            "Patches": row["patches"], "Sent": size(row["bytes_in"]), "Received": size(row["bytes_out"]),
            "Time [s]": number(row["seconds"], 0), "When (UTC)": moment(_time(row["at"])),
        }
        for row in updates.iloc[::-1].to_dict("records")
    ]  # fmt: skip
    st.dataframe(rows, hide_index=True)


def _time(value: pd.Timestamp) -> pd.Timestamp | None:
    return None if pd.isna(value) else value
