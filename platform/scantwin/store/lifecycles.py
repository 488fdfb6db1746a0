"""Life cycles of site, run, round and scan: transition tables, and the only way to move along them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from sqlalchemy import Table as SqlTable
from sqlalchemy import update
from sqlalchemy.orm import object_session
from sqlalchemy.orm.attributes import set_committed_value

from scantwin.errors import ScanTwinError
from scantwin.store.models import Round, Run, Scan, Site
from scantwin.store.times import utc_now

Table = Mapping[str, tuple[str, ...]]

SITE: Final[Table] = {
    "enrolled": ("active", "suspended"),  # its key is known; it has not joined a round yet
    "active": ("suspended",),
    "suspended": ("active",),
}
RUN: Final[Table] = {
    "created": ("running", "failed", "stopped"),
    "running": ("finished", "failed", "stopped"),
    "finished": (),
    "failed": ("running",),  # a crash of the consortium does not end a run: it continues from its last round
    "stopped": ("running",),
}
ROUND: Final[Table] = {
    "running": ("aggregated", "failed"),
    "aggregated": ("evaluated", "failed"),
    "evaluated": (),
    "failed": ("running",),  # the same round is tried again
}
SCAN: Final[Table] = {
    "queued": ("running", "failed", "cancelled"),
    "running": ("done", "failed", "cancelled", "queued"),  # queued again when its worker died
    "done": (),
    "failed": (),
    "cancelled": (),
}
TABLES: Final[Mapping[type[Any], Table]] = {Site: SITE, Run: RUN, Round: ROUND, Scan: SCAN}
"""The transition table of each model that has a life cycle."""

_ENDS = frozenset({"finished", "failed", "stopped", "evaluated", "done", "cancelled"})


class IllegalTransitionError(ScanTwinError):
    """A status that cannot follow the current one."""


def transition(obj: Site | Run | Round | Scan, new_status: str) -> None:
    """Moves `obj` to `new_status` and sets `started_at` / `finished_at` where the model has them.

    Raises `IllegalTransitionError` if no edge leads there, or if another process moved the row first: in a
    session the change is written at once, and only if the row still has the status that `obj` shows.
    """
    table = TABLES[type(obj)]
    # A new object has no status before its first flush: it is at the start of its life cycle.
    old: str = getattr(obj, "status", None) or next(iter(table))
    if new_status not in table[old]:
        raise _refusal(obj, old, new_status)
    changes = {"status": new_status} | ({} if isinstance(obj, Site) else _times(new_status))
    session = object_session(obj)
    if session is None:
        for name, value in changes.items():
            setattr(obj, name, value)
        return
    session.flush()
    rows = cast(SqlTable, type(obj).__table__)
    moved = session.connection().execute(
        update(rows).where(rows.c.id == obj.id, rows.c.status == old).values(**changes)
    )
    if moved.rowcount != 1:
        session.refresh(obj, ["status"])
        raise _refusal(obj, obj.status, new_status)
    for name, value in changes.items():
        set_committed_value(obj, name, value)


def _times(new_status: str) -> dict[str, Any]:
    if new_status == "running":
        return {"started_at": utc_now(), "finished_at": None}
    if new_status == "queued":
        return {"started_at": None, "finished_at": None}
    if new_status in _ENDS:
        return {"finished_at": utc_now()}
    return {}


def _refusal(obj: Site | Run | Round | Scan, old: str, new: str) -> IllegalTransitionError:
    kind = type(obj).__name__.lower()
    allowed = " or ".join(TABLES[type(obj)][old])
    return IllegalTransitionError(
        f"The {kind} {obj.id} is {old}; it cannot become {new}.",
        hint=f"From {old} it can become {allowed}." if allowed else f"{old.capitalize()} is final.",
    )
