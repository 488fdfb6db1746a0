"""What the pages ask of the database: sessions in, plain rows and data frames out. No Streamlit here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.orm import Session, joinedload

from scantwin.calibration.charts import RESTARTS
from scantwin.store.audit import withdrawn_samples
from scantwin.store.models import AuditEntry, CalibrationSample, ModelVersion, Round, Run, Scan, Site, Update
from scantwin_dashboard.drift import Alert, alerts, in_order

PHANTOMS = ("cylinder", "spheres")
"""Kinds of samples whose true activity is known."""


@dataclass(frozen=True)
class SiteRow:
    """A site and its newest measurements."""

    id: int
    name: str
    kind: str
    status: str
    enrolled_at: datetime
    accepted: int
    refused: int
    missing: int
    last_update: datetime | None
    bias: float | None
    """The newest bias of a uniform cylinder, a fraction; None before the first."""
    measured_at: datetime | None
    worked_on: bool = False
    """Whether an event that restarts its charts was logged since then."""


@dataclass(frozen=True)
class RunRow:
    """A run and its progress."""

    id: str
    name: str
    system: str
    status: str
    rounds_planned: int
    rounds_done: int
    base_version: str
    final_version: str | None
    seed: int
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None


@dataclass(frozen=True)
class ModelRow:
    """A model version."""

    id: str
    name: str
    system: str
    parent: str | None
    size_bytes: int
    created_at: datetime


@dataclass(frozen=True)
class ScanRow:
    """A scan and its twin's pseudonym."""

    id: str
    pseudonym: str
    model_version: str
    status: str
    progress: float
    stage: str
    folder: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: dict[str, Any] | None
    summary: dict[str, Any]


@dataclass(frozen=True)
class AuditRow:
    """Who did what to what."""

    at: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]


def pulse(session: Session) -> tuple[Any, ...]:
    """A few numbers that change whenever a page would look different."""
    parts: list[Any] = []
    for model in (Run, Round, Scan, Site):
        query = select(model.status, func.count()).group_by(model.status).order_by(model.status)
        parts += [(status, n) for status, n in session.execute(query)]
    parts += [
        session.scalar(select(func.count()).select_from(table))
        for table in (Update, CalibrationSample, ModelVersion)
    ]
    parts += [
        session.scalar(select(func.max(AuditEntry.id))),
        round(20 * (session.scalar(select(func.sum(Scan.progress))) or 0.0)),
    ]
    return tuple(parts)


def sites(session: Session) -> list[SiteRow]:
    """The sites in order of enrolment, which also fixes their colours."""
    counts: dict[tuple[int, str], int] = {
        (site_id, status): n
        for site_id, status, n in session.execute(
            select(Update.site_id, Update.status, func.count()).group_by(Update.site_id, Update.status)
        )
    }
    answers = session.execute(
        select(Update.site_id, func.max(func.coalesce(Round.finished_at, Round.started_at)).label("at"))
        .join(Round)
        .where(Update.status != "missing")
        .group_by(Update.site_id)
    )
    heard: dict[int, datetime] = {row.site_id: row.at for row in answers}
    cylinders = (CalibrationSample.kind == "cylinder", _counts(session))
    newest = (
        select(CalibrationSample.site_id, func.max(CalibrationSample.measured_at).label("at"))
        .where(*cylinders)
        .group_by(CalibrationSample.site_id)
        .subquery()
    )
    measured = {
        sample.site_id: sample
        for sample in session.scalars(
            select(CalibrationSample)
            .join(
                newest,
                (CalibrationSample.site_id == newest.c.site_id)
                & (CalibrationSample.measured_at == newest.c.at),
            )
            .where(*cylinders)
            .order_by(CalibrationSample.id)
        )
    }
    rows = []
    logged = _events(session).groupby("site")["at"].max().to_dict()
    for site in session.scalars(select(Site).order_by(Site.id)):
        sample = measured.get(site.id)
        worked_on = sample is not None and site.name in logged and logged[site.name] > sample.measured_at
        accepted, refused, missing = (
            counts.get((site.id, status), 0) for status in ("accepted", "refused", "missing")
        )
        rows.append(
            SiteRow(
                site.id, site.name, site.kind, site.status, site.enrolled_at, accepted, refused, missing,
                heard.get(site.id), sample.bias if sample else None, sample.measured_at if sample else None,
                worked_on,
            )
        )  # fmt: skip
    return rows


def runs(session: Session) -> list[RunRow]:
    """The runs, newest first; those that have not started come before all others."""
    merged = session.execute(
        select(Round.run_id, func.count().label("n"))
        .where(Round.status.in_(("aggregated", "evaluated")))
        .group_by(Round.run_id)
    )
    done = {row.run_id: row.n for row in merged}
    found = session.scalars(select(Run)).all()
    order = sorted(found, key=lambda r: (r.started_at is None, r.started_at, r.id), reverse=True)
    return [
        RunRow(
            r.id, r.name, r.system, r.status, r.rounds_planned, done.get(r.id, 0), r.base_version,
            r.final_version, r.seed, r.started_at, r.finished_at, r.error,
        )
        for r in order
    ]  # fmt: skip


def models(session: Session, limit: int = 20) -> list[ModelRow]:
    """The newest model versions."""
    query = select(ModelVersion).order_by(ModelVersion.created_at.desc(), ModelVersion.id).limit(limit)
    return [
        ModelRow(m.id, m.name, m.system, m.parent, m.size_bytes, m.created_at) for m in session.scalars(query)
    ]


def scans(session: Session, limit: int = 200) -> list[ScanRow]:
    """The newest scans."""
    query = select(Scan).options(joinedload(Scan.twin)).order_by(Scan.created_at.desc(), Scan.id).limit(limit)
    return [_scan_row(s) for s in session.scalars(query)]


def scan(session: Session, scan_id: str) -> ScanRow | None:
    """One scan, however old; None when there is none of this id."""
    found = session.get(Scan, scan_id, options=[joinedload(Scan.twin)])
    return None if found is None else _scan_row(found)


def _scan_row(s: Scan) -> ScanRow:
    return ScanRow(
        s.id, s.twin.pseudonym, s.model_version, s.status, s.progress, s.stage, s.folder, s.created_at,
        s.started_at, s.finished_at, dict(s.error) if s.error else None, dict(s.summary),
    )  # fmt: skip


def audit_tail(session: Session, limit: int = 30) -> list[AuditRow]:
    """The newest entries of the audit log."""
    query = select(AuditEntry).order_by(AuditEntry.at.desc(), AuditEntry.id.desc()).limit(limit)
    return [AuditRow(e.at, e.actor, e.action, e.subject, dict(e.detail)) for e in session.scalars(query)]


def metrics_frame(session: Session, run_id: str) -> pd.DataFrame:
    """Held-out measures: round, who (`model` or a reference), district, metric, mean, sd, n (patients)."""
    rows = []
    for one in session.scalars(select(Round).where(Round.run_id == run_id).order_by(Round.number)):
        for who, districts in {"model": one.held_out, **one.references}.items():
            rows += [
                (one.number, who, district, metric, value.get("mean"), value.get("sd"), value.get("n"))
                for district, measured in (districts or {}).items()
                for metric, value in measured.items()
                if isinstance(value, dict)
            ]
    frame = pd.DataFrame(rows, columns=["round", "who", "district", "metric", "mean", "sd", "n"])
    return frame.astype({"mean": float, "sd": float, "n": float}).dropna(subset=["mean"])


def rounds_frame(session: Session, run_id: str) -> pd.DataFrame:
    """The rounds of a run: round, status, started_at, seconds, model_version."""
    rows = [
        (r.number, r.status, r.started_at, _seconds(r.started_at, r.finished_at), r.model_version)
        for r in session.scalars(select(Round).where(Round.run_id == run_id).order_by(Round.number))
    ]
    return pd.DataFrame(rows, columns=["round", "status", "started_at", "seconds", "model_version"])


def updates_frame(session: Session, *, run_id: str | None = None, site_id: int | None = None) -> pd.DataFrame:
    """One row per update: run, round, site, status, reason, patches, bytes_in, bytes_out, seconds, at."""
    at = func.coalesce(Round.finished_at, Round.started_at)
    query = select(
        Run.name, Round.number, Site.name, Update.status, Update.reason, Update.patches, Update.bytes_in,
        Update.bytes_out, Update.seconds, at,
    )  # fmt: skip
    rows = [
        (*row[:5], sum(_by_district(row[5]).values()), *row[6:])
        for row in session.execute(_of(query, run_id, site_id))
    ]
    columns = [
        "run", "round", "site", "status", "reason", "patches", "bytes_in", "bytes_out", "seconds", "at",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def patches_frame(session: Session, *, run_id: str | None = None, site_id: int | None = None) -> pd.DataFrame:
    """Patches behind accepted updates: update, round, site, district, patches, held_out (patients)."""
    told = (Update.id, Round.number, Site.name, Update.patches, Update.metrics)
    query = select(*told).where(Update.status == "accepted")
    rows = [
        (update, number, site, district, count, _held_out(metrics, district))
        for update, number, site, patches, metrics in session.execute(_of(query, run_id, site_id))
        for district, count in _by_district(patches).items()
    ]
    frame = pd.DataFrame(rows, columns=["update", "round", "site", "district", "patches", "held_out"])
    return frame.astype({"held_out": float})


def samples_frame(session: Session, site_id: int) -> pd.DataFrame:
    """A site's samples in order of time: measured_at, kind, bias and sd (fractions), n, detail (text), id."""
    query = (
        select(CalibrationSample)
        .where(CalibrationSample.site_id == site_id, _counts(session))
        .order_by(CalibrationSample.measured_at, CalibrationSample.id)
    )
    rows = [
        (s.measured_at, s.kind, s.bias, s.sd, s.n, _brief(s.detail), s.id) for s in session.scalars(query)
    ]
    frame = pd.DataFrame(rows, columns=["measured_at", "kind", "bias", "sd", "n", "detail", "id"])
    return frame.astype({"sd": float, "bias": float})


def _brief(detail: dict[str, Any]) -> str:
    """The single values of a sample's detail; a profile of a hundred slices is only in the database."""
    single = {key: value for key, value in detail.items() if not isinstance(value, (dict, list))}
    return ", ".join(
        f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}"
        for key, value in single.items()
    )


def events_frame(session: Session, site: str) -> pd.DataFrame:
    """The logged events that restart a site's charts, in order of time: columns at, what."""
    return _events(session, AuditEntry.subject == site)[["at", "what"]].reset_index(drop=True)


def site_alerts(session: Session) -> list[Alert]:
    """The alerts of every site, the open ones first."""
    query = (
        select(Site.name, CalibrationSample.measured_at, CalibrationSample.kind, CalibrationSample.bias)
        .join(CalibrationSample.site)
        .where(CalibrationSample.kind.in_(PHANTOMS), _counts(session))
        .order_by(Site.id, CalibrationSample.measured_at, CalibrationSample.id)
    )
    rows = [tuple(row) for row in session.execute(query)]
    samples = pd.DataFrame(rows, columns=["site", "measured_at", "kind", "bias"])
    events = _events(session)
    found: list[Alert] = []
    for site, part in samples.groupby("site", sort=False):
        found += alerts(str(site), part, events[events.site == site], PHANTOMS)
    return in_order(found)


def _counts(session: Session) -> ColumnElement[bool]:
    """Whether a sample has not been withdrawn."""
    return CalibrationSample.id.not_in(withdrawn_samples(session))


def _events(session: Session, *conditions: ColumnElement[bool]) -> pd.DataFrame:
    """Restarts in order of time: columns site, at, what. An event counts from the day stated for it."""
    query = (
        select(AuditEntry.subject, AuditEntry.at, AuditEntry.action, AuditEntry.detail)
        .where(or_(*(AuditEntry.action.endswith(f"site.{e}") for e in RESTARTS)), *conditions)
        .order_by(AuditEntry.at)
    )
    rows = [
        (site, datetime.fromisoformat(detail["on"]) if "on" in detail else at, action.rpartition(".")[2])
        for site, at, action, detail in session.execute(query)
    ]
    frame = pd.DataFrame(rows, columns=["site", "at", "what"])
    frame["at"] = pd.to_datetime(frame["at"], utc=True)
    return frame.sort_values("at", kind="stable")


def _of(query: Select[Any], run_id: str | None, site_id: int | None) -> Select[Any]:
    """Updates of a run or of a site, in order of time. Columns, not objects: a long run has thousands."""
    query = query.select_from(Update).join(Update.round).join(Round.run).join(Update.site)
    if run_id is not None:
        query = query.where(Round.run_id == run_id)
    if site_id is not None:
        query = query.where(Update.site_id == site_id)
    return query.order_by(Round.started_at, Round.number, Update.site_id, Update.id)


def _by_district(patches: dict[str, Any]) -> dict[str, int]:
    """Patches of each district. A district's components see the same patches, so theirs are not added."""
    counts: dict[str, int] = {}
    for component, count in patches.items():
        district = component.split("/")[1] if "/" in component else component
        counts[district] = max(counts.get(district, 0), int(count or 0))
    return counts


def _held_out(metrics: dict[str, Any], district: str) -> float | None:
    """Number of patients on whom the site measured the model before it trained."""
    measured = (metrics.get("measured_before") or {}).get(district) or {}
    return (measured.get("mae") or {}).get("n")


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return (end - start).total_seconds() if start and end else None
