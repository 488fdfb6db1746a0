"""Signals to a command, as people, shells and `timeout` send them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from scantwin.interrupts import ENDING, ending_signals

PYTHON = (sys.executable, "-c")

# A command that cleans up for two seconds, and says when that is over.
COMMAND = """
import signal, sys, time
from scantwin.interrupts import Ended, end_on_signals, hurry
end_on_signals()
try:
    print("up", flush=True)
    time.sleep(60)
except Ended as ended:
    end = time.monotonic() + 3
    while time.monotonic() < end and not hurry.is_set():
        time.sleep(0.02)
    while "hang" in sys.argv:
        time.sleep(1)
    print("hurried" if hurry.is_set() else "cleaned", flush=True)
    sys.exit(ended.exit_code)
"""


Tied = Callable[[subprocess.Popen[str]], subprocess.Popen[str]]
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tied: Tied) -> Start:
    """Starts a program, and waits until it is up."""

    def start(*argv: str) -> subprocess.Popen[str]:
        # Tests that are run under `nohup` must not hand their deafness to SIGHUP down to the child.
        before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
        try:
            child = tied(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True))
        finally:
            signal.signal(signal.SIGHUP, before)
        assert child.stdout is not None and child.stdout.readline() == "up\n"
        return child

    return start


def end_of(child: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = child.communicate(timeout=20)
    return child.returncode, said.strip()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_two_signals_at_once_are_one_wish(start: Start, number: signal.Signals) -> None:
    child = start(*PYTHON, COMMAND)
    child.send_signal(number)  # `timeout` signals the program, then its group
    time.sleep(0.05)
    child.send_signal(number)
    assert end_of(child) == (128 + number, "cleaned")


def test_a_later_one_hurries_and_a_third_ends_what_hangs(start: Start) -> None:
    child, stuck = start(*PYTHON, COMMAND), start(*PYTHON, COMMAND, "hang")
    for one in (child, stuck):
        one.send_signal(signal.SIGINT)
    time.sleep(1.2)
    for one in (child, stuck):
        one.send_signal(signal.SIGINT)
    assert end_of(child) == (130, "hurried")
    time.sleep(0.3)
    assert stuck.poll() is None
    stuck.send_signal(signal.SIGINT)
    assert end_of(stuck)[0] == 130


def test_a_job_that_was_told_to_ignore_ctrl_c_hears_it_all_the_same(start: Start) -> None:
    # What a shell without job control does to `scantwin demo &`.
    child = start("sh", "-c", "trap '' INT; exec \"$@\"", "sh", *PYTHON, COMMAND)
    child.send_signal(signal.SIGINT)
    assert end_of(child)[0] == 130


# A step that is done whole; in a thread nothing is held back, nor raised.
HELD = """
import sys, threading, time
from scantwin.interrupts import Ended, end_on_signals, held_back
end_on_signals()
def elsewhere():
    with held_back():
        time.sleep(60)
if "elsewhere" in sys.argv:
    threading.Thread(target=elsewhere, daemon=True).start()
try:
    with held_back():
        print("up", flush=True)
        time.sleep(0.7)
        print("whole", flush=True)
        if "fails" in sys.argv:
            raise ValueError
    time.sleep(60)
except Ended as ended:
    print("ended", flush=True)
    sys.exit(ended.exit_code)
"""


@pytest.mark.parametrize("words", [[], ["elsewhere"], ["fails"]])
def test_a_signal_waits_for_what_is_done_whole(start: Start, words: list[str]) -> None:
    child = start(*PYTHON, HELD, *words)
    child.send_signal(signal.SIGTERM)
    assert end_of(child) == (143, "whole\nended")


# Ctrl-C comes while the part of the program that is named is being loaded.
LOADING = """
import os, signal, sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
wanted = sys.argv.pop(1)
sys.meta_path.insert(0, Interrupting())
from scantwin.cli.main import main
main()
"""


@pytest.mark.parametrize("loading", ["scantwin.cli.commands", "typer", "scantwin_clients.commands"])
def test_ctrl_c_while_a_command_is_still_loading(loading: str, tmp_path: Path) -> None:
    words = [*PYTHON, LOADING, loading, "site", "ingest", str(tmp_path)]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 130, done.stdout + done.stderr
    assert done.stderr.strip().startswith("Interrupted.") and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_ctrl_c_at_a_terminal_reaches_workers_too_and_all_end_without_a_word(
    tmp_path: Path, tied: Tied
) -> None:
    out = tmp_path / "cohort"
    words = ["phantom", "cohort", "--out", str(out), "--n", "4", "--voxels", "coarse", "--workers", "2"]
    child = tied(subprocess.Popen(
        [sys.executable, "-m", "scantwin", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ))  # fmt: skip
    end = time.monotonic() + 60
    while not (out / "cohort.json").exists() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(1.0)  # its workers are starting, or at work
    os.killpg(child.pid, signal.SIGINT)
    _said, errors = child.communicate(timeout=60)
    assert child.returncode == 130 and "Traceback" not in errors, errors
    assert errors.strip().startswith("Interrupted.") and not list(out.glob(".part-*"))
    end = time.monotonic() + 10  # on a busy machine a worker is a moment behind
    while (alive := _living(child.pid)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not alive


def _living(session: int) -> list[psutil.Process]:
    found = (p for p in psutil.process_iter(["status"]) if p.info["status"] != psutil.STATUS_ZOMBIE)
    return [p for p in found if _session(p) == session]


def _session(process: psutil.Process) -> int:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return -1


def test_a_hangup_that_is_ignored_ends_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` starts a command
    try:
        assert ending_signals() == (signal.SIGINT, signal.SIGTERM)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        assert ending_signals() == ENDING
    finally:
        signal.signal(signal.SIGHUP, before)
