"""Numbers, durations and texts as people read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scantwin.imaging.pictures import _DISTRICT_COLOURS
from scantwin.imaging.study import DISTRICT_LABEL
from scantwin_dashboard import look


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"), (0.04, "0.0 s"), (9.96, "10.0 s"), (42, "42 s"), (60, "1 min"), (185, "3 min 5 s"),
        (3600, "1 h"), (7800, "2 h 10 min"), (90_000, "1 d 1 h"),
    ],
)  # fmt: skip
def test_duration(seconds: float | None, text: str) -> None:
    assert look.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (999, "999 B"), (999_400, "999 kB"), (999_600, "1 MB"), (24_310_000, "24.3 MB"),
        (999_950_000, "1 GB"), (5e12, "5 TB"),
    ],
)  # fmt: skip
def test_size(count: float, text: str) -> None:
    assert look.size(count) == text


def test_numbers_have_a_true_minus_and_units() -> None:
    assert look.percent(-0.0804) == "−8.0\u00a0%"
    assert look.percent(0.08) == "+8.0\u00a0%"
    assert look.number(-1234.5, 1) == "−1,234.5"
    assert look.number(None) == look.percent(None) == look.moment(None) == "–"


def test_ago() -> None:
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert look.ago(None) == "never"
    assert look.ago(now - timedelta(seconds=20), now) == "just now"
    assert look.ago(now - timedelta(hours=5), now) == "5 h ago"
    assert look.ago(now - timedelta(days=93), now) == "93 d ago"


def test_a_text_of_others_can_format_and_load_nothing() -> None:
    shown = look.plain("![x](http://evil/x.png) <b>$a$</b> :red[x] run `scantwin twin serve --port 1`")
    assert "\\!\\[x\\]\\(http\\://evil/x.png\\)" in shown
    assert "`scantwin twin serve --port 1`" in shown


@given(st.text(alphabet=st.characters(exclude_characters="`")))
def test_plain_escapes_every_mark_of_markdown_and_loses_nothing(text: str) -> None:
    shown = look.plain(text)
    assert re.sub(r"\\([\\`*_{}\[\]()#+!|<>$~:])", r"\1", shown) == text
    assert not re.search(r"(?<!\\)(?:\\\\)*[\[\]!<$:]", shown)


def test_a_district_has_the_colour_that_it_has_in_pictures() -> None:
    """Only the whole body has another: yellow cannot be seen on a white page."""
    for district, label in DISTRICT_LABEL.items():
        drawn = "#{:02X}{:02X}{:02X}".format(*_DISTRICT_COLOURS[label])
        assert (drawn == look.DISTRICT_COLOUR[district]) is (district != "whole-body")


def test_sites_keep_their_colours_when_others_enrol() -> None:
    before, after = look.site_colours(["a", "b"]), look.site_colours(["a", "b", "c"])
    assert before.items() <= after.items()
    assert len(set(look.site_colours([str(i) for i in range(8)]).values())) == 8
