"""One scan: its pictures slice by slice, its projections, its manifest and its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import streamlit as st

from scantwin import NOTICE
from scantwin.settings import load_settings
from scantwin_dashboard import queries
from scantwin_dashboard.look import duration, moment, number, plain, size
from scantwin_dashboard.parts import choose, empty, facts, heading, status_badge
from scantwin_dashboard.state import ask, told

_KEPT_S = 600
"""How long a patient's images stay in memory after they were read [s]."""

_SUV_TOPS = (2.5, 5.0, 7.5, 10.0, 15.0, 20.0)


@told
def show() -> None:
    """Draws the page."""
    heading("Scans", "One virtual PET: a synthetic image with an error bar, never a measurement.")
    scans = {scan.id: scan for scan in ask(queries.scans)}
    if not scans:
        empty("No patient has been scanned yet.", "scantwin twin submit --help")
        return
    wanted = st.query_params.get("scan", "")
    if wanted and wanted not in scans and (older := ask(queries.scan, wanted)) is not None:
        scans[wanted] = older
    names = {s.id: f"{s.pseudonym} · {moment(s.created_at)} · {s.status}" for s in scans.values()}
    chosen = choose("Scan", "scan", names)
    if chosen is None:
        return
    scan = scans[chosen]
    with st.container(horizontal=True, vertical_alignment="center"):
        status_badge(scan.status)
        st.badge(NOTICE, color="red", icon=":material/warning:")
        st.caption(f"model version `{scan.model_version}` · finished {moment(scan.finished_at)}")
    if scan.status in ("queued", "running"):
        st.progress(scan.progress, text=plain(scan.stage) or "Waiting for a worker")
    if scan.status == "queued":
        st.caption(
            "It starts when a worker of the twin service is free. To run the service: `scantwin twin serve`"
        )
    if scan.status == "failed":
        error = scan.error or {}
        sentence, hint = error.get("message", "The scan failed."), error.get("hint", "")
        st.error(f"{plain(sentence)}  \n{plain(hint)}", icon=":material/error:")
    if scan.status == "done":
        _triage(scan.summary.get("triage") or {})
        _figures(scan)
        _pictures(_folder(scan))


def _triage(look: dict[str, Any]) -> None:
    """What a reader should know before the pictures, in the words of `scantwin twin export`."""
    if not look:
        return
    reasons = "".join(f"\n- {plain(str(reason))}" for reason in look.get("reasons") or [])
    st.warning(f"**Triage: {plain(str(look.get('answer')))}.**\n{reasons}", icon=":material/clinical_notes:")


def _figures(scan: queries.ScanRow) -> None:
    took = (
        (scan.finished_at - scan.started_at).total_seconds() if scan.finished_at and scan.started_at else None
    )
    districts = scan.summary.get("districts")
    named = ", ".join(districts) if isinstance(districts, dict) else "–"
    facts(
        [
            ("Twin", scan.pseudonym, "A pseudonym; no identifier of the patient is kept here."),
            ("Districts", named or "–", "The parts of the body that the CT shows."),
            (
                "Districts' confidence",
                number(scan.summary.get("confidence")),
                "How certain the division into districts is, from 0 to 1.",
            ),
            ("Scan time", duration(took), "From the start of the scan to its last file."),
        ]
    )
    for warning in scan.summary.get("warnings") or []:
        st.warning(plain(str(warning)), icon=":material/visibility:")


def _folder(scan: queries.ScanRow) -> Path:
    """The scan's folder; a relative one is in SCANTWIN_HOME."""
    return load_settings().home.absolute() / scan.folder


def _pictures(folder: Path) -> None:
    # Fragments: a moved slider redraws its own pictures and nothing else. A closed tab draws nothing.
    parts = {
        "Slices": st.fragment(told(_slices)),
        "Projections": st.fragment(told(_projections)),
        "Manifest": _manifest,
        "Files": _files,
    }
    for tab, draw in zip(st.tabs(list(parts), key="tab", on_change="rerun"), parts.values(), strict=True):
        if tab.open:
            with tab:
                draw(folder)


@st.cache_resource(show_spinner="Reading the images", max_entries=3, ttl=_KEPT_S)
def _volumes(folder: str, _stamp: float) -> Any:
    from scantwin_dashboard import slices

    return slices.load(Path(folder))


def _load(folder: Path) -> Any:
    pet = folder / "pet.nii.gz"
    return _volumes(str(folder), pet.stat().st_mtime if pet.is_file() else 0.0)


def _slices(folder: Path) -> None:
    from scantwin_dashboard import slices

    volumes = _load(folder)
    if volumes.unknown > 0.5:
        st.warning(
            f"The error of {volumes.unknown:.0%} of the voxels above SUV {slices.SEEN_SUV:g} was never"
            " measured, so they have no error bar.",
            icon=":material/visibility:",
        )
    above = st.columns([2, 3, 2], gap="medium")
    planes = volumes.planes  # one control per number of planes: none keeps what it does not offer
    plane = (
        above[0].segmented_control("Plane", planes, default=planes[0], key=f"plane-{len(planes)}")
        or planes[0]
    )
    shown = above[1].segmented_control(
        "Pictures", volumes.layers, selection_mode="multi", default=volumes.layers[:4], key="layers"
    ) or ["CT + PET"]
    top = above[2].select_slider("Top of the scale [SUV]", _SUV_TOPS, value=10.0, key="top")
    count = slices.count(volumes, plane)
    index = 0
    if count > 1:  # Streamlit has no slider with a single value
        key = f"slice-{plane}-{folder.name}"
        index = st.slider("Slice", 1, count, volumes.first[plane] + 1, key=key) - 1
    place = slices.place_mm(volumes, plane, index)
    axis = {"axial": "z", "coronal": "y", "sagittal": "x"}[plane]
    st.caption(f"{plane} slice {index + 1} of {count}, {axis} = {number(place, 0)} mm · SUV is SUVbw [g/ml]")
    wide = 2 if plane == "axial" else 5  # axial slices are wide, the others tall
    for start in range(0, len(shown), wide):
        row = shown[start : start + wide]
        for column, layer in zip(st.columns(max(len(row), 2)), row, strict=False):
            column.markdown(f"**{layer}**")
            picture = slices.slice_image(volumes, layer, plane, index, top)
            column.image(picture, alt=f"{layer}, {plane} slice {index + 1}")
    if "Uncertainty" in shown:
        st.caption(
            "In the uncertainty picture, SD is the half-width of the 80 % interval / 1.28; errors have"
            " heavier tails than a normal distribution, so 2 SD are not 95 %."
        )
    if "Uncertainty" in shown and volumes.partly_unknown:
        st.caption("In the uncertainty picture, grey marks where the model's error was never measured.")


def _projections(folder: Path) -> None:
    from scantwin_dashboard import slices

    top = st.select_slider("Top of the scale [SUV]", _SUV_TOPS, value=10.0, key="mip-top", width=260)
    front, side = st.columns(2)
    front.markdown("**From the front**")
    front.image(slices.projection(_load(folder), "anterior", top), alt="Projection from the front")
    side.markdown("**From the left side**")
    side.image(slices.projection(_load(folder), "lateral", top), alt="Projection from the left side")
    st.caption("Maximum intensity projections of the synthetic PET.")


def _manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    if not path.is_file():
        empty("This scan has no manifest.")
        return
    try:
        st.json(json.loads(path.read_text()), expanded=2)
    except ValueError:
        st.warning(f"{path} is not readable as JSON.")


def _files(folder: Path) -> None:
    from scantwin_dashboard import slices

    st.caption(f"The files are in `{folder}`. Every image is marked as synthetic, also in its DICOM headers.")
    with st.container(horizontal=True):
        for name, what in slices.FILES.items():
            path = folder / name
            if path.is_file():
                st.download_button(
                    f"{what} · {size(path.stat().st_size)}",
                    path.read_bytes,
                    file_name=f"synthetic-{name}",
                    key=f"download-{name}",
                    icon=":material/download:",
                    on_click="ignore",
                )
    if (folder / "dicom").is_dir():
        st.caption(f"The DICOM PET series is in `{folder / 'dicom'}`.")
