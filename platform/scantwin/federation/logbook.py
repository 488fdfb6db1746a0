"""What a run writes into the database, so that everyone can follow it: rounds, updates, samples, the end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from scantwin.calibration.samples import CalibrationSample as Measured
from scantwin.errors import FederationError
from scantwin.federation.judgement import Outcome
from scantwin.federation.merging import Merged, merge
from scantwin.federation.wire import SiteReply
from scantwin.store import audit
from scantwin.store.database import Database
from scantwin.store.lifecycles import IllegalTransitionError, transition
from scantwin.store.models import CalibrationSample, Round, Run, Site, Update

ACTOR = "consortium"
"""The actor in the audit log."""


class Logbook:
    """The rows of one run."""

    def __init__(self, database: Database, run_id: str) -> None:
        self.database = database
        self.run_id = run_id
        self._flower_run_id: str | None = None

    def begin(self, flower_run_id: str) -> Run:
        """Marks the run as running.

        Raises `FederationError` if it is unknown, `IllegalTransitionError` if finished or running already.
        """
        with self.database.session() as session:
            run = session.get(Run, self.run_id)
            if run is None:
                raise FederationError(
                    f"The database has no run {self.run_id}.",
                    hint="Start runs with scantwin consortium train.",
                )
            transition(run, "running")
            run.flower_run_id, run.error = flower_run_id, None
            self._flower_run_id = flower_run_id
            return run

    def members(self) -> tuple[dict[str, int], list[str]]:
        """The enrolled sites as name -> Flower node id, and the names of those that are suspended."""
        with self.database.session() as session:
            sites = [*session.scalars(select(Site).order_by(Site.name))]
        active = {
            site.name: int(site.node_id) for site in sites if site.node_id and site.status != "suspended"
        }
        return active, [site.name for site in sites if site.status == "suspended"]

    def last_version(self) -> tuple[int, str | None]:
        """The last round with a published version, and that version; (0, None) before the first."""
        with self.database.session() as session:
            done = session.scalars(
                select(Round)
                .where(Round.run_id == self.run_id, Round.model_version.is_not(None))
                .order_by(Round.number.desc())
            ).first()
        return (0, None) if done is None else (done.number, done.model_version)

    def open_round(self, number: int) -> None:
        """Opens a new round, or reopens one that was interrupted and is done again."""
        with self.database.session() as session:
            row = self._round(session, number)
            if row is None:
                session.add(Round(run_id=self.run_id, number=number, status="running"))
                return
            row.updates.clear()
            if row.status in ("running", "aggregated"):
                transition(row, "failed")
            transition(row, "running")

    def write_outcomes(self, number: int, outcomes: Iterable[Outcome]) -> None:
        """Writes one update row per site; a site that is accepted for the first time becomes active."""
        with self.database.session() as session:
            row = self._must_round(session, number)
            for outcome in outcomes:
                site = self._site(session, outcome.site)
                reply = outcome.reply
                row.updates.append(
                    Update(
                        site_id=site.id, status=outcome.status, reason=outcome.reason,
                        patches=dict(reply.header.patches) if reply else {},
                        metrics=_metrics(reply) if reply else {},
                        bytes_in=outcome.answer.bytes_in, bytes_out=outcome.answer.bytes_out,
                        seconds=outcome.answer.seconds,
                    )
                )  # fmt: skip
                if outcome.status == "accepted" and site.status == "enrolled":
                    with suppress(IllegalTransitionError):  # suspended since we looked: it stays suspended
                        transition(site, "active")

    def write_samples(self, site_name: str, samples: Iterable[Measured]) -> list[str]:
        """Stores calibration samples; what this site sent before stays as it is. Returns all their ids."""
        ids = []
        with self.database.session() as session:
            site = self._site(session, site_name)
            for sample in samples:
                ids.append(sample.id)
                row_id = _row_id(session, site, sample.id)
                if session.get(CalibrationSample, row_id) is None:
                    session.add(
                        CalibrationSample(
                            id=row_id, site_id=site.id, kind=sample.kind, measured_at=sample.measured_at,
                            bias=sample.bias, sd=sample.sd, n=sample.n, detail=dict(sample.detail),
                        )
                    )  # fmt: skip
        return ids

    def aggregated(self, number: int, version: str | None) -> None:
        """Marks the round's updates as merged; `version` may follow later."""
        with self.database.session() as session:
            row = self._must_round(session, number)
            if row.status == "failed":  # it was ended after its version was written
                transition(row, "running")
            if row.status == "running":
                transition(row, "aggregated")
            if version is not None:
                row.model_version = version

    def measured(self, number: int, merged: Merged) -> None:
        """Stores what the sites measured of this round's model; if nobody measured, changes nothing."""
        if not merged:
            return
        with self.database.session() as session:
            row = self._must_round(session, number)
            row.held_out = merged.get("model", {})
            row.references = {who: values for who, values in merged.items() if who != "model"}
            if row.status == "aggregated":
                transition(row, "evaluated")

    def end_early(self, status: Literal["failed", "stopped"], reason: str, number: int) -> None:
        """Ends the run, and the round it was in, as failed or stopped, unless another process resumed it."""
        with self.database.session() as session:
            run = session.get(Run, self.run_id)
            if run is not None and run.flower_run_id != self._flower_run_id:
                return
            row = self._round(session, number)
            if row is not None and row.status in ("running", "aggregated"):
                transition(row, "failed")
            if run is not None and run.status in ("created", "running"):
                transition(run, status)
                run.error = reason[:2000]
                audit.record(session, ACTOR, f"run.{status}", run.id, {"reason": reason[:500]})

    def finish(self, version: str, remark: str | None) -> None:
        """Marks the run as finished; `remark` says what a person should know about it."""
        with self.database.session() as session:
            run = session.get_one(Run, self.run_id)
            run.final_version, run.error = version, remark
            transition(run, "finished")
            audit.record(session, ACTOR, "run.finished", run.id, {"version": version})

    def _round(self, session: Session, number: int) -> Round | None:
        return session.scalars(
            select(Round).where(Round.run_id == self.run_id, Round.number == number)
        ).one_or_none()

    def _must_round(self, session: Session, number: int) -> Round:
        row = self._round(session, number)
        if row is None:
            raise FederationError(f"The database has no round {number} of the run {self.run_id}.")
        return row

    def _site(self, session: Session, name: str) -> Site:
        return session.scalars(select(Site).where(Site.name == name)).one()


def _row_id(session: Session, site: Site, sample_id: str) -> str:
    """The sample's own id, or another one if another site's row has it, as after a site was copied."""
    known = session.get(CalibrationSample, sample_id)
    if known is None or known.site_id == site.id:
        return sample_id
    return hashlib.sha256(f"{site.name}/{sample_id}".encode()).hexdigest()[:32]


def _metrics(reply: SiteReply) -> dict[str, Any]:
    """A site's part in a round, for people to read: losses, times, and means of what it measured."""
    return {
        "losses": dict(reply.header.losses),
        "seconds": dict(reply.header.seconds),
        "measured_before": merge([reply.header.metrics]).get("model", {}),
    }
