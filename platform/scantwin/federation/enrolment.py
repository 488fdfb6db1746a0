"""Enrolling a site: its public key goes to the SuperLink, its name and node id into the database."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from sqlalchemy import select

from scantwin.errors import InputError
from scantwin.federation.certificates import read_site_key
from scantwin.federation.consortium import Consortium
from scantwin.federation.flower import CONNECTION, call_flwr
from scantwin.store import audit
from scantwin.store.database import Database
from scantwin.store.models import Site

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


def enrol(
    consortium: Consortium, database: Database, name: str, key: Path, *, kind: str = "hospital"
) -> Site:
    """Enrols a site by its public key. The same site with the same key is enrolled once.

    Raises `InputError` when the name or the key is another site's.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be the name of a site.",
            hint="Use 1 to 32 small letters, digits and hyphens, for example rural-1.",
        )
    public = read_site_key(key)
    with database.session() as session:
        known: list[Site] = [
            *session.scalars(select(Site).where((Site.name == name) | (Site.public_key == public)))
        ]
    for site in known:
        if site.name == name and site.public_key == public and site.node_id:
            return site
        if site.name != name:
            raise InputError(
                f"This key belongs to the site {site.name}.", hint="Each site has a key of its own."
            )
        if site.public_key is not None:
            raise InputError(
                f"The site {name} is enrolled with another key.", hint="Choose another name for the new site."
            )
    node_id = _register(consortium, public)
    with database.session() as session:
        row = session.scalars(select(Site).where(Site.name == name)).one_or_none() or Site(name=name)
        row.kind, row.node_id, row.public_key = kind, node_id, public
        session.add(row)
        audit.record(session, "consortium", "site.enrolled", name, {"node_id": node_id})
    return row


def _register(consortium: Consortium, public_key: str) -> str:
    """The node id that the SuperLink gives to this key."""
    consortium.require_running()
    with tempfile.TemporaryDirectory(prefix="scantwin-") as folder:
        path = Path(folder) / "key.pub"
        path.write_text(public_key + "\n")
        answer = call_flwr(consortium.flower_home, "supernode", "register", str(path), CONNECTION)
    return str(answer["node-id"])
