"""No patient's CT is kept that the database does not know: no deletion would find it."""

from __future__ import annotations

import gzip
import hashlib
import logging
import threading
from types import SimpleNamespace

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from scantwin.errors import ScanTwinError
from scantwin.settings import Settings
from scantwin.store.database import Database
from scantwin.store.models import Scan
from scantwin_twin.jobs import Jobs
from scantwin_twin.places import Places
from scantwin_twin.security import expose
from scantwin_twin.server import build
from scantwin_twin.service import TwinService
from scantwin_twin.uploads import Limits
from scantwin_twin.v1 import twin_pb2 as pb

CT = gzip.compress(b"\x5c\x01\x00\x00" + bytes(1000))
"""Begins like a NIfTI-1 file: 348, little-endian."""

COMMIT = Session.commit


@pytest.fixture
def jobs(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'scantwin.db'}").migrate()
    yield Jobs(database)
    database.close()


@pytest.fixture
def places(tmp_path):
    places = Places(tmp_path)
    places.prepare()
    return places


@pytest.fixture
def service(jobs, places):
    """The calls, without gRPC and with nobody who would compute a scan."""
    models = SimpleNamespace(version=lambda name: "tiny-1")
    return TwinService(jobs, models, SimpleNamespace(), places, Limits(spare=0))


def submit(service) -> pb.Scan:
    """The same call every time: it has an idempotency key."""
    metadata = pb.ScanMetadata(
        twin="p", model="tiny", size=len(CT), sha256=hashlib.sha256(CT).hexdigest(),
        format=pb.FORMAT_NIFTI, idempotency_key="k",
    )  # fmt: skip
    parts = [pb.SubmitScanRequest(metadata=metadata), pb.SubmitScanRequest(chunk=CT)]
    context = SimpleNamespace(peer=lambda: "ipv4:127.0.0.1:1", cancel=lambda: None)
    return service.SubmitScan(iter(parts), context)


def breaking_commit(monkeypatch, *, goes_through: bool) -> None:
    """From now on the commit of a scan's row breaks; what was committed may be there all the same."""

    def commit(session):
        made = any(isinstance(row, Scan) for row in session.identity_map.values())
        if not made or goes_through:
            COMMIT(session)
        if made:
            raise OperationalError("COMMIT", {}, Exception("the connection was lost"))

    monkeypatch.setattr(Session, "commit", commit)


def test_a_row_that_cannot_be_committed_leaves_no_ct(service, jobs, places, monkeypatch):
    breaking_commit(monkeypatch, goes_through=False)
    with pytest.raises(ScanTwinError, match="connection was lost"):
        submit(service)
    assert jobs.ids() == set() and not list(places.uploads.iterdir())
    monkeypatch.undo()
    scan = submit(service)
    assert [p.name for p in places.uploads.iterdir()] == [scan.id], "the same key again"


def test_a_commit_that_went_through_and_did_not_say_so_keeps_the_ct(service, jobs, places, monkeypatch):
    breaking_commit(monkeypatch, goes_through=True)
    with pytest.raises(ScanTwinError, match="connection was lost"):
        submit(service)
    monkeypatch.undo()
    (scan,) = jobs.scans()
    assert places.ct(scan).read_bytes() == CT
    assert submit(service).id == scan.id, "the same key again"


def test_a_call_that_fails_does_not_remove_the_ct_of_the_same_call_again(service, jobs, places, monkeypatch):
    breaking_commit(monkeypatch, goes_through=False)
    again = threading.Thread(target=submit, args=(service,))
    find = jobs.find

    def late(scan_id):
        found = find(scan_id)
        if not places.uploads.joinpath(scan_id).exists() or again.ident:
            return found
        monkeypatch.setattr(Session, "commit", COMMIT)
        again.start()  # between the failed call's look for a row and its cleaning up
        again.join(0.5)
        return found

    monkeypatch.setattr(jobs, "find", late)
    with pytest.raises(ScanTwinError, match="connection was lost"):
        submit(service)
    again.join()
    (scan,) = jobs.scans()
    assert places.ct(scan).read_bytes() == CT


def _folders(places, *names: str) -> None:
    for room in (places.uploads, places.scans):
        for name in names:
            (room / name).mkdir()
            (room / name / "ct.nii.gz").write_bytes(CT)


def test_the_service_removes_at_its_start_what_the_database_does_not_know(service, tmp_path, jobs, places):
    scan = submit(service)
    _folders(places, "b" * 32, "notes")
    server = build(Settings(home=tmp_path), expose("127.0.0.1", 0))
    server.start()
    server.stop()
    assert {p.name for p in places.uploads.iterdir()} == {scan.id, "notes"}
    assert {p.name for p in places.scans.iterdir()} == {"notes"}
    assert places.ct(jobs.get(scan.id)).read_bytes() == CT


def test_a_database_that_knows_none_of_them_may_be_the_wrong_one(places, caplog):
    _folders(places, "b" * 32)
    with caplog.at_level(logging.WARNING):
        places.sweep({"c" * 32})
    assert "SCANTWIN_DATABASE_URL" in caplog.text
    assert len(list(places.uploads.iterdir())) == len(list(places.scans.iterdir())) == 1
