"""The database as the pages see it: read-only, behind a short-lived cache, with errors as sentences."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import streamlit as st
from sqlalchemy.exc import SQLAlchemyError

from scantwin.errors import ScanTwinError, ServiceError, from_os_error
from scantwin.settings import load_settings
from scantwin.store.database import Database
from scantwin_dashboard import queries
from scantwin_dashboard.look import plain

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Given = ParamSpec("Given")

_FIRST_STEPS = """\
scantwin demo               # three sites train together, one patient is scanned
scantwin consortium init    # a consortium of your own"""

_REFUSED = (
    "Open the page from the menu: the link may ask for something that cannot exist."
    " If that does not help, see the dashboard's log."
)
_NOT_OURS = "Run the dashboard as the user who runs the twin service: only that user may read its files."

WATCH_S = 5.0
"""How often the database is checked for something new [s]."""

FRESH_S = 3.0
"""How long an answer is reused before the database is asked again [s]."""


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
def _ask(url: str, name: str, args: Any, kwargs: Any, _query: Callable[..., Any]) -> Any:  # noqa: ARG001
    # Arguments without an underscore are the key of the cache; `database()` is the one at `url`.
    with database().session() as session:
        return _query(session, *args, **kwargs)


def forget() -> None:
    """Makes the next question reach the database."""
    _ask.clear()


def told(page: Callable[Given, None]) -> Callable[Given, None]:
    """Wraps a page or a part of one: shows an error as a sentence with what to do, not as a traceback."""

    @functools.wraps(page)
    def shown(*args: Given.args, **kwargs: Given.kwargs) -> None:
        try:
            page(*args, **kwargs)
        except ScanTwinError as error:
            tell(error)
        except SQLAlchemyError as error:
            log.error("the database refused a question", exc_info=error)
            tell(ServiceError("The database cannot answer what this page asks.", hint=_REFUSED))
        except OSError as error:
            known = from_os_error(error)
            hint = _NOT_OURS if isinstance(error, PermissionError) else known.hint
            tell(ServiceError(known.message, hint=hint))

    return shown


def tell(error: ScanTwinError) -> None:
    """Shows an error: what and where, then what to do."""
    if _is_missing() or "does not have the tables" in error.message:
        st.info(
            f"There is nothing to show yet: {database().place} does not exist or is empty.",
            icon=":material/potted_plant:",
        )
        st.markdown("Run one of these in a terminal, then press **Refresh**.")
        st.code(_FIRST_STEPS, None)
    else:
        st.warning(f"{plain(error.message)}  \n{plain(error.hint)}", icon=":material/warning:")


def _is_missing() -> bool:
    """Whether the database does not exist yet, as far as that can be seen."""
    try:
        return database().is_missing
    except (ScanTwinError, OSError):
        return False


@st.fragment(run_every=WATCH_S)
def watch() -> None:
    """Checks the database from time to time, and redraws the page only when something has changed."""
    try:
        with database().session() as session:
            beat = queries.pulse(session)
    except ScanTwinError:
        beat = ()
    if st.session_state.setdefault("pulse", beat) != beat:
        st.session_state["pulse"] = beat
        forget()
        st.rerun()
