"""`scantwin doctor`: it looks, and changes nothing."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, text

from scantwin.cli.doctor import doctor
from scantwin.store import migrating
from scantwin.store.database import Database


def _checks(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    try:
        doctor(as_json=True)
    except Exception as error:  # typer's own way out when a check failed
        assert type(error).__name__ == "Exit"
    return {one["check"]: one for one in json.loads(capsys.readouterr().out)["checks"]}


def test_a_new_home_is_not_made_by_looking(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checks = _checks(capsys)
    assert checks["home"]["ok"] and checks["database"]["ok"]
    assert "not created yet" in checks["database"]["found"]
    assert not home.exists()


def test_a_database_is_not_changed_by_looking(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = Database.from_settings()
    with database.engine.connect():
        pass
    checks = _checks(capsys)
    assert checks["database"]["ok"] and "has no tables yet" in checks["database"]["found"]
    assert not inspect(database.engine).get_table_names()
    database.migrate().close()
    assert _checks(capsys)["database"] == {
        "check": "database", "ok": True, "found": database.place, "hint": "",
    }  # fmt: skip


@pytest.mark.usefixtures("home")
def test_a_database_of_another_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    database = Database.from_settings().migrate()
    with monkeypatch.context() as later:
        later.setattr(migrating, "head", lambda: "0002")
        check = _checks(capsys)["database"]
        assert not check["ok"] and "earlier version" in check["found"] and "models list" in check["hint"]
    with database.session() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    check = _checks(capsys)["database"]
    assert not check["ok"] and "newer version" in check["found"]


def test_a_home_below_a_file_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SCANTWIN_HOME", str(tmp_path / "file" / "home"))
    checks = _checks(capsys)
    for name in ("home", "database"):
        assert not checks[name]["ok"] and "is a file, not a folder" in checks[name]["found"]
        assert "SCANTWIN_HOME" in checks[name]["hint"]


def test_what_may_not_be_looked_at_hides_no_other_check(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Root, who may run the tests, can look anywhere."""
    exists = Path.exists

    def closed(path: Path) -> bool:
        if path.is_relative_to(home):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return exists(path)

    monkeypatch.setattr(Path, "exists", closed)
    checks = _checks(capsys)
    for name in ("home", "database"):
        assert not checks[name]["ok"] and checks[name]["found"].startswith("No permission: ")
    assert checks["python"]["ok"] and "device" in checks
