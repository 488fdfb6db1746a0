"""The audit log: who did what to what. Entries are added, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from scantwin.store.models import AuditEntry


def record(
    session: Session, actor: str, action: str, subject: str, detail: Mapping[str, Any] | None = None
) -> AuditEntry:
    """Adds an entry; it is committed, or lost, together with what it tells of."""
    entry = AuditEntry(actor=actor, action=action, subject=subject, detail=dict(detail or {}))
    session.add(entry)
    return entry
