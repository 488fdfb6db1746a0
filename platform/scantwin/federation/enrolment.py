"""Enrolling a site: its public key goes to the SuperLink, its name and node id into the database."""

from __future__ import annotations

import re
import sqlite3
import tempfile
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlalchemy import select
from sqlalchemy.orm import Session

from scantwin.calibration.charts import RESTARTS
from scantwin.errors import FederationError, InputError
from scantwin.federation.certificates import pem_of, read_site_key
from scantwin.federation.consortium import Consortium
from scantwin.federation.flower import CONNECTION, call_flwr
from scantwin.federation.kinds import KINDS
from scantwin.imaging.suv_times import FIRST_YEAR
from scantwin.store import audit
from scantwin.store.database import Database
from scantwin.store.lifecycles import transition
from scantwin.store.models import CalibrationSample, Site

_KEY_IN_USE: Final = "Public key already in use"
"""Flower's message about a key that its SuperLink already knows (`flwr.supercore.error.catalog`)."""

FIRST_ZONE: Final = timedelta(hours=14)
"""Offset of the time zone where each day begins first, ahead of UTC: no place on Earth has a later date."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


def enrol(
    consortium: Consortium, database: Database, name: str, key: Path, *, kind: str | None = None
) -> Site:
    """Enrols a site by its public key. The same site with the same key is enrolled only once.

    `kind` is one of `KINDS` and may differ from before; None keeps it, and makes a new site a hospital.
    Raises `InputError` if the name or the key belongs to another site.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be the name of a site.",
            hint="Use 1 to 32 small letters, digits and hyphens, for example rural-1.",
        )
    if kind is not None and kind not in KINDS:
        raise InputError(f"{kind!r} is no kind of site.", hint=f"Use one of {', '.join(KINDS)}.")
    public = read_site_key(key)
    with database.session() as session:
        known: list[Site] = [
            *session.scalars(select(Site).where((Site.name == name) | (Site.public_key == public)))
        ]
    for site in known:
        same = site.name == name and site.public_key == public and site.node_id
        if same and _is_registered(consortium, str(site.node_id)):
            return _of_kind(database, site, kind)
        if site.name != name:
            raise InputError(
                f"This key belongs to the site {site.name}.", hint="Each site has a key of its own."
            )
        if site.public_key not in (None, public):
            raise InputError(
                f"The site {name} is enrolled with another key.", hint="Choose another name for the new site."
            )
    node_id = _node_of(consortium, public)
    with database.session() as session:
        row = session.scalars(select(Site).where(Site.name == name)).one_or_none() or Site(name=name)
        row.kind, row.node_id, row.public_key = kind or row.kind or KINDS[0], node_id, public
        session.add(row)
        audit.record(session, "consortium", "site.enrolled", name, {"node_id": node_id})
    return row


def _of_kind(database: Database, site: Site, kind: str | None) -> Site:
    """The site, after its kind was set to `kind`; None leaves it."""
    if kind is None or kind == site.kind:
        return site
    with database.session() as session:
        row = session.get_one(Site, site.id)
        audit.record(session, "consortium", "site.kind", row.name, {"before": row.kind, "now": kind})
        row.kind = kind
        return row


def suspend(database: Database, name: str, reason: str) -> Site:
    """Excludes a site from every round until it is readmitted; `reason` goes into the audit log."""
    return _move(database, name, "suspended", reason)


def readmit(database: Database, name: str, reason: str) -> Site:
    """Lets a suspended site take part again."""
    return _move(database, name, "active", reason)


def log_event(database: Database, name: str, event: str, on: date | None, reason: str) -> date:
    """Records what makes a site's control charts start afresh: one of `RESTARTS`, from the day it was done.

    Without `on` it counts from now: what was measured earlier today lies before it. Days are those of this
    machine's calendar; returns the day.
    """
    if event not in RESTARTS:
        raise InputError(
            f"{event!r} is nothing that is logged of a site.", hint=f"Use one of {', '.join(RESTARTS)}."
        )
    _require_reason(reason)
    now = datetime.now(UTC)
    day = on or now.astimezone().date()
    hint = "Give the day on which it was done with --on."
    if day > (now + FIRST_ZONE).date():
        raise InputError(f"{day} has not come yet.", hint=hint)
    if day.year < FIRST_YEAR:
        raise InputError(f"{day} is before {FIRST_YEAR}, as no measurement is.", hint=hint)
    at = now if on is None else _begin_of(on)
    with database.session() as session:
        _known(session, name)
        audit.record(session, "consortium", f"site.{event}", name, {"on": at.isoformat(), "reason": reason})
    return day


def withdraw(database: Database, name: str, sample: str, reason: str) -> CalibrationSample:
    """Removes one calibration sample of a site from its charts; `reason` goes into the audit log.

    `sample` is its id, or the start of it, as the dashboard shows it. Nothing is deleted, and measuring the
    scan again does not bring it back; with another truth it is another sample.
    """
    with database.session() as session:
        site = _known(session, name)
        gone = audit.withdrawn_samples(session)
        known = select(CalibrationSample).where(CalibrationSample.site_id == site.id)
        found = [
            one for one in session.scalars(known) if one.id.startswith(sample.lower()) and one.id not in gone
        ]
        if len(found) != 1:
            raise InputError(
                f"{name} has {len(found)} samples whose id begins with {sample!r}.",
                hint="The dashboard shows the ids at a site's points, and has them in its CSV.",
            )
        detail = {"sample": found[0].id, "reason": reason}
        audit.record(session, "consortium", audit.WITHDRAWN, name, detail)
    return found[0]


def _begin_of(day: date) -> datetime:
    """The start of `day` in this machine's calendar, before everything that was measured on it."""
    midnight = datetime.combine(day, time()).astimezone(UTC)
    # A scan of another day than today is dated noon UTC of that day (`scantwin site qc --when`): in the zones
    # where days begin first, noon of the day before comes after this midnight.
    return max(midnight, datetime.combine(day, time(12, 30), UTC) - timedelta(days=1))


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise InputError(
            "The reason is empty.", hint="Say with --reason why: whoever reads the audit log must know."
        )


def _known(session: Session, name: str) -> Site:
    site = session.scalars(select(Site).where(Site.name == name)).one_or_none()
    if site is None:
        raise InputError(f"No site {name} is enrolled.", hint="scantwin consortium status")
    return site


def _move(database: Database, name: str, status: str, reason: str) -> Site:
    _require_reason(reason)
    with database.session() as session:
        site = _known(session, name)
        if site.status != status:
            transition(site, status)
            audit.record(session, "consortium", f"site.{status}", name, {"reason": reason})
    return site


def _is_registered(consortium: Consortium, node_id: str) -> bool:
    """Whether the SuperLink knows this node: its own database may have been recreated."""
    consortium.require_running()
    nodes = call_flwr(consortium.flower_home, "supernode", "list", CONNECTION)["nodes"]
    return any(str(node["node-id"]) == node_id for node in nodes)


def _node_of(consortium: Consortium, public_key: str) -> str:
    """The node id of this key: a new one, or that of an enrolment unknown to our database.

    After an enrol that was killed halfway, or after our database was recreated, the SuperLink still has the
    key and gives it no second id. Flower lists nodes without their keys; its own table has both.
    """
    try:
        return _register(consortium, public_key)
    except FederationError as error:
        if _KEY_IN_USE not in error.message:
            raise
        node_id = _registered(consortium.folder / "link.db", public_key)
        if node_id is None:
            raise FederationError(
                "The SuperLink knows this key already, and not as a node that may take part.",
                hint="Give the site a new key: scantwin site init with another name.",
            ) from None
        return node_id


def _registered(link: Path, public_key: str) -> str | None:
    """The node id that Flower's table has for this key (`flwr.supercore.state.schema.linkstate_models`)."""
    query = "SELECT node_id FROM node WHERE public_key = ? AND unregistered_at IS NULL"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(link))}?mode=ro", uri=True)) as table:
            row = table.execute(query, (pem_of(public_key),)).fetchone()
    except sqlite3.Error:
        return None
    # Flower stores its unsigned ids as the signed numbers with the same bits.
    return None if row is None else str(int(row[0]) % 2**64)


def _register(consortium: Consortium, public_key: str) -> str:
    """Registers this key with the SuperLink; returns the node id that it gives."""
    consortium.require_running()
    with tempfile.TemporaryDirectory(prefix="scantwin-") as folder:
        path = Path(folder) / "key.pub"
        path.write_text(public_key + "\n")
        answer = call_flwr(consortium.flower_home, "supernode", "register", str(path), CONNECTION)
    return str(answer["node-id"])
