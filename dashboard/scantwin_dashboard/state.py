"""The database as the pages see it: read-only, asked through a short cache, errors told as sentences."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import streamlit as st
from scantwin.errors import ScanTwinError
from scantwin.settings import load_settings
from scantwin.store.database import Database

Answer = TypeVar("Answer")

_FIRST_STEPS = """\
scantwin demo               # three sites train together, one patient is scanned
scantwin consortium init    # a consortium of your own"""

FRESH_S = 3.0
"""How long an answer serves before the database is asked again [s]."""


@st.cache_resource(show_spinner=False, max_entries=4)
def _database(url: str) -> Database:
    return Database(url, read_only=True)


def database() -> Database:
    """The database of SCANTWIN_DATABASE_URL or SCANTWIN_HOME, opened for reading only."""
    return _database(load_settings().database)


def ask(query: Callable[..., Answer], *args: Any, **kwargs: Any) -> Answer:
    """The answer of one of `queries`, at most `FRESH_S` old."""
    answer: Answer = _ask(load_settings().database, query.__name__, args, kwargs, query)
    return answer


@st.cache_data(ttl=FRESH_S, show_spinner=False, max_entries=128)
def _ask(_url: str, name: str, args: Any, kwargs: Any, _query: Callable[..., Any]) -> Any:  # noqa: ARG001
    with database().session() as session:
        return _query(session, *args, **kwargs)


def forget() -> None:
    """Lets the next question reach the database."""
    _ask.clear()


def told(page: Callable[[], None]) -> Callable[[], None]:
    """A page or a part of one that tells an error as a sentence and what to do, instead of a traceback."""

    @functools.wraps(page)
    def shown() -> None:
        try:
            page()
        except ScanTwinError as error:
            tell(error)

    return shown


def tell(error: ScanTwinError) -> None:
    """Shows an error: what and where, then what to do."""
    missing = "unable to open database file" in error.message or "does not have the tables" in error.message
    if missing:
        st.info(f"There is nothing to show yet: {database().place} does not exist or is empty.", icon="🌱")
        st.markdown("Run one of these in a terminal, then press **Refresh**.")
        st.code(_FIRST_STEPS, None)
    else:
        st.warning(f"{error.message}  \n{error.hint}", icon="⚠️")


def live(part: Callable[[], None], *, every_s: float | None) -> None:
    """Shows a part of a page; with `every_s` it draws itself again, without the rest of the page."""
    st.fragment(run_every=every_s)(told(part))()
