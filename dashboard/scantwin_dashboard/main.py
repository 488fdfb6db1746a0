"""The dashboard's frame: navigation, the notice, and what all pages share."""

from __future__ import annotations

import streamlit as st

from scantwin import NOTICE, __version__
from scantwin.errors import ScanTwinError
from scantwin_dashboard import state
from scantwin_dashboard.pages import about, overview, rounds, scans, sites

_RINGS = """<g fill="none" stroke-width="4"><circle cx="17" cy="20" r="12" stroke="#2A8C93"/>
<circle cx="29" cy="20" r="12" stroke="#E69F00" stroke-opacity=".85"/></g>"""
_ICON = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 46 40">{_RINGS}</svg>"""
_MARK = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 190 40">{_RINGS}
<text x="52" y="28" font-family="'Source Sans 3','Source Sans Pro',sans-serif" font-size="25"
 font-weight="650" fill="#2A8C93">ScanTwin</text></svg>"""

_STYLE = f"""<style>
.notice {{position: fixed; inset: auto 0 0 0; z-index: 1000000; text-align: center; font-weight: 650;
  letter-spacing: .09em; font-size: .78rem; padding: .3rem 0; background: #7A1F12; color: #FFF;}}
[data-testid="stMainBlockContainer"] {{max-width: 1380px;}}
.legend {{font-size: .85rem; opacity: .85;}}
.legend span {{margin-right: 1.1rem; white-space: nowrap;}}
.legend i {{display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .4em;}}
[data-testid="stMetricLabel"] p {{opacity: .75;}}
</style><div class="notice" role="note">{NOTICE}</div>"""


def main() -> None:
    """Draws the page that is asked for."""
    # The icon is our own: Streamlit would fetch its symbols for the browser's tab from the internet.
    st.set_page_config(page_title="ScanTwin", page_icon=_ICON, layout="wide")
    st.logo(_MARK, size="large")
    page = st.navigation(
        {
            "Consortium": [
                st.Page(overview.show, title="Overview", icon=":material/hub:", default=True),
                st.Page(
                    rounds.show, title="Rounds and metrics", icon=":material/monitoring:", url_path="rounds"
                ),
                st.Page(sites.show, title="Sites", icon=":material/local_hospital:", url_path="sites"),
            ],
            "Patients": [
                st.Page(scans.show, title="Scans", icon=":material/radiology:", url_path="scans"),
            ],
            "ScanTwin": [
                st.Page(about.show, title="About", icon=":material/info:", url_path="about"),
            ],
        }
    )
    # Always drawn, whatever happens to the page below.
    st.html(_STYLE)
    _sidebar()
    page.run()


def _sidebar() -> None:
    with st.sidebar:
        if st.button("Refresh", icon=":material/refresh:", width="stretch"):
            state.forget()
        follow = st.toggle(
            "Follow",
            value=True,
            key="follow",
            help="Checks every 5 s and redraws the page when something has changed.",
        )
        try:
            place = state.database().place
        except ScanTwinError as error:
            place = error.message
        if follow:
            state.watch()
        st.caption(f"Read-only view of  \n`{place}`  \nTimes are UTC. Version {__version__}.")
