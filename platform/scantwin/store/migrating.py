"""Runs the packaged migrations on an open engine, without alembic.ini and without touching logging."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from scantwin.errors import ServiceError

FOLDER = Path(__file__).parent / "migrations"
"""The Alembic environment; it ships in the wheel."""

_LOCK = 0x5CA7_0001
"""Key of PostgreSQL's advisory lock: any number that nobody else uses."""


def config(connection: Connection) -> Config:
    """An Alembic config bound to `connection`."""
    made = Config()
    made.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


def head() -> str:
    """The newest revision that this version of the software knows."""
    return str(ScriptDirectory(str(FOLDER)).get_current_head())


def current(connection: Connection) -> str | None:
    """The current revision of the database."""
    return MigrationContext.configure(connection).get_current_revision()


def require_known(revision: str, place: str) -> None:
    """Raises `ServiceError`, naming `place`, if the database there is at a revision of a later version."""
    known = {script.revision for script in ScriptDirectory(str(FOLDER)).walk_revisions()}
    if revision not in known:
        raise ServiceError(
            f"The database {place} was made by a newer version of ScanTwin.",
            hint="Upgrade this installation to that version, or use another database.",
        )


def upgrade(engine: Engine, place: str) -> None:
    """Upgrades to head. One process does the work under a lock; the others wait and find it done.

    Raises `ServiceError`, naming `place`, if the database is at a revision that this version does not know.
    """
    with engine.connect() as connection:
        found = current(connection)
    if found == head():
        return
    if found is not None:
        require_known(found, place)
    with engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        if current(connection) != head():
            command.upgrade(config(connection), "head")
