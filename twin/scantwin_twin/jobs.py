"""The queue of scans, kept in the database; every step along a scan's life cycle goes through here.

The transition table is `scantwin.store.lifecycles.SCAN`:
queued -> running | cancelled | failed, running -> done | failed | cancelled | queued (again); the rest final.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from scantwin.store.audit import record
from scantwin.store.database import Database
from scantwin.store.lifecycles import SCAN, IllegalTransitionError, transition
from scantwin.store.models import AuditEntry, Scan, Twin
from scantwin_twin.refusals import refuse

FINAL: Final = frozenset({"done", "failed", "cancelled"})
"""Statuses that a scan never leaves."""

MOST_CRASHES: Final = 3
"""A scan during which the service went down this often is not tried again."""

_CRASHED: Final = "scan.crashed"
"""Action of the audit entry for such a crash."""

SERVICE: Final = "twin-service"
"""Actor of what no client asked for: recovery and the worker's reports."""


@dataclass(frozen=True)
class ScanState:
    """A scan as the database shows it at one moment."""

    id: str
    twin: str
    model: str
    status: str
    progress: float
    stage: str
    folder: str
    """The results' folder, relative to the home."""
    created: datetime
    started: datetime | None
    finished: datetime | None
    error: dict[str, Any] | None
    summary: dict[str, Any]

    @property
    def request(self) -> dict[str, Any]:
        """What was asked for: seed, format, input, size, sha256."""
        return dict(self.summary.get("request", {}))

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in FINAL


@dataclass(frozen=True)
class TwinState:
    """A twin as the database shows it at one moment."""

    pseudonym: str
    created: datetime
    note: str
    scans: int


class Jobs:
    """Scans and twins in the database, and a bell that rings at every change."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._bell = threading.Condition()
        self._changes = 0

    # --- watching

    def wait(self, seen: int, seconds: float) -> int:
        """Blocks until something changes after `seen`, or for `seconds`; returns the new count of changes."""
        with self._bell:
            self._bell.wait_for(lambda: self._changes != seen, seconds)
            return self._changes

    def ring(self) -> None:
        """Wakes everybody who waits."""
        with self._bell:
            self._changes += 1
            self._bell.notify_all()

    # --- reading

    def get(self, scan_id: str) -> ScanState:
        """The scan, or the refusal "unknown-scan"."""
        with self._database.session() as session:
            return _state(_scan(session, scan_id))

    def find(self, scan_id: str) -> ScanState | None:
        """The scan, or None."""
        with self._database.session() as session:
            scan = _find(session, scan_id)
            return None if scan is None else _state(scan)

    def scans(
        self, *, twin: str = "", status: str = "", limit: int = 100, offset: int = 0
    ) -> list[ScanState]:
        """Scans, newest first."""
        if not keepable(twin):
            return []
        query = select(Scan).join(Twin).order_by(Scan.created_at.desc(), Scan.id).limit(limit).offset(offset)
        if twin:
            query = query.where(Twin.pseudonym == twin)
        if status:
            query = query.where(Scan.status == status)
        with self._database.session() as session:
            return [_state(scan) for scan in session.scalars(query)]

    def ids(self) -> set[str]:
        """The ids of all scans."""
        with self._database.session() as session:
            return set(session.scalars(select(Scan.id)))

    def scans_of(self, twin: str) -> list[ScanState]:
        """Every scan of a twin."""
        query = select(Scan).join(Twin).where(Twin.pseudonym == twin)
        with self._database.session() as session:
            return [_state(scan) for scan in session.scalars(query)]

    def waiting(self) -> int:
        """Number of queued scans."""
        with self._database.session() as session:
            return session.scalar(select(func.count()).select_from(Scan).where(Scan.status == "queued")) or 0

    def twin(self, pseudonym: str) -> TwinState:
        """The twin, or the refusal "unknown-twin"."""
        found = self.twins(pseudonym=pseudonym)
        if not found:
            raise refuse("unknown-twin", pseudonym=pseudonym[:64])
        return found[0]

    def twins(self, *, pseudonym: str = "", limit: int = 100, offset: int = 0) -> list[TwinState]:
        """Twins by pseudonym, each with the number of its scans."""
        if not keepable(pseudonym):
            return []
        query = select(Twin, func.count(Scan.id)).outerjoin(Scan).group_by(Twin.id)
        if pseudonym:
            query = query.where(Twin.pseudonym == pseudonym)
        query = query.order_by(Twin.pseudonym).limit(limit).offset(offset)
        with self._database.session() as session:
            return [TwinState(t.pseudonym, t.created_at, t.note, n) for t, n in session.execute(query)]

    # --- the life cycle

    def create(
        self, scan_id: str, *, twin: str, model: str, folder: str, request: dict[str, Any], actor: str,
        place: Callable[[], object],
    ) -> ScanState:  # fmt: skip
        """Creates a queued scan; `place` puts its CT in place before a worker can see the row.

        If another call made the same scan meanwhile (same idempotency key), returns that one.
        """
        for last in (False, True):
            try:
                with self._database.session() as session:
                    scan = Scan(id=scan_id, twin=_twin(session, twin), model_version=model, folder=folder)
                    scan.summary = {"request": request}
                    session.add(scan)
                    session.flush()
                    detail = {"twin": twin, "model": model, "seed": request["seed"]}
                    record(session, actor, "scan.submit", scan_id, detail)
                    place()
                    state = _state(scan)
                self.ring()
                return state
            except IntegrityError:
                # Another call made this scan, or this twin, at the same moment.
                existing = self.find(scan_id)
                if existing is not None:
                    return existing
                if last:
                    raise
        raise AssertionError("not reached")

    def claim(self) -> ScanState | None:
        """Sets the oldest queued scan running and returns it; None if the queue is empty."""
        while True:
            with self._database.session() as session:
                query = (
                    select(Scan).where(Scan.status == "queued").order_by(Scan.created_at, Scan.id).limit(1)
                )
                scan = session.scalar(query)
                if scan is None:
                    return None
                try:
                    transition(scan, "running")
                except IllegalTransitionError:
                    continue  # cancelled between the two statements
                scan.progress, scan.stage = 0.0, "starting"
                record(session, SERVICE, "scan.run", scan.id)
                state = _state(scan)
            self.ring()
            return state

    def advance(self, scan_id: str, progress: float, stage: str) -> None:
        """Records a running scan's progress (0 to 1); nothing happens to one that is not running."""
        statement = update(Scan).where(Scan.id == scan_id, Scan.status == "running")
        with self._database.session() as session:
            session.execute(statement.values(progress=min(max(progress, 0.0), 1.0), stage=stage[:200]))
        self.ring()

    def finish(self, scan_id: str, summary: dict[str, Any]) -> bool:
        """running -> done. False if the scan was cancelled meanwhile."""
        return self._move(scan_id, "done", SERVICE, progress=1.0, stage="done", summary=summary)

    def fail(self, scan_id: str, error: dict[str, Any]) -> bool:
        """-> failed, with {code, message, hint, bad_input}. False if the scan had ended already."""
        return self._move(scan_id, "failed", SERVICE, stage="failed", error=error)

    def cancel(self, scan_id: str, actor: str) -> ScanState:
        """-> cancelled; a scan that has ended stays as it is."""
        self.get(scan_id)
        self._move(scan_id, "cancelled", actor, stage="cancelled")
        return self.get(scan_id)

    def requeue(self, scan_id: str) -> bool:
        """running -> queued, for a service that is being stopped: its CT is on disk, so it can start over."""
        return self._move(scan_id, "queued", SERVICE, progress=0.0, stage="waiting again")

    def erase(self, pseudonym: str, scans: Collection[str], actor: str, detail: dict[str, Any]) -> bool:
        """Removes a twin and its scans from the database. False if it has scans other than `scans` by now."""
        with self._database.session() as session:
            twin = session.scalar(select(Twin).where(Twin.pseudonym == pseudonym))
            if twin is None:
                raise refuse("unknown-twin", pseudonym=pseudonym[:64])
            if {scan.id for scan in twin.scans} - set(scans):
                return False
            session.delete(twin)
            try:
                session.flush()
            except IntegrityError:  # a scan came between the check and the deletion
                session.rollback()
                return False
            record(session, actor, "twin.delete", pseudonym, detail)
        self.ring()
        return True

    def recover(self) -> list[str]:
        """Queues again the scans that were running when the service went down, and returns their ids.

        A scan that was running every time may be what brings the service down: it fails in the end.
        """
        with self._database.session() as session:
            running = select(Scan.id).where(Scan.status == "running").order_by(Scan.created_at)
            ids = list(session.scalars(running))
            crashed = select(AuditEntry.subject, func.count()).where(AuditEntry.action == _CRASHED)
            crashed = crashed.where(AuditEntry.subject.in_(ids)).group_by(AuditEntry.subject)
            crashes: dict[str, int] = {row[0]: row[1] for row in session.execute(crashed)}
        for scan_id in ids:
            self.audit(SERVICE, _CRASHED, scan_id)
            if crashes.get(scan_id, 0) + 1 < MOST_CRASHES:
                self.requeue(scan_id)
            else:
                message = (
                    f"The service went down {MOST_CRASHES} times during this scan; it is not tried again."
                )
                hint = "Look at the service's log and memory, then submit the CT again."
                self.fail(scan_id, {"code": "interrupted", "message": message, "hint": hint})
        return ids

    def audit(self, actor: str, action: str, subject: str, detail: dict[str, Any] | None = None) -> None:
        """Records who did what."""
        with self._database.session() as session:
            record(session, actor, action, subject, detail)

    def _move(
        self, scan_id: str, to: str, actor: str, *, summary: dict[str, Any] | None = None, **values: Any
    ) -> bool:
        while True:
            with self._database.session() as session:
                scan = _scan(session, scan_id)
                try:
                    transition(scan, to)
                except IllegalTransitionError:
                    if to in SCAN[scan.status]:
                        continue  # somebody else moved it between the two statements: go on from there
                    return False
                for name, value in values.items():
                    setattr(scan, name, value)
                if summary is not None:
                    scan.summary = {**scan.summary, **summary}
                detail = {"code": scan.error["code"]} if scan.error else {}
                record(session, actor, f"scan.{to}", scan_id, detail)
            self.ring()
            return True


def keepable(text: str) -> bool:
    """Whether a database can hold `text`: PostgreSQL cannot even be queried for a NUL."""
    return "\0" not in text


def _find(session: Session, scan_id: str) -> Scan | None:
    return session.get(Scan, scan_id) if keepable(scan_id) else None


def _scan(session: Session, scan_id: str) -> Scan:
    scan = _find(session, scan_id)
    if scan is None:
        raise refuse("unknown-scan", id=repr(scan_id[:40]))
    return scan


def _twin(session: Session, pseudonym: str) -> Twin:
    twin = session.scalar(select(Twin).where(Twin.pseudonym == pseudonym))
    if twin is None:
        twin = Twin(pseudonym=pseudonym)
        session.add(twin)
        session.flush()
    return twin


def _state(scan: Scan) -> ScanState:
    return ScanState(
        scan.id, scan.twin.pseudonym, scan.model_version, scan.status, scan.progress, scan.stage,
        scan.folder, scan.created_at, scan.started_at, scan.finished_at,
        dict(scan.error) if scan.error else None, dict(scan.summary),
    )  # fmt: skip
