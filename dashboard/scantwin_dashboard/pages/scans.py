"""One scan: its pictures slice by slice, its projections, its manifest and its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import streamlit as st
from scantwin import NOTICE
from scantwin.errors import ScanTwinError
from scantwin.settings import load_settings

from scantwin_dashboard import queries
from scantwin_dashboard.look import duration, moment, number, size
from scantwin_dashboard.parts import choose, empty, facts, following, heading, status_badge
from scantwin_dashboard.state import ask, live, tell, told

_SUV_TOPS = (2.5, 5.0, 7.5, 10.0, 15.0, 20.0)


@told
def show() -> None:
    """Draws the page."""
    heading("Scans", "One virtual PET: a synthetic image with an error bar, never a measurement.")
    scans = {scan.id: scan for scan in ask(queries.scans)}
    if not scans:
        empty("No patient has been scanned yet.", "scantwin twin submit --help")
        return
    names = {s.id: f"{s.pseudonym} · {moment(s.created_at)} · {s.status}" for s in scans.values()}
    chosen = choose("Scan", "scan", names)
    scan = scans[chosen]
    live(lambda: _progress(chosen), every_s=following(scan.status in ("queued", "running")))
    if scan.status == "done":
        _pictures(_folder(scan))


def _progress(scan_id: str) -> None:
    scan = next(s for s in ask(queries.scans) if s.id == scan_id)
    with st.container(horizontal=True, vertical_alignment="center"):
        status_badge(scan.status)
        st.badge(NOTICE, color="red", icon=":material/warning:")
        st.caption(f"model version `{scan.model_version}` · scan `{scan.id[:12]}`")
    if scan.status in ("queued", "running"):
        st.progress(scan.progress, text=scan.stage or "Waiting for a worker")
        if scan.status == "queued":
            st.caption("A worker of the twin service takes it when one is free: `scantwin twin serve`")
    if scan.status == "failed":
        error = scan.error or {}
        st.error(
            f"{error.get('message', 'The scan failed.')}  \n{error.get('hint', '')}", icon=":material/error:"
        )
    if scan.status == "done":
        _figures(scan)


def _figures(scan: queries.ScanRow) -> None:
    took = (
        (scan.finished_at - scan.started_at).total_seconds() if scan.finished_at and scan.started_at else None
    )
    districts = scan.summary.get("districts")
    named = ", ".join(districts) if isinstance(districts, dict) else "–"
    facts(
        [
            ("Twin", scan.pseudonym, "A pseudonym; no identifier of the patient is kept here."),
            ("Districts", named or "–", "What the CT shows of the body."),
            (
                "Districts' confidence",
                number(scan.summary.get("confidence")),
                "How surely the districts were told apart, 0 to 1.",
            ),
            ("Scanned in", duration(took), "From the start of the work to the last file."),
            ("Finished (UTC)", moment(scan.finished_at), ""),
        ]
    )
    for warning in scan.summary.get("warnings") or []:
        st.warning(str(warning), icon=":material/visibility:")


def _folder(scan: queries.ScanRow) -> Path:
    """The scan's folder; a relative one is in SCANTWIN_HOME."""
    return load_settings().home.absolute() / scan.folder


def _pictures(folder: Path) -> None:
    slices_tab, mip_tab, record_tab, files_tab = st.tabs(["Slices", "Projections", "Manifest", "Files"])
    try:
        # A fragment: a moved slider draws the pictures again and nothing else.
        with slices_tab:
            st.fragment(_slices)(folder)
        with mip_tab:
            st.fragment(_projections)(folder)
    except ScanTwinError as error:
        tell(error)
        return
    with record_tab:
        _manifest(folder / "manifest.json")
    with files_tab:
        _files(folder)


@st.cache_resource(show_spinner="Reading the images", max_entries=3)
def _volumes(folder: str, _stamp: float) -> Any:
    from scantwin_dashboard import slices

    return slices.load(Path(folder))


def _load(folder: Path) -> Any:
    pet = folder / "pet.nii.gz"
    return _volumes(str(folder), pet.stat().st_mtime if pet.is_file() else 0.0)


def _slices(folder: Path) -> None:
    from scantwin_dashboard import slices

    volumes = _load(folder)
    controls = st.columns([2, 3, 4, 2], gap="medium", vertical_alignment="bottom")
    plane = controls[0].segmented_control("Plane", slices.PLANES, default="coronal", key="plane") or "coronal"
    count = slices.count(volumes, plane)
    index = controls[1].slider(
        "Slice", 0, count - 1, slices.first_index(volumes, plane), key=f"slice-{plane}-{folder.name}"
    )
    shown = controls[2].segmented_control(
        "Pictures", volumes.layers, selection_mode="multi", default=volumes.layers[:4], key="layers"
    ) or ["CT + PET"]
    top = controls[3].select_slider("Top of the scale [SUV]", _SUV_TOPS, value=10.0, key="top")
    place = slices.place_mm(volumes, plane, index)
    axis = {"axial": "z", "coronal": "y", "sagittal": "x"}[plane]
    st.caption(f"{plane} slice {index + 1} of {count}, {axis} = {number(place, 0)} mm · SUV is SUVbw [g/ml]")
    columns = st.columns(max(len(shown), 2) if len(shown) > 1 else [3, 2])
    for column, layer in zip(columns, shown, strict=False):
        column.markdown(f"**{layer}**")
        picture = slices.slice_image(volumes, layer, plane, index, top)
        column.image(picture, width="stretch", alt=f"{layer}, {plane} slice {index + 1}")


def _projections(folder: Path) -> None:
    from scantwin_dashboard import slices

    top = st.select_slider("Top of the scale [SUV]", _SUV_TOPS, value=10.0, key="mip-top", width=260)
    front, side, _ = st.columns([2, 2, 1])
    front.markdown("**From the front**")
    front.image(slices.projection(_load(folder), "anterior", top), width="stretch")
    side.markdown("**From the right side**")
    side.image(slices.projection(_load(folder), "lateral", top), width="stretch")
    st.caption("Maximum intensity projections of the synthetic PET.")


def _manifest(path: Path) -> None:
    if not path.is_file():
        empty("This scan has no manifest.")
        return
    try:
        st.json(json.loads(path.read_text()), expanded=2)
    except ValueError:
        st.warning(f"{path} is not readable as JSON.")


def _files(folder: Path) -> None:
    from scantwin_dashboard import slices

    st.caption(f"In `{folder}`. Every image says that it is synthetic, also in its DICOM headers.")
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
