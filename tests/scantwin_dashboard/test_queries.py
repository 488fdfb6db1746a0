"""The questions of the pages, on SQLite and on PostgreSQL."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy.orm import Session

from scantwin.store.database import Database
from scantwin.store.models import AuditEntry, CalibrationSample, Scan, Site, Twin
from scantwin_dashboard import queries


def _neighbour(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.replace("/", "_"), Path(__file__).parents[1] / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The PostgreSQL of the store's tests serves here too.
postgresql = _neighbour("scantwin/store/conftest.py").postgresql
fill = _neighbour("scantwin_dashboard/conftest.py").fill


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def full(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A full database of each kind, opened for reading only."""
    home = tmp_path_factory.mktemp("home")
    if request.param == "sqlite":
        url = f"sqlite:///{home / 'scantwin.db'}"
        fill(home, url)
        yield Database(url, read_only=True)
        return
    with request.getfixturevalue("postgresql")() as url:
        fill(home, url)
        database = Database(url, read_only=True)
        yield database
        database.close()


@pytest.fixture
def session(full: Database) -> Iterator[Session]:
    with full.session() as made:
        yield made


def test_sites_come_in_order_of_enrolment_with_their_newest_cylinder(session: Session) -> None:
    rows = queries.sites(session)
    assert [row.name for row in rows] == [
        "Utrecht UMC",
        "Rigshospitalet",
        "Tromsø",
        "Klinik Passau",
        "Lusaka West",
    ]
    passau, lusaka = rows[3], rows[4]
    newest = queries.samples_frame(session, passau.id).query("kind == 'cylinder'").iloc[-1]
    assert passau.bias == newest.bias > 0.10
    assert passau.measured_at == newest.measured_at.to_pydatetime()
    assert (passau.accepted, passau.refused, passau.missing) == (5, 3, 0)
    assert (lusaka.accepted, lusaka.refused, lusaka.missing) == (6, 0, 2)
    assert all(row.last_update is not None for row in rows)


def test_runs_are_newest_first_and_count_merged_rounds(session: Session) -> None:
    rows = queries.runs(session)
    assert [(r.name, r.status, r.rounds_done) for r in rows] == [
        ("winter-2026", "running", 2), ("autumn-2026", "finished", 8), ("cyclegan-pilot", "failed", 0),
    ]  # fmt: skip


def test_metrics_hold_the_model_and_every_reference(session: Session) -> None:
    frame = queries.metrics_frame(session, _run(session))
    assert set(frame.who) == {"model", "training-median", "training-mean", "hu-curve"}
    assert set(frame.district) == {"head", "trunk", "arms", "legs", "whole-body", "lesions"}
    assert len(frame) == (8 + 3) * 6 * 4  # rounds and the references at their end, regions, metrics
    assert frame["mean"].notna().all()


def test_rounds_know_how_long_they_took(session: Session) -> None:
    frame = queries.rounds_frame(session, _run(session))
    assert list(frame.seconds) == [60.0 * (21 + number) for number in range(1, 9)]


def test_updates_of_a_run_and_of_a_site(session: Session) -> None:
    of_run = queries.updates_frame(session, run_id=_run(session))
    assert of_run.status.value_counts().to_dict() == {"accepted": 34, "refused": 4, "missing": 2}
    assert (of_run[of_run.status != "accepted"].reason != "").all()
    assert str(of_run["at"].dt.tz) == "UTC"
    of_site = queries.updates_frame(session, site_id=queries.sites(session)[0].id)
    assert set(of_site.run) == {"autumn-2026", "winter-2026"}
    assert (of_site.patches == 900 + 4000 + 700 + 1600).all()


def test_events_that_restart_a_chart_are_found_behind_any_number_of_others(session: Session) -> None:
    frame = queries.events_frame(session, "Tromsø")
    assert list(frame.what) == ["recalibration"]
    assert frame["at"].iloc[0].tzinfo is not None
    assert queries.events_frame(session, "Utrecht UMC").empty


def test_patches_are_of_accepted_updates_only(session: Session) -> None:
    frame = queries.patches_frame(session, run_id=_run(session))
    assert len(frame[frame.site == "Klinik Passau"]["round"].unique()) == 5
    assert "legs" not in set(frame[frame.site == "Lusaka West"].district)
    assert frame[frame.site == "Utrecht UMC"].held_out.eq(9).all()


@pytest.mark.parametrize(
    ("patches", "expected"),
    [
        ({"pix2pix/trunk/generator": 30, "pix2pix/trunk/discriminator": 30}, {"trunk": 30}),
        ({"pix2pix/head/generator": 5, "pix2pix/trunk/generator": None}, {"head": 5, "trunk": 0}),
        ({"odd": 2}, {"odd": 2}),
        ({}, {}),
    ],
)
def test_components_of_a_district_share_their_patches(patches: dict, expected: dict) -> None:
    assert queries._by_district(patches) == expected


def test_scans_know_their_twin(session: Session) -> None:
    rows = queries.scans(session)
    assert [row.status for row in rows] == ["done", "running", "failed", "queued"]
    assert rows[0].pseudonym == rows[3].pseudonym == "TWIN-0017"
    assert rows[2].error["code"] == "ct.too-short"


def test_one_scan_is_found_by_its_id_however_old(session: Session) -> None:
    for row in queries.scans(session):
        assert queries.scan(session, row.id) == row
    assert queries.scan(session, "nobody's") is None


def test_the_audit_log_is_newest_first_and_limited(session: Session) -> None:
    rows = queries.audit_tail(session, 3)
    assert len(rows) == 3
    assert rows[0].at >= rows[1].at >= rows[2].at


def test_an_empty_database_has_empty_answers(empty: Path) -> None:
    with Database.from_settings(read_only=True).session() as session:
        for query in (queries.sites, queries.runs, queries.models, queries.scans, queries.audit_tail):
            assert query(session) == []
        for frame in (
            queries.metrics_frame(session, "x"), queries.rounds_frame(session, "x"),
            queries.updates_frame(session, run_id="x"), queries.patches_frame(session, site_id=1),
            queries.samples_frame(session, 1),
        ):  # fmt: skip
            assert frame.empty
            assert len(frame.columns) >= 5


def test_a_samples_detail_is_brief(empty: Path) -> None:
    profile = [[0.5 * k, 1.0] for k in range(100)]
    detail = {"radius_mm": 99.123456, "slices": 24, "tracer": "F-18", "slice_profile": profile}
    with Database.from_settings().session() as session:
        site = Site(name="north")
        session.add(site)
        session.flush()
        session.add(
            CalibrationSample(
                site_id=site.id, kind="cylinder", measured_at=datetime.now(UTC), bias=0.0, n=1, detail=detail
            )
        )
        session.flush()
        (told,) = queries.samples_frame(session, site.id).detail
    assert told == "radius_mm: 99.12, slices: 24, tracer: F-18"


def test_the_pulse_changes_with_whatever_a_page_would_show(empty: Path) -> None:
    database = Database.from_settings()
    beats = [_pulse(database)]
    with database.session() as session:
        scan = Scan(twin=Twin(pseudonym="P"), model_version="x")
        session.add(scan)
    beats.append(_pulse(database))
    with database.session() as session:
        session.get(Scan, scan.id).progress = 0.5
    beats.append(_pulse(database))
    with database.session() as session:
        session.add(AuditEntry(actor="a", action="b", subject="c"))
    beats.append(_pulse(database))
    assert len(set(beats)) == 4
    assert _pulse(database) == beats[-1]


def _pulse(database: Database) -> tuple:
    with database.session() as session:
        return queries.pulse(session)


def _run(session: Session) -> str:
    return next(run.id for run in queries.runs(session) if run.name == "autumn-2026")
