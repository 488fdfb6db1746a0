"""The database: SQLite by default, PostgreSQL when the URL says so."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Engine, NullPool, QueuePool, StaticPool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DataError, IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from scantwin.errors import InputError, MissingExtra, ResourceError, ScanTwinError, ServiceError
from scantwin.settings import Settings, load_settings

_PATIENCE_S = 30
"""How long a writer waits for another before the database counts as locked [s]."""


class Database:
    """One database."""

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        """`url` in SQLAlchemy's form; `read_only` refuses every write and creates no file."""
        self._url = _parse(url)
        self.read_only = read_only

    @classmethod
    def from_settings(cls, settings: Settings | None = None, *, read_only: bool = False) -> Database:
        """The database of `SCANTWIN_DATABASE_URL`, or the SQLite file of `SCANTWIN_HOME`."""
        return cls((settings or load_settings()).database, read_only=read_only)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is an SQLite file."""
        return self._url.get_backend_name() == "sqlite"

    @property
    def place(self) -> str:
        """Where it is, readable for people: never with a user or a password."""
        if self.is_sqlite:
            return f"sqlite:{self._url.database or ':memory:'}"
        port = f":{self._url.port}" if self._url.port else ""
        return f"postgresql://{self._url.host or 'local socket'}{port}/{self._url.database or ''}"

    @property
    def is_missing(self) -> bool:
        """Whether it is an SQLite file that does not exist yet."""
        return self.is_sqlite and bool(self._url.database) and not Path(self._url.database or "").exists()

    def __repr__(self) -> str:
        """Names only the place."""
        return f"Database({self.place!r}{', read_only=True' if self.read_only else ''})"

    @cached_property
    def engine(self) -> Engine:
        """The SQLAlchemy engine, created on first use so that it is not shared with forked children."""
        return _sqlite(self._url, self.read_only) if self.is_sqlite else _server(self._url, self.read_only)

    @cached_property
    def _sessions(self) -> sessionmaker[Session]:
        return sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session that commits when the block succeeds and rolls back when it raises.

        Objects stay readable after the block. A database that cannot be used raises `ServiceError`.
        """
        with self._explained(), self._sessions() as session:
            yield session  # leaving without a commit rolls back
            session.commit()

    def migrate(self) -> Database:
        """Upgrades the tables to the newest migration; safe when several processes call it at once."""
        from scantwin.store.migrating import upgrade

        with self._explained():
            upgrade(self.engine, self.place)
        return self

    def close(self) -> None:
        """Closes the pooled connections; the database can still be used afterwards."""
        if "engine" in self.__dict__:
            self.engine.dispose()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns driver errors into plain sentences; rows that break a constraint are left to the caller."""
        try:
            yield
        except (IntegrityError, DataError):
            raise
        except DatabaseError as error:
            raise explain(error, self.place) from error


def explain(error: DatabaseError, place: str) -> ScanTwinError:
    """The error that the driver gave for the database at `place`, as a plain sentence."""
    text = str(error.orig).strip().partition("\n")[0]
    if (
        "no such table" in text
        or "no such column" in text
        or type(error.orig).__name__.startswith("Undefined")
    ):
        return ServiceError(
            f"The database {place} does not have the tables of this version.",
            hint="Run `scantwin models list` once: it creates or upgrades them.",
        )
    if "disk is full" in text or "disk I/O error" in text or type(error.orig).__name__ == "DiskFull":
        return ResourceError(
            f"The disk is full: the database {place} cannot be written.",
            hint="Free some space, then run the same command again.",
        )
    if "readonly" in text or "read-only" in text:
        return ServiceError(f"The database {place} is opened for reading only.", hint="Write elsewhere.")
    if "locked" in text:
        return ServiceError(
            f"The database {place} was locked by another program for {_PATIENCE_S} s.",
            hint="Stop the other program, or use PostgreSQL through SCANTWIN_DATABASE_URL.",
        )
    return ServiceError(
        f"The database {place} cannot be used: {text[:300].rstrip('.')}.",
        hint="Check SCANTWIN_DATABASE_URL and SCANTWIN_HOME, and that the server runs.",
    )


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The text is not repeated: it may hold a password.
        raise InputError(
            "SCANTWIN_DATABASE_URL is not a database URL.",
            hint="Write sqlite:////folder/scantwin.db or postgresql://user:password@host:5432/name.",
        ) from None
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise InputError(
            f"A database of the kind {parsed.drivername} is not supported.",
            hint="Use sqlite:/// or postgresql://.",
        )
    return parsed


def _sqlite(url: URL, read_only: bool) -> Engine:
    if url.database in (None, "", ":memory:"):
        engine = create_engine(url, poolclass=StaticPool, json_serializer=_dumps)
    else:
        path = Path(str(url.database)).absolute()
        if read_only:
            # mode=rw creates no new file; query_only below refuses writes, and WAL can still be read.
            url = url.set(database=f"file:{quote(bytes(path))}").update_query_dict(
                {"mode": "rw", "uri": "true"}
            )
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            _make_private(path)
        engine = create_engine(
            url,
            # A reader reopens the file each time, because its writer may put another in its place.
            poolclass=NullPool if read_only else QueuePool,
            connect_args={"timeout": _PATIENCE_S},
            json_serializer=_dumps,
        )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={_PATIENCE_S * 1000}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA synchronous=NORMAL")
        if read_only:
            cursor.execute("PRAGMA query_only=ON")
        else:
            _write_ahead(cursor)
        cursor.close()

    return engine


def _make_private(path: Path) -> None:
    """Creates an empty owner-only file: it will name patients. SQLite gives its other files the same mode."""
    # An existing file is left as it is; if it cannot be created, SQLite says so in its own words.
    with suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _write_ahead(cursor: Any) -> None:
    """Switches to the write-ahead log. SQLite does not wait for others at this switch, so this does."""
    for attempt in range(_PATIENCE_S * 20):
        try:
            if cursor.execute("PRAGMA journal_mode").fetchone()[0] not in ("wal", "memory"):
                cursor.execute("PRAGMA journal_mode=WAL")
            return
        except Exception as error:
            if "locked" not in str(error) or attempt == _PATIENCE_S * 20 - 1:
                raise
            time.sleep(0.05)


def _server(url: URL, read_only: bool) -> Engine:
    arguments: dict[str, Any] = {"connect_timeout": 10, "application_name": "scantwin"}
    if read_only:
        arguments["options"] = "-c default_transaction_read_only=on"
    try:
        return create_engine(url, pool_pre_ping=True, connect_args=arguments, json_serializer=_dumps)
    except ModuleNotFoundError:
        raise MissingExtra("A PostgreSQL database", "postgresql") from None


def _dumps(value: Any) -> str:
    """JSON for a column. JSON has no not-a-number (PostgreSQL refuses it), so it becomes null."""
    return json.dumps(_finite(value), allow_nan=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()  # a numpy number
    return None if isinstance(value, float) and not math.isfinite(value) else value
