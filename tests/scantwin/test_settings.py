"""Settings come from the environment; what is wrong there is refused with its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from scantwin.errors import InputError
from scantwin.settings import load_settings


def test_a_variable_that_nothing_reads_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANTWIN_DATABSE_URL", "sqlite:///elsewhere.db")
    with pytest.raises(InputError, match="no setting SCANTWIN_DATABSE_URL") as caught:
        load_settings()
    assert "SCANTWIN_DATABASE_URL?" in caught.value.hint
    assert "elsewhere" not in str(caught.value), "a URL may hold a password"


def test_what_the_code_reads_elsewhere_is_let_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = ("TWIN_SERVICE_HOST", "DB_PORT_5432_TCP", "VERSION", "IMAGE", "HOST", "PORT", "XQZ")
    for name in ("DEBUG", "TEST_DATA", "DEVICE", *others):  # Kubernetes and deployments have their own
        monkeypatch.setenv(f"SCANTWIN_{name}", "cpu")
    assert load_settings().device == "cpu"


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HOME", "DATABASE_URL", "REGISTRY_URL", "DEVICE", "TWIN_TOKEN"):
        monkeypatch.setenv(f"SCANTWIN_{name}", "")
    settings = load_settings()
    assert settings.home == tmp_path / ".scantwin"
    assert settings.database.endswith(".scantwin/scantwin.db")
    assert (settings.device, settings.twin_token) == ("cpu", None)


def test_a_home_may_be_written_with_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCANTWIN_HOME", "~/scans")
    assert load_settings().home == tmp_path / "scans"
    assert load_settings(home=Path("~/other")).home == tmp_path / "other"
    with pytest.raises(InputError, match="SCANTWIN_HOME is not usable"):
        load_settings(home=Path("~nobody-of-this-name/scans"))
