"""The dispatcher while the database is away: what a scan came to is not lost. No worker is started."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from sqlalchemy.exc import DataError, IntegrityError

from scantwin.errors import InputError, ServiceError
from scantwin.store.database import Database
from scantwin_twin import messages
from scantwin_twin.dispatcher import Dispatcher
from scantwin_twin.executor import STOPPED, Outcome
from scantwin_twin.jobs import Jobs
from scantwin_twin.places import Places
from scantwin_twin.refusals import Refused, from_detail, refuse

SCAN = "a" * 32
DONE = Outcome(summary={"results": []})
FAILED = Outcome(error={"code": "c", "message": "m", "hint": "h"})


class Away(Database):
    """A database that cannot be reached for the next `refusals` sessions."""

    refusals = 0

    def session(self):
        if self.refusals:
            self.refusals -= 1
            raise ServiceError("The database is away.")
        return super().session()


class Bench:
    """A dispatcher with one scan, and in place of its executor one that comes to `outcome` at once."""

    slots = 1

    def __init__(self, home):
        self.database = Away(f"sqlite:///{home / 'scantwin.db'}").migrate()
        self.jobs, self.places = Jobs(self.database), Places(home)
        self.places.prepare()
        self.jobs.create(
            SCAN, twin="p", model="m", folder=f"scans/{SCAN}", request={"seed": 1, "input": "ct.nii"},
            actor="me", place=lambda: None,
        )  # fmt: skip
        models = SimpleNamespace(folder=lambda version: home)
        self.dispatcher = Dispatcher(self.jobs, models, self, self.places)
        self.results = self.places.scans / SCAN
        self.outcome, self.away, self.stops = DONE, 0, False

    def run(self, work, progress, stop):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        self.results.mkdir(exist_ok=True)
        self.database.refusals = self.away
        if self.stops:
            self.dispatcher._stopping.set()
        return self.outcome

    def dispatch(self) -> str:
        """Takes the scan through the dispatcher; its status when the database is back."""
        self.dispatcher._run(self.jobs.claim())
        self.database.refusals = 0
        return self.jobs.get(SCAN).status


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr("scantwin_twin.dispatcher._AGAIN_S", 0.01)
    bench = Bench(tmp_path)
    yield bench
    bench.database.close()


@pytest.mark.parametrize(("outcome", "status"), [(DONE, "done"), (FAILED, "failed")])
def test_the_end_of_a_scan_waits_for_the_database(bench, outcome, status):
    bench.outcome, bench.away = outcome, 3
    assert bench.dispatch() == status
    assert bench.results.exists() == (status == "done")
    assert bench.dispatcher.wait_until_idle([SCAN], 0)


def test_the_beginning_of_a_scan_waits_for_the_database(bench):
    claimed = bench.jobs.claim()
    bench.database.refusals = 3
    bench.dispatcher._run(claimed)
    assert bench.jobs.get(SCAN).status == "done" and bench.results.exists()


def test_a_scan_that_is_queued_again_leaves_no_results(bench):
    bench.outcome, bench.stops = STOPPED, True
    assert bench.dispatch() == "queued" and not bench.results.exists()


@pytest.mark.parametrize("outcome", [DONE, STOPPED])
def test_a_service_that_stops_meanwhile_does_not_wait_and_tidies_nothing(bench, outcome, monkeypatch):
    monkeypatch.setattr("scantwin_twin.dispatcher._AGAIN_S", 600.0)  # more than a test may take
    bench.outcome, bench.stops, bench.away = outcome, True, 1000
    assert bench.dispatch() == "running" and bench.results.exists()
    assert bench.jobs.recover() == [SCAN], "the next service begins it again"


def test_a_scan_that_is_gone_is_not_waited_for(bench):
    claimed = bench.jobs.claim()
    assert bench.jobs.erase("p", [SCAN], "me", {})
    with pytest.raises(Refused, match="no scan"):
        bench.dispatcher._run(claimed)
    assert bench.dispatcher.wait_until_idle([SCAN], 0)


@pytest.mark.parametrize(
    ("error", "code"), [(InputError("No CT."), 2), (refuse("unknown-model", model="m"), 2), (KeyError(), 1)]
)
def test_a_scan_that_failed_for_bad_input_tells_its_client_so(bench, error, code):
    """From what is raised to the exit code of `scantwin twin submit`, by way of the database and the wire."""
    bench.outcome = error
    assert bench.dispatch() == "failed"
    assert from_detail(messages.scan(bench.jobs.get(SCAN)).error).exit_code == code


@pytest.mark.parametrize("kind", [DataError, IntegrityError])
def test_a_result_that_the_database_does_not_take_fails_the_scan(bench, kind, monkeypatch, caplog):
    """Tried again it would be refused again, and without an end the scan would run until a restart."""

    def finish(_scan_id, summary):
        raise kind("UPDATE scans", summary, ValueError("NUL"))

    monkeypatch.setattr(bench.jobs, "finish", finish)
    assert bench.dispatch() == "failed" and not bench.results.exists()
    error = bench.jobs.get(SCAN).error
    assert error["code"] == "internal" and "NUL" not in str(error) and "NUL" in caplog.text
    assert bench.dispatcher.wait_until_idle([SCAN], 0)
