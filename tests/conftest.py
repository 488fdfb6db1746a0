"""Fixtures that every test may use."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from scantwin.cores import share_cores

share_cores()
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

# The same examples on every machine and in every order of tests, however slow the machine is.
settings.register_profile("same-everywhere", deadline=None, derandomize=True)
settings.load_profile("same-everywhere")

ROOT = Path(__file__).parents[1]

GRACE_S = 20.0
"""How long a program of a test that failed may clean up [s]; a demo ends its dozen programs in half of it."""


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
def tied() -> Iterator[Callable[[subprocess.Popen[str]], subprocess.Popen[str]]]:
    """Ties a program to the test: if the test fails while it runs, it is ended, by force if need be."""

    def end(process: subprocess.Popen[str]) -> None:
        if process.poll() is not None:
            return
        process.terminate()
        try:
            process.communicate(timeout=GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()

    with ExitStack() as ends:

        def tie(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
            ends.callback(end, process)
            return process

        yield tie


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SCANTWIN_HOME of the test's own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("SCANTWIN_HOME", str(folder))
    return folder
