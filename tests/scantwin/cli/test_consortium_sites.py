"""`scantwin consortium suspend`, `readmit`, `log` and `withdraw`: what is told, to people and to machines."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scantwin import NOTICE
from scantwin.cli.consortium import app
from scantwin.errors import InputError
from scantwin.store.database import Database
from scantwin.store.models import AuditEntry, CalibrationSample, Site

SAMPLE = "3f9a01c2" + "0" * 24
AT = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
WHY = ["--reason", "the activity was mistyped"]

ORDERS = {
    "suspend": (
        ["suspend", "rural-1"], "site.suspended", "rural-1 is left out until it is readmitted.",
        {"site": "rural-1", "status": "suspended"},
    ),
    "readmit": (
        ["readmit", "city"], "site.active", "city takes part again.", {"site": "city", "status": "active"},
    ),
    "log": (
        ["log", "rural-1", "recalibration", "--on", "2026-11-02"], "site.recalibration",
        "rural-1: recalibration on 2026-11-02 is logged.",
        {"site": "rural-1", "event": "recalibration", "on": "2026-11-02"},
    ),
    "withdraw": (
        ["withdraw", "rural-1", "3f9a01c2"], "sample.withdrawn",
        "rural-1: the cylinder of 2026-11-02 (+8.0 %) is withdrawn.",
        {
            "site": "rural-1", "sample": SAMPLE, "kind": "cylinder", "measured_at": AT.isoformat(),
            "bias": 0.08,
        },
    ),
}  # fmt: skip
"""Each order: its words, what the audit log calls it, what people are told, what machines are told."""


@pytest.fixture
def database(home: Path) -> Database:
    """A site that takes part, with a sample, and one that is suspended."""
    made = Database.from_settings().migrate()
    with made.session() as session:
        sample = CalibrationSample(id=SAMPLE, kind="cylinder", measured_at=AT, bias=0.08, n=5000)
        session.add(Site(name="rural-1", public_key="one", samples=[sample]))
        session.add(Site(name="city", public_key="two", status="suspended"))
    return made


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("as_json", [False, True])
def test_an_order_is_carried_out_recorded_and_told(database: Database, order: str, as_json: bool) -> None:
    words, action, for_people, for_machines = ORDERS[order]
    told = CliRunner().invoke(app, [*words, *WHY, *(["--json"] if as_json else [])])
    assert told.exit_code == 0, told.output
    if as_json:
        assert json.loads(told.stdout) == {**for_machines, "reason": WHY[1], "notice": NOTICE}
    else:
        assert " ".join(told.stdout.split()) == for_people
    with database.session() as session:
        (entry,) = session.query(AuditEntry)
    assert (entry.action, entry.subject, entry.detail["reason"]) == (action, words[1], WHY[1])


@pytest.mark.parametrize("order", ORDERS)
def test_an_order_without_a_reason_or_for_a_site_that_there_is_not_is_refused(
    database: Database, order: str
) -> None:
    words = ORDERS[order][0]
    assert CliRunner().invoke(app, words).exit_code == 2, "the reason is no option"
    nowhere = CliRunner().invoke(app, [words[0], "nowhere", *words[2:], *WHY]).exception
    assert isinstance(nowhere, InputError) and "No site nowhere is enrolled" in nowhere.message
    with database.session() as session:
        assert session.query(AuditEntry).count() == 0
