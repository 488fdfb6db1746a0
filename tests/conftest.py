"""Fixtures that every test may use."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from scantwin.cores import share_cores

share_cores()
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our loggers are on: Flower's database, made in this process, turns off all that it does not know."""
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("scantwin")]:
        monkeypatch.setattr(logging.getLogger(name), "disabled", False)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans beside the repository, or the test is skipped with a sentence."""
    for base in (os.environ.get("SCANTWIN_TEST_DATA"), ROOT.parent / "shared" / "data"):
        if base and (Path(base) / "README.md").exists():
            return Path(base)
    pytest.skip("the real scans of ../shared/data are not here (set SCANTWIN_TEST_DATA to their folder)")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SCANTWIN_HOME of the test's own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("SCANTWIN_HOME", str(folder))
    return folder
