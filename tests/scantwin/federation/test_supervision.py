"""What ends is started again, later each time; a stop is orderly."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from scantwin.federation.processes import Child
from scantwin.federation.supervision import Supervisor, stop_on_signals, watch


def supervised(tmp_path: Path, script: str) -> tuple[Supervisor, list[str]]:
    said: list[str] = []
    child = Child("child", [sys.executable, "-c", script], tmp_path / "log")
    return Supervisor([child], lambda name, what: said.append(f"{name} {what}")), said


def run_until(supervisor: Supervisor, enough: Callable[[], bool]) -> None:
    """Watches until that is so; half a minute is more than any machine needs."""
    stop = threading.Event()
    end = time.monotonic() + 30

    def look() -> None:
        if enough():
            stop.set()
        elif time.monotonic() > end:
            pytest.fail("it did not come to that")

    watch(supervisor, stop, look)


def test_a_child_that_ends_is_started_again_with_growing_delays(tmp_path: Path) -> None:
    supervisor, said = supervised(tmp_path, "print('here', flush=True); raise SystemExit(7)")
    supervisor.first_delay_s = 0.2

    def ends() -> list[str]:
        return [line for line in said if "ended with code 7" in line]

    try:
        supervisor.start()
        run_until(supervisor, lambda: len(ends()) == 3)
    finally:
        supervisor.end(grace_s=1)
    assert [line.partition("restart in ")[2].split()[0] for line in ends()] == ["0.2", "0.4", "0.8"]
    assert (tmp_path / "log").read_text().count("here") == 3


def test_a_child_that_stays_is_left_alone(tmp_path: Path) -> None:
    supervisor, said = supervised(tmp_path, "import time; time.sleep(600)")
    try:
        supervisor.start()
        looks = count()
        run_until(supervisor, lambda: next(looks) == 3)
        assert supervisor.children[0].running
    finally:
        supervisor.end(grace_s=1)
    assert said == []
    assert not supervisor.children[0].running


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_watch_and_are_given_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_on_signals() as stop:
        os.kill(os.getpid(), number)
        assert stop.wait(1.0)
    assert signal.getsignal(number) is before


def test_under_nohup_a_hangup_does_not_end_the_watch() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.is_set() and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_end_is_told_with_its_reason_and_its_log(tmp_path: Path) -> None:
    supervisor, said = supervised(tmp_path, "print('INFO :  begun', flush=True); open('/no/such/file')")
    supervisor.first_delay_s = 60.0
    try:
        supervisor.start()
        run_until(supervisor, lambda: bool(said))
    finally:
        supervisor.end(grace_s=1)
    assert said == [
        "child ended with code 1: FileNotFoundError: [Errno 2] No such file or directory: '/no/such/file'; "
        f"restart in 60 s (log {tmp_path / 'log'})"
    ]


def test_what_was_killed_said_nothing_of_its_end(tmp_path: Path) -> None:
    script = "import os; print('ERROR :  of yesterday', flush=True); os.kill(os.getpid(), 9)"
    supervisor, said = supervised(tmp_path, script)
    try:
        supervisor.start()
        run_until(supervisor, lambda: bool(said))
    finally:
        supervisor.end(grace_s=1)
    assert said[0].startswith("child ended with code -9; restart")
