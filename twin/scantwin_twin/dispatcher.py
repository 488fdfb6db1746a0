"""Takes scans off the queue and gives them to an executor: one thread per slot."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final

from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from scantwin.errors import ScanTwinError
from scantwin_twin.executor import Executor, Outcome, Work
from scantwin_twin.jobs import Jobs, ScanState
from scantwin_twin.models import ModelShelf
from scantwin_twin.places import Places
from scantwin_twin.refusals import Refused, public

log = logging.getLogger(__name__)

_LOOK_S: Final = 2.0
"""How often [s] the queue is checked without a wake-up: another process may have filled it."""

_AGAIN_S: Final = 2.0
"""The pause [s] before an unavailable database is tried again."""


class Dispatcher:
    """Runs the queue until it is stopped."""

    def __init__(self, jobs: Jobs, models: ModelShelf, executor: Executor, places: Places) -> None:
        self._jobs, self._models, self._executor, self._places = jobs, models, executor, places
        self._stopping = threading.Event()
        self._running: dict[str, threading.Event] = {}
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)
        self._threads = [
            threading.Thread(target=self._loop, name=f"twin-dispatcher-{n}", daemon=True)
            for n in range(executor.slots)
        ]

    @property
    def stopping(self) -> bool:
        """Whether the service is going down."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Queues again what a crash left running, then starts."""
        for scan_id in self._jobs.recover():
            log.info("scan %s was running when the service went down; it is queued again", scan_id)
        for thread in self._threads:
            thread.start()

    def cancel(self, scan_id: str) -> None:
        """Stops the work on a scan, if there is any."""
        with self._lock:
            if stop := self._running.get(scan_id):
                stop.set()

    def wait_until_idle(self, scans: Collection[str], seconds: float) -> bool:
        """Waits until none of these scans is being worked on; False if that takes longer than `seconds`."""
        with self._ended:
            return self._ended.wait_for(lambda: self._running.keys().isdisjoint(scans), seconds)

    def stop(self) -> None:
        """Ends all work; what was running is queued again."""
        self._stopping.set()
        with self._lock:
            for stop in self._running.values():
                stop.set()
        self._jobs.ring()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._executor.close()

    def _loop(self) -> None:
        seen = -1
        while not self._stopping.is_set():
            try:
                scan = self._jobs.claim()
                if scan is not None:
                    self._run(scan)
                    continue
            except ScanTwinError as error:
                log.error("the queue cannot be read: %s", error.message)
            except Exception:
                log.exception("the queue cannot be read")
            seen = self._jobs.wait(seen, _LOOK_S)

    def _run(self, scan: ScanState) -> None:
        stop = threading.Event()
        with self._lock:
            self._running[scan.id] = stop
        try:
            now = self._insist(lambda: self._jobs.get(scan.id))
            if now is None or now.ended or self._stopping.is_set():  # cancelled before it could be stopped
                stop.set()
            outcome = self._outcome(scan, stop)
            try:
                after = self._insist(lambda: self._moved(scan.id, outcome))
            except (DataError, IntegrityError) as error:  # else it would stay running until a restart
                failed = _failed(error)
                after = self._insist(lambda: self._moved(scan.id, failed))
            if after is not None and after.status != "running":  # else the results may still be wanted
                self._places.tidy(after)
        finally:
            with self._ended:
                del self._running[scan.id]
                self._ended.notify_all()

    def _moved(self, scan_id: str, outcome: Outcome) -> ScanState:
        """Moves the scan on as its outcome says and returns it; a repetition changes nothing more."""
        if outcome.summary is not None:
            self._jobs.finish(scan_id, outcome.summary)
        elif outcome.error is not None:
            self._jobs.fail(scan_id, outcome.error)
        elif self._stopping.is_set():
            self._jobs.requeue(scan_id)
        return self._jobs.get(scan_id)

    def _insist(self, step: Callable[[], ScanState]) -> ScanState | None:
        """What `step` returns, tried until the database is available; None if the service stops first.

        A scan may take an hour; it must not be lost because the database was unavailable when it ended.
        """
        while True:
            try:
                return step()
            except (Refused, DataError, IntegrityError):  # the database is available, and this is its answer
                raise
            except (ScanTwinError, SQLAlchemyError) as error:
                log.warning("the database is away (%s); it is tried again", type(error).__name__)
            if self._stopping.wait(_AGAIN_S):
                return None

    def _outcome(self, scan: ScanState, stop: threading.Event) -> Outcome:
        try:
            model = self._models.folder(scan.model)
            work = Work(
                scan.id, str(self._places.ct(scan)), str(model), scan.model, int(scan.request["seed"]),
                str(self._places.results(scan)),
            )  # fmt: skip
            return self._executor.run(work, self._listener(scan.id), stop)
        except Exception as error:
            return _failed(error)

    def _listener(self, scan_id: str) -> Callable[[float, str], None]:
        def listen(progress: float, stage: str) -> None:
            # A database that is locked for a moment must not cost the scan.
            with suppress(ScanTwinError):
                self._jobs.advance(scan_id, progress, stage)

        return listen


def _failed(error: Exception) -> Outcome:
    """The outcome of a scan that ended with `error`: what its client may know about it."""
    _status, detail = public(error)
    return Outcome(
        error={
            "code": detail.code, "message": detail.message, "hint": detail.hint,
            "bad_input": detail.bad_input,
        }
    )  # fmt: skip
