"""Enrolling again what was enrolled by half, and days as people count them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.server.superlink.linkstate import sql_linkstate
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.superlink.federation import NoOpFederationManager

from scantwin.errors import FederationError, InputError
from scantwin.federation import enrolment
from scantwin.federation.certificates import read_site_key, write_site_key
from scantwin.federation.consortium import Consortium
from scantwin.federation.enrolment import enrol, log_event, readmit, suspend
from scantwin.store.database import Database
from scantwin.store.models import AuditEntry, Site


@pytest.fixture
def consortium(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Consortium:
    """A consortium whose SuperLink runs and has every key already."""

    def taken(_home: Path, *_words: str) -> dict[str, Any]:
        raise FederationError("flwr supernode failed: Public key already in use.", hint="Is it running?")

    monkeypatch.setattr(Consortium, "require_running", lambda _self: None)
    monkeypatch.setattr(enrolment, "call_flwr", taken)
    return Consortium.create("Test", home=tmp_path / "home")


@pytest.mark.filterwarnings("ignore:No path_separator")  # of Flower's own tables
def test_a_site_that_only_the_superlink_knows_is_enrolled_as_the_same_node(
    consortium: Consortium, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [write_site_key(tmp_path / name, comment="site") for name in ("one", "two")]
    # An id beyond the signed numbers of the table, and one within.
    ids = iter([2**64 - 5, 77])
    monkeypatch.setattr(sql_linkstate, "generate_rand_int_from_bytes", lambda *_, **__: next(ids))
    link = sql_linkstate.SqlLinkState(
        str(consortium.folder / "link.db"), NoOpFederationManager(), InMemoryObjectStore()
    )
    link.initialize()
    public = [read_site_key(key) for key in keys]
    loaded: list[Any] = [load_ssh_public_key(key.encode()) for key in public]
    # As `flwr supernode register` sends them.
    nodes = [link.create_node("us", "us", public_key_to_bytes(key), 30.0) for key in loaded]
    assert nodes == [2**64 - 5, 77]
    assert enrol(consortium, database, "coast", keys[0]).node_id == str(nodes[0])
    with database.session() as session:
        assert session.query(Site).filter_by(name="coast").one().public_key == public[0]

    link.delete_node("us", nodes[1])
    with pytest.raises(FederationError, match="not as a node that may take part") as caught:
        enrol(consortium, database, "island", keys[1])
    assert "new key" in caught.value.hint


class Nine(datetime):
    """It is 22:00 UTC on the 28th: nine o'clock of the 29th in Sydney."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:
        return datetime(2026, 11, 28, 22, 0, tzinfo=UTC).astimezone(tz)


@pytest.fixture
def sydney(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The morning of 29 November on a machine in Sydney."""
    monkeypatch.setattr(enrolment, "datetime", Nine)
    before = os.environ.get("TZ")
    os.environ["TZ"] = "AEST-10AEDT,M10.1.0,M4.1.0/3"
    time.tzset()
    yield
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.usefixtures("sydney")
def test_today_is_that_of_the_people_who_log(database: Database) -> None:
    today = date(2026, 11, 29)
    assert log_event(database, "rural-1", "repair", None, "a detector") == today
    assert log_event(database, "rural-1", "repair", today, "a detector") == today
    with pytest.raises(InputError, match="2026-11-30 has not come yet"):
        log_event(database, "rural-1", "repair", date(2026, 11, 30), "a detector")


@pytest.mark.parametrize("day", [date(1, 1, 1), date(1989, 12, 31)])
def test_a_day_of_before_any_pet_is_a_slip(database: Database, day: date) -> None:
    with pytest.raises(InputError, match="before 1990"):
        log_event(database, "rural-1", "repair", day, "a detector")


def test_a_day_at_the_end_of_the_calendar_has_not_come(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "PST8")
    time.tzset()
    try:
        with pytest.raises(InputError, match="has not come yet"):
            log_event(database, "rural-1", "repair", date.max, "a detector")
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("reason", ["", " \n"])
def test_an_empty_reason_tells_nobody_anything(database: Database, reason: str) -> None:
    for order in (
        lambda: suspend(database, "rural-1", reason),
        lambda: readmit(database, "rural-1", reason),
        lambda: log_event(database, "rural-1", "repair", None, reason),
    ):
        with pytest.raises(InputError, match="reason is empty"):
            order()
    with database.session() as session:
        assert session.query(AuditEntry).count() == 0


@pytest.mark.parametrize(
    ("zone", "before", "after"),
    [
        # Measured at half past eight on the day in Tokyo, and at five the evening before in Los Angeles.
        ("JST-9", None, datetime(2026, 11, 2, 23, 30, tzinfo=UTC)),
        ("PST8", datetime(2026, 11, 3, 1, 0, tzinfo=UTC), None),
        # Scans of other days are put at noon, UTC, of their day: also where days begin first and last.
        ("NZDT-13", datetime(2026, 11, 2, 12, 0, 5, tzinfo=UTC), datetime(2026, 11, 3, 12, 0, 5, tzinfo=UTC)),
        ("AoE12", datetime(2026, 11, 2, 12, 0, 5, tzinfo=UTC), datetime(2026, 11, 3, 12, 0, 5, tzinfo=UTC)),
    ],
)
def test_a_day_is_before_all_that_was_measured_on_it(
    zone: str, before: datetime | None, after: datetime | None, database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with database.session() as session:
        session.add(Site(name="coast", kind="rural"))
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        log_event(database, "coast", "recalibration", date(2026, 11, 3), "new factor")
    finally:
        monkeypatch.undo()
        time.tzset()
    with database.session() as session:
        entry = session.query(AuditEntry).filter_by(action="site.recalibration").one()
        began = datetime.fromisoformat(entry.detail["on"])
    assert before is None or before < began
    assert after is None or began <= after


def test_the_kind_of_a_site_is_checked_and_can_be_corrected(
    consortium: Consortium, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = write_site_key(tmp_path / "key", comment="site")
    monkeypatch.setattr(enrolment, "_node_of", lambda *_: "77")
    monkeypatch.setattr(enrolment, "_is_registered", lambda *_: True)
    with pytest.raises(InputError, match="'clinic' is no kind of site") as caught:
        enrol(consortium, database, "coast", key, kind="clinic")
    assert "rural-clinic" in caught.value.hint
    kinds = [
        enrol(consortium, database, "coast", key, kind=kind).kind
        for kind in (None, "rural-clinic", "rural-clinic", None)
    ]
    assert kinds == ["hospital", "rural-clinic", "rural-clinic", "rural-clinic"]
    with database.session() as session:
        assert session.query(Site).filter_by(name="coast").one().kind == "rural-clinic"
        (entry,) = session.query(AuditEntry).filter_by(action="site.kind")
        assert entry.detail == {"before": "hospital", "now": "rural-clinic"}
