"""What needs a person: the limits of EARL and the rules around them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from scantwin_dashboard.attention import looked_at, notices, zone
from scantwin_dashboard.queries import RunRow, ScanRow, SiteRow

NOW = datetime(2026, 11, 20, tzinfo=UTC)
SITE = SiteRow(1, "north", "rural", "active", NOW, 1, 0, 0, NOW, 0.01, NOW - timedelta(days=3))
RUN = RunRow("r", "autumn", "pix2pix", "failed", 4, 2, "v", None, 0, NOW, NOW, "The disk is full.")
SCAN = ScanRow(
    "s", "P-1", "v", "failed", 0.0, "", "", NOW, None, None, {"message": "Too short.", "hint": "Longer."}, {}
)


@pytest.mark.parametrize(
    ("bias", "expected"),
    [
        (0.0, "inside"),
        (0.05, "inside"),
        (-0.0501, "recheck"),
        (0.10, "recheck"),
        (-0.11, "beyond"),
        (0.5, "beyond"),
    ],
)
def test_zones(bias: float, expected: str) -> None:
    assert zone(bias) == expected


@pytest.mark.parametrize(
    ("site", "level", "word"),
    [
        (replace(SITE, bias=0.11), "act", "beyond"),
        (replace(SITE, bias=-0.07), "look", "more than 5"),
        (replace(SITE, measured_at=NOW - timedelta(days=93)), "look", "93 d ago"),
        (replace(SITE, bias=None, measured_at=None), "look", "no uniform cylinder"),
        (replace(SITE, bias=-0.15, worked_on=True), "look", "since its newest cylinder"),
        (replace(SITE, status="suspended"), "look", "suspended"),
    ],
)
def test_a_site(site: SiteRow, level: str, word: str) -> None:
    (found,) = notices([site], [], [], now=NOW)
    assert (found.level, found.subject) == (level, "north")
    assert word in found.sentence
    assert found.advice


def test_all_is_well() -> None:
    assert notices([SITE], [replace(RUN, status="finished")], [replace(SCAN, status="done")], now=NOW) == []


def test_failures_are_told_with_their_reason_and_the_urgent_come_first() -> None:
    found = notices([replace(SITE, bias=0.06)], [RUN], [SCAN], now=NOW)
    assert [n.level for n in found] == ["act", "look", "look"]
    assert "The disk is full." in found[0].sentence
    assert "Too short." in found[2].sentence


def test_old_failures_of_scans_are_left_in_peace() -> None:
    assert notices([SITE], [], [replace(SCAN, created_at=NOW - timedelta(days=8))], now=NOW) == []


def test_nothing_to_do_says_what_was_looked_at() -> None:
    assert looked_at([], [], [], now=NOW) == (
        "SUV calibration: no site is enrolled."
        " 0 of the newest 0 runs and 0 of the 0 scans of the last 7 days failed."
    )
    old = replace(SCAN, created_at=NOW - timedelta(days=8))
    assert looked_at([SITE, SITE], [RUN] * 7, [SCAN, old], now=NOW) == (
        "SUV calibration: 2 of 2 sites are within 5 %."
        " 0 of the newest 5 runs and 0 of the 1 scans of the last 7 days failed."
    )
