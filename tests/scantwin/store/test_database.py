"""The contract of `Database`, on SQLite and on PostgreSQL."""

from __future__ import annotations

import logging
import re
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import URL, inspect, select, text
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.schema import CreateTable

from scantwin.errors import InputError, ServiceError
from scantwin.settings import load_settings
from scantwin.store import audit, migrating
from scantwin.store.database import Database
from scantwin.store.models import (
    AuditEntry,
    Base,
    CalibrationSample,
    ModelVersion,
    Round,
    Run,
    Scan,
    Site,
    Twin,
    Update,
)


class TestContract:
    """What every database has to do."""

    def test_a_session_commits_on_success_and_objects_stay_readable(self, database: Database) -> None:
        with database.session() as session:
            twin = Twin(pseudonym="P-001")
            session.add(twin)
        assert len(twin.id) == 32
        with database.session() as session:
            assert session.get(Twin, twin.id).pseudonym == "P-001"

    def test_a_session_rolls_back_on_error(self, database: Database) -> None:
        def fail() -> None:
            with database.session() as session:
                session.add(Twin(pseudonym="P-001"))
                session.flush()
                raise RuntimeError("the power fails")

        with pytest.raises(RuntimeError):
            fail()
        with database.session() as session:
            assert session.scalars(select(Twin)).all() == []

    def test_times_come_back_in_utc_and_aware(self, database: Database) -> None:
        noon_in_utrecht = datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=2)))
        with database.session() as session:
            session.add(Twin(pseudonym="P", created_at=noon_in_utrecht))
        with database.session() as session:
            back = session.scalars(select(Twin)).one().created_at
            found = session.scalars(select(Twin).where(Twin.created_at <= noon_in_utrecht)).all()
        assert back == noon_in_utrecht
        assert back.tzinfo is UTC
        assert len(found) == 1

    def test_a_time_without_a_zone_is_refused(self, database: Database) -> None:
        with pytest.raises(StatementError, match="without a zone"), database.session() as session:
            session.add(Twin(pseudonym="P", created_at=datetime(2026, 7, 1)))

    def test_json_keeps_numbers_and_words_and_notices_a_new_key(self, database: Database) -> None:
        held_out = {"head": {"mae": {"mean": 0.51, "sd": 0.1, "n": 3}}, "unterleib ä": {}}
        run = _run(database)
        with database.session() as session:
            session.add(Round(run_id=run.id, number=1, held_out=held_out))
        with database.session() as session:
            found = session.scalars(select(Round)).one()
            assert found.held_out == held_out
            found.references["median"] = {"head": float("nan")}
        with database.session() as session:
            # Not-a-number has no place in JSON.
            assert session.scalars(select(Round)).one().references == {"median": {"head": None}}

    def test_no_error_is_the_databases_null(self, database: Database) -> None:
        with database.session() as session:
            session.add(Scan(twin=Twin(pseudonym="P"), model_version="pix2pix-0"))
        with database.session() as session:
            assert session.scalars(select(Scan).where(Scan.error.is_(None))).one().error is None

    def test_words_outside_the_list_are_refused_by_the_database_itself(self, database: Database) -> None:
        with pytest.raises(IntegrityError), database.session() as session:
            session.execute(
                text("INSERT INTO sites (name, kind, enrolled_at, status) VALUES ('a', 'b', :now, 'gone')"),
                {"now": "2026-01-01 00:00:00"},
            )

    def test_foreign_keys_are_held(self, database: Database) -> None:
        with pytest.raises(IntegrityError), database.session() as session:
            session.add(CalibrationSample(site_id=99, kind="cylinder", bias=0.0))

    def test_a_rounds_number_is_unique_in_its_run(self, database: Database) -> None:
        run = _run(database)
        with pytest.raises(IntegrityError), database.session() as session:
            session.add_all([Round(run_id=run.id, number=1), Round(run_id=run.id, number=1)])

    def test_more_bytes_than_32_bits_can_count(self, database: Database) -> None:
        run = _run(database)
        with database.session() as session:
            site = Site(name="north")
            session.add(Round(run_id=run.id, number=1, updates=[Update(site=site, status="accepted")]))
            session.flush()
            site.updates[0].bytes_in = 5_000_000_000
        with database.session() as session:
            assert session.scalars(select(Update.bytes_in)).one() == 5_000_000_000

    def test_a_deleted_twin_takes_its_scans_along(self, database: Database) -> None:
        with database.session() as session:
            session.add(Scan(twin=Twin(pseudonym="P"), model_version="pix2pix-0"))
        with database.session() as session:
            session.delete(session.scalars(select(Twin)).one())
        with database.session() as session:
            assert session.scalars(select(Scan)).all() == []

    def test_the_audit_entry_falls_with_what_it_tells_of(self, database: Database) -> None:
        def fail() -> None:
            with database.session() as session:
                audit.record(session, "lead", "suspend", "north", {"why": "drift"})
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        with database.session() as session:
            audit.record(session, "lead", "suspend", "north", {"why": "drift"})
        with database.session() as session:
            assert [e.detail for e in session.scalars(select(AuditEntry))] == [{"why": "drift"}]

    def test_threads_write_side_by_side(self, database: Database) -> None:
        def write(part: int) -> None:
            for i in range(5):
                with database.session() as session:
                    session.add(Twin(pseudonym=f"{part}-{i}"))

        threads = [threading.Thread(target=write, args=(part,)) for part in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with database.session() as session:
            assert len(session.scalars(select(Twin)).all()) == 20

    def test_reading_only_refuses_to_write(self, url: str, database: Database) -> None:
        reader = Database(url, read_only=True)
        with reader.session() as session:
            assert session.scalars(select(Twin)).all() == []
        with pytest.raises(ServiceError, match="reading only"), reader.session() as session:
            session.add(Twin(pseudonym="P"))
        reader.close()


class TestMigrations:
    """The packaged migrations, on both databases."""

    def test_the_head_equals_the_models(self, database: Database) -> None:
        with database.engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "compare_server_default": True}
            )
            assert compare_metadata(context, Base.metadata) == []

    def test_every_check_of_the_models_is_in_the_database(self, database: Database) -> None:
        """Alembic compares columns and indices, not checks."""
        there = inspect(database.engine)
        for name, table in Base.metadata.tables.items():
            words = str(CreateTable(table).compile(database.engine))
            wanted = set(re.findall(r"CONSTRAINT (\w+) CHECK", words))
            assert {check["name"] for check in there.get_check_constraints(name)} == wanted, name

    def test_migrating_twice_changes_nothing(self, database: Database) -> None:
        with database.session() as session:
            session.add(Twin(pseudonym="P"))
        database.migrate()
        with database.session() as session:
            assert session.scalars(select(Twin)).one()

    def test_down_leaves_nothing_and_up_again_works(self, database: Database) -> None:
        with database.engine.begin() as connection:
            command.downgrade(migrating.config(connection), "base")
        assert inspect(database.engine).get_table_names() == ["alembic_version"]
        database.migrate()
        with database.session() as session:
            assert session.scalars(select(Twin)).all() == []

    def test_a_database_of_a_newer_version_is_one_sentence(self, database: Database) -> None:
        with database.session() as session:
            session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(ServiceError, match="newer version of ScanTwin") as told:
            database.migrate()
        assert database.place in told.value.message
        assert "Upgrade" in told.value.hint

    def test_logging_is_left_alone(self, url: str) -> None:
        before = (logging.root.handlers[:], logging.root.level, logging.getLogger("scantwin").disabled)
        Database(url).migrate().close()
        assert (
            logging.root.handlers[:],
            logging.root.level,
            logging.getLogger("scantwin").disabled,
        ) == before

    def test_many_processes_may_migrate_at_once(self, url: str) -> None:
        code = "import sys; from scantwin.store.database import Database; Database(sys.argv[1]).migrate()"
        running = [
            subprocess.Popen([sys.executable, "-c", code, url], stderr=subprocess.PIPE, text=True)
            for _ in range(5)
        ]
        said = [process.communicate(timeout=60)[1] for process in running]
        assert [process.returncode for process in running] == [0] * 5, said
        database = Database(url)
        with database.engine.connect() as connection:
            assert migrating.current(connection) == migrating.head()
        database.close()

    def test_an_empty_database_says_what_to_do(self, url: str) -> None:
        database = Database(url)
        with (
            pytest.raises(ServiceError, match="does not have the tables") as told,
            database.session() as session,
        ):
            session.scalars(select(Twin)).all()
        assert "scantwin models list" in told.value.hint
        database.close()


class TestSentences:
    """Errors are sentences, and a password is in none of them."""

    def test_an_unreachable_server(self) -> None:
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", 0))  # bound but not listening: the port is ours and refuses
            database = Database(f"postgresql://lead:sesame@127.0.0.1:{holder.getsockname()[1]}/scantwin")
            with pytest.raises(ServiceError) as told, database.session() as session:
                session.execute(text("SELECT 1"))
        assert told.value.message.count("\n") == 0
        assert "refused" in told.value.message
        assert "sesame" not in told.value.message + told.value.hint + repr(database) + database.place

    def test_a_folder_that_cannot_be_a_database(self, tmp_path: Path) -> None:
        (tmp_path / "scantwin.db").mkdir()
        with pytest.raises(ServiceError, match="unable to open"):
            Database(f"sqlite:///{tmp_path / 'scantwin.db'}").migrate()

    def test_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        (tmp_path / "scantwin.db").write_text("not a database at all, but long enough to be read as one" * 20)
        with pytest.raises(ServiceError, match="not a database"):
            Database(f"sqlite:///{tmp_path / 'scantwin.db'}").migrate()

    @pytest.mark.parametrize(
        "url",
        [
            "sesame",
            "",
            "mysql://lead:sesame@host/x",
            "postgresql://u:sesame@h:abc/x",
            "postgresql+nix://sesame@h/x",
        ],
    )
    def test_other_urls(self, url: str) -> None:
        with pytest.raises(InputError) as told:
            Database(url)
        assert "sesame" not in told.value.message + told.value.hint

    def test_reading_only_makes_no_file(self, tmp_path: Path) -> None:
        with (
            pytest.raises(ServiceError, match="unable to open"),
            Database(f"sqlite:///{tmp_path / 'a' / 'x.db'}", read_only=True).session() as session,
        ):
            session.execute(text("SELECT 1"))
        assert list(tmp_path.iterdir()) == []

    def test_a_new_file_is_for_its_owner_only(self, tmp_path: Path) -> None:
        path = tmp_path / "home" / "scantwin.db"
        database = Database(f"sqlite:///{path}").migrate()
        with database.session() as session:
            session.add(Twin(pseudonym="p"))
            session.flush()
            files = list(path.parent.iterdir())  # and the write-ahead log with its index
            assert len(files) == 3 and {file.stat().st_mode & 0o777 for file in files} == {0o600}
        database.close()
        path.chmod(0o640)
        Database(f"sqlite:///{path}").migrate().close()
        assert path.stat().st_mode & 0o777 == 0o640

    @pytest.mark.parametrize("folder", ["a#b", "a?b", "a%20b", "a b"])
    def test_a_home_has_its_database_in_it(self, folder: str, tmp_path: Path) -> None:
        Database.from_settings(load_settings(home=tmp_path / folder)).migrate().close()
        assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.db")] == [
            f"{folder}/scantwin.db"
        ]

    @pytest.mark.parametrize("folder", ["a#b", "a?b", "a%20b", "a b", "ä&mode=rwc"])
    def test_reading_only_opens_the_right_file(self, folder: str, tmp_path: Path) -> None:
        path = tmp_path / folder / "x.db"
        url = URL.create("sqlite", database=str(path)).render_as_string()
        with Database(url).migrate().session() as session:
            session.add(Twin(pseudonym="P"))
        reader = Database(url, read_only=True)
        with reader.session() as session:
            assert session.scalars(select(Twin)).one().pseudonym == "P"
        reader.close()
        assert [p.name for p in tmp_path.iterdir()] == [folder]

    def test_from_settings(self, home: Path) -> None:
        database = Database.from_settings().migrate()
        assert (home / "scantwin.db").exists()
        with database.engine.connect() as connection:
            assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
            assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
        database.close()


def test_the_store_imports_no_torch() -> None:
    code = (
        "import sys, scantwin.store.registry, scantwin.store.lifecycles, scantwin.cli.models;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _run(database: Database) -> Run:
    with database.session() as session:
        session.add(ModelVersion(id="pix2pix-000000000000", system="pix2pix", name="demo"))
        session.flush()
        run = Run(name="demo", system="pix2pix", rounds_planned=3, base_version="pix2pix-000000000000")
        session.add(run)
    return run
