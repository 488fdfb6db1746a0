"""Parts that several pages use: heading, choice, badges, empty states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

import streamlit as st

from scantwin_dashboard.drift import RULE, Alert, State
from scantwin_dashboard.look import BADGE, KIND, percent, plain

_NOW: Final[dict[State, str]] = {
    "open": "out of control",
    "over": "back in control",
    "ended": "ended by a logged event",
}
"""What has become of an alert."""


def heading(title: str, sentence: str) -> None:
    """The title of a page and one sentence about it."""
    st.title(title, anchor=False)
    st.caption(sentence)


def choose(label: str, key: str, names: Mapping[str, str]) -> str | None:
    """A choice that is kept in the address (`?key=..`), so that it can be sent to a colleague.

    None, with a warning, if the address asks for what is not there: another one would be mistaken for it.
    """
    options = list(names)
    wanted = st.query_params.get(key) or options[0]
    chosen = st.selectbox(
        label,
        options,
        index=options.index(wanted) if wanted in names else None,
        format_func=lambda option: names.get(option, option),
        key=f"choose-{key}",
    )
    if chosen is None:
        st.warning(
            f"There is no {label.lower()} {plain(wanted)} here.  \n"
            "The link may be old or belong to another database. Choose one above.",
            icon=":material/link_off:",
        )
        return None
    st.query_params[key] = chosen
    return chosen


def status_badge(status: str) -> None:
    """A status as a coloured word."""
    st.badge(status, color=BADGE.get(status, "gray"))  # type: ignore[arg-type]


def facts(values: Sequence[tuple[str, str, str]]) -> None:
    """A row of figures: label, value, what it means."""
    with st.container(horizontal=True):  # each as wide as its words; on a narrow screen in several rows
        for label, value, meaning in values:
            st.metric(label, value, help=meaning or None, border=True, width="content")


def empty(sentence: str, command: str = "") -> None:
    """Says that there is nothing yet, and shows the command that changes it."""
    st.info(sentence, icon=":material/potted_plant:")
    if command:
        st.code(command, None)


def legend(colours: Mapping[str, str]) -> None:
    """One legend of the sites for several charts."""
    items = "".join(
        f'<span><i style="background:{colour}"></i>{escape(name)}</span>' for name, colour in colours.items()
    )
    st.html(f'<div class="legend">{items}</div>')


def alerts_table(found: Sequence[Alert]) -> None:
    """A table of the alerts: which site and object, by which rule, since when, and whether it lasts."""
    if not found:
        st.caption("No phantom measurement has been out of control.")
        return
    rows = [
        {
            "Now": _NOW[alert.state], "Site": alert.site, "QC object": KIND[alert.kind],
            "Rule": RULE[alert.rule], "Since (UTC)": f"{alert.since:%Y-%m-%d}",
            "Last (UTC)": f"{alert.last:%Y-%m-%d}", "Samples": alert.points,
            "Largest bias": percent(alert.bias),
        }
        for alert in found
    ]  # fmt: skip
    st.dataframe(rows, hide_index=True)
