"""The tables. Ids of runs, scans, twins and calibration samples are 32 hex characters; times are UTC-aware.

A JSON column notices `row.summary["pet"] = ...`, but not a change inside a nested dict: reassign that dict.
Statuses change through `scantwin.store.lifecycles.transition`, never by assignment.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Literal, get_args

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Enum,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from scantwin.store.times import UtcDateTime, utc_now

SiteStatus = Literal["enrolled", "active", "suspended"]
RunStatus = Literal["created", "running", "finished", "failed", "stopped"]
RoundStatus = Literal["running", "aggregated", "evaluated", "failed"]
UpdateStatus = Literal["accepted", "refused", "missing"]
ScanStatus = Literal["queued", "running", "done", "failed", "cancelled"]
SampleKind = Literal["cylinder", "spheres", "liver", "model-residual"]

_JSON = MutableDict.as_mutable(JSON(none_as_null=True))


def _words(literal: Any, name: str) -> Enum:
    """A string column that holds only the words of `literal`, enforced by a check constraint."""
    return Enum(*get_args(literal), name=name, native_enum=False, create_constraint=True, length=32)


def new_id() -> str:
    """A new id of a run, scan, twin or calibration sample: 32 hex characters."""
    return uuid.uuid4().hex


class Base(DeclarativeBase):
    """Base of all models; every constraint has a name, so that migrations can refer to it."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: _JSON, str: String}  # noqa: RUF012


class Site(Base):
    """A hospital or clinic of the consortium."""

    __tablename__ = "sites"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str] = mapped_column(default="hospital")
    node_id: Mapped[str | None]
    public_key: Mapped[str | None] = mapped_column(Text)
    enrolled_at: Mapped[datetime] = mapped_column(default=utc_now)
    status: Mapped[SiteStatus] = mapped_column(_words(SiteStatus, "status"), default="enrolled")
    updates: Mapped[list[Update]] = relationship(back_populates="site")
    samples: Mapped[list[CalibrationSample]] = relationship(
        back_populates="site", order_by="CalibrationSample.measured_at"
    )


class ModelVersion(Base):
    """A recipe, its components and the training record, as published in the registry."""

    __tablename__ = "model_versions"
    id: Mapped[str] = mapped_column(primary_key=True)
    """`<system>-<12 hex of the content hash>`."""
    system: Mapped[str] = mapped_column(index=True)
    name: Mapped[str] = mapped_column(index=True)
    recipe: Mapped[dict[str, Any]] = mapped_column(default=dict)
    parent: Mapped[str | None]
    """The version that training started from; it need not be in this registry."""
    record: Mapped[dict[str, Any]] = mapped_column(default=dict)
    files: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """{path relative to the model's folder: sha256 hex}."""
    size_bytes: Mapped[int] = mapped_column(
        BigInteger, CheckConstraint("size_bytes >= 0", name="size_bytes"), default=0
    )
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class ModelName(Base):
    """A name that points at a version: the one last published under it."""

    __tablename__ = "model_names"
    name: Mapped[str] = mapped_column(primary_key=True)
    version_id: Mapped[str] = mapped_column(ForeignKey("model_versions.id"), index=True)
    published_at: Mapped[datetime] = mapped_column(default=utc_now)


class Run(Base):
    """One federated training: rounds of one recipe, from a base version to a final version."""

    __tablename__ = "runs"
    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str]
    system: Mapped[str]
    recipe: Mapped[dict[str, Any]] = mapped_column(default=dict)
    status: Mapped[RunStatus] = mapped_column(_words(RunStatus, "status"), default="created", index=True)
    rounds_planned: Mapped[int] = mapped_column(CheckConstraint("rounds_planned >= 0", name="rounds_planned"))
    flower_run_id: Mapped[str | None]
    base_version: Mapped[str] = mapped_column(ForeignKey("model_versions.id"))
    final_version: Mapped[str | None] = mapped_column(ForeignKey("model_versions.id"))
    seed: Mapped[int] = mapped_column(BigInteger, default=0)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    error: Mapped[str | None] = mapped_column(Text)
    rounds: Mapped[list[Round]] = relationship(
        back_populates="run", order_by="Round.number", cascade="all, delete-orphan"
    )


class Round(Base):
    """One exchange of a run: the sites' updates, the aggregated version and its measures."""

    __tablename__ = "rounds"
    __table_args__ = (UniqueConstraint("run_id", "number"), CheckConstraint("number >= 1", name="number"))
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"))
    number: Mapped[int]
    status: Mapped[RoundStatus] = mapped_column(_words(RoundStatus, "status"), default="running")
    started_at: Mapped[datetime | None] = mapped_column(default=utc_now)
    finished_at: Mapped[datetime | None]
    model_version: Mapped[str | None] = mapped_column(ForeignKey("model_versions.id"))
    held_out: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """{district: {"mae": {"mean", "sd", "n"}, "psnr": .., "ssim": ..}}."""
    references: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """{reference: {district: {metric: {"mean", "sd", "n"}}}}."""
    run: Mapped[Run] = relationship(back_populates="rounds")
    updates: Mapped[list[Update]] = relationship(
        back_populates="round", order_by="Update.id", cascade="all, delete-orphan"
    )


class Update(Base):
    """What became of one site in one round."""

    __tablename__ = "updates"
    id: Mapped[int] = mapped_column(primary_key=True)
    round_id: Mapped[int] = mapped_column(ForeignKey("rounds.id"), index=True)
    site_id: Mapped[int] = mapped_column(ForeignKey("sites.id"), index=True)
    status: Mapped[UpdateStatus] = mapped_column(_words(UpdateStatus, "status"))
    reason: Mapped[str] = mapped_column(Text, default="")
    patches: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """{component: number of patches behind it}."""
    metrics: Mapped[dict[str, Any]] = mapped_column(default=dict)
    bytes_in: Mapped[int] = mapped_column(BigInteger, default=0)
    """From the site to the consortium."""
    bytes_out: Mapped[int] = mapped_column(BigInteger, default=0)
    """From the consortium to the site."""
    seconds: Mapped[float] = mapped_column(default=0.0)
    round: Mapped[Round] = relationship(back_populates="updates")
    site: Mapped[Site] = relationship(back_populates="updates")


class CalibrationSample(Base):
    """One measurement of how far a site's SUV is from the truth. Counts and moments, never pixels."""

    __tablename__ = "calibration_samples"
    __table_args__ = (Index(None, "site_id", "measured_at"), CheckConstraint("n >= 0", name="n"))
    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    site_id: Mapped[int] = mapped_column(ForeignKey("sites.id"))
    kind: Mapped[SampleKind] = mapped_column(_words(SampleKind, "kind"))
    measured_at: Mapped[datetime] = mapped_column(default=utc_now)
    bias: Mapped[float]
    """A fraction: +0.08 reads 8 % high."""
    sd: Mapped[float | None]
    n: Mapped[int] = mapped_column(default=1)
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
    site: Mapped[Site] = relationship(back_populates="samples")


class Twin(Base):
    """One pseudonymous patient."""

    __tablename__ = "twins"
    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    pseudonym: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    note: Mapped[str] = mapped_column(Text, default="")
    scans: Mapped[list[Scan]] = relationship(
        back_populates="twin", order_by="Scan.created_at", cascade="all, delete-orphan"
    )


class Scan(Base):
    """One virtual PET, from the queue to its folder."""

    __tablename__ = "scans"
    __table_args__ = (CheckConstraint("progress >= 0 AND progress <= 1", name="progress"),)
    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    twin_id: Mapped[str] = mapped_column(ForeignKey("twins.id"), index=True)
    model_version: Mapped[str] = mapped_column(index=True)
    status: Mapped[ScanStatus] = mapped_column(_words(ScanStatus, "status"), default="queued", index=True)
    progress: Mapped[float] = mapped_column(default=0.0)
    stage: Mapped[str] = mapped_column(Text, default="")
    folder: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    error: Mapped[dict[str, Any] | None] = mapped_column(_JSON)
    summary: Mapped[dict[str, Any]] = mapped_column(default=dict)
    twin: Mapped[Twin] = relationship(back_populates="scans")


class AuditEntry(Base):
    """Who did what to what, and when."""

    __tablename__ = "audit_entries"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=utc_now, index=True)
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
