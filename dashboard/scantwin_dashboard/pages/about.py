"""What this is, what its figures mean and where they come from."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files

import streamlit as st

from scantwin import NOTICE
from scantwin_dashboard.parts import heading
from scantwin_dashboard.state import database, told


@told
def show() -> None:
    """Draws the page."""
    heading("About", "A virtual PET scanner that hospitals train together.")
    st.markdown(f"### {NOTICE}")
    st.markdown(files("scantwin_dashboard").joinpath("about.md").read_text())
    st.subheader("This installation", anchor=False)
    rows = [{"Part": "Python", "Version": sys.version.split()[0]}]
    rows += [
        {"Part": name, "Version": _version(name)}
        for name in ("scantwin", "streamlit", "altair", "sqlalchemy")
    ]
    st.dataframe(rows, hide_index=True, width=360)
    st.caption(f"Database: `{database().place}`, opened for reading only.")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
