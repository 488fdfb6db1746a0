"""The audit log: who did what to what. Entries are added, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from scantwin.store.models import AuditEntry

WITHDRAWN: Final = "sample.withdrawn"
"""The action that takes the calibration sample `detail["sample"]` out of the charts; it stays stored."""


def record(
    session: Session, actor: str, action: str, subject: str, detail: Mapping[str, Any] | None = None
) -> AuditEntry:
    """Adds an entry; it is committed, or lost, together with the change that it describes."""
    entry = AuditEntry(actor=actor, action=action, subject=subject, detail=dict(detail or {}))
    session.add(entry)
    return entry


def withdrawn_samples(session: Session) -> set[str]:
    """Ids of the calibration samples that no longer count."""
    details = session.scalars(select(AuditEntry.detail).where(AuditEntry.action == WITHDRAWN))
    return {str(detail.get("sample")) for detail in details}
