"""`scantwin dashboard` as a process: it answers, it ends, it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from scantwin import NOTICE
from scantwin.errors import InputError, ResourceError
from scantwin_dashboard.commands import dashboard

COMMAND = [sys.executable, "-c", "from scantwin.cli.main import main; main()", "dashboard"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _gone(pid: int, within_s: float = 10.0) -> bool:
    until = time.monotonic() + within_s
    while _alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not _alive(pid)


def _start(home: Path, port: int) -> tuple[subprocess.Popen[str], dict]:
    process = subprocess.Popen(
        [*COMMAND, "--port", str(port), "--home", str(home), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    lines = []
    while not lines or lines[-1] != "}\n":
        line = process.stdout.readline()
        assert line, "it ended before it answered"
        lines.append(line)
    return process, json.loads("".join(lines))


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_answers_and_ends_without_an_orphan(end: signal.Signals, filled: Path) -> None:
    port = _free_port()
    process, told = _start(filled, port)
    try:
        assert told["url"] == f"http://127.0.0.1:{port}"
        assert told["notice"] == NOTICE
        assert str(filled) in told["database"]
        with urllib.request.urlopen(told["url"], timeout=10) as answer:  # noqa: S310
            assert answer.status == 200
        assert _alive(told["pid"])
        process.send_signal(end)
        code = process.wait(timeout=20)
        assert code == (-signal.SIGKILL if end == signal.SIGKILL else 0)
        assert _gone(told["pid"])
    finally:
        if process.poll() is None:
            process.kill()
        if _alive(told["pid"]):
            os.kill(told["pid"], signal.SIGKILL)


def test_check_starts_and_ends(home: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--port", str(_free_port()), "--check", "--json"],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["checked"] is True
    assert _gone(told["pid"])
    assert f"there is no database at {told['database']} yet" in " ".join(done.stderr.split()), "an empty home"


def test_a_busy_port_is_one_sentence_and_exit_code_1(home: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(ResourceError, match=f"cannot listen on 127.0.0.1:{port}") as told:
            dashboard(port=port, host="127.0.0.1", home=None, check=False, as_json=False)
    assert told.value.exit_code == 1
    assert "--port" in told.value.hint


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])  # noqa: S104
def test_other_machines_see_nothing_without_a_proxy_in_front(
    host: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scantwin_dashboard.commands._start", _reached)
    with pytest.raises(
        InputError, match=f"reach the address {host}, and the dashboard has neither TLS"
    ) as told:
        dashboard(port=_free_port(), host=host)
    assert told.value.exit_code == 2
    assert "--host 127.0.0.1" in told.value.hint and "--behind-proxy" in told.value.hint


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_this_machine_needs_no_proxy(
    host: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("scantwin_dashboard.commands._require_free", lambda *_: None)  # without IPv6 too
    monkeypatch.setattr("scantwin_dashboard.commands._start", _reached)
    with pytest.raises(_ReachedError):
        dashboard(port=_free_port(), host=host)
    assert "no login" not in capsys.readouterr().err


def test_behind_a_proxy_it_warns_and_starts(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("scantwin_dashboard.commands._start", _reached)
    with pytest.raises(_ReachedError):
        dashboard(port=_free_port(), host="0.0.0.0", behind_proxy=True)  # noqa: S104
    said = " ".join(capsys.readouterr().err.split())
    assert "warning: the dashboard has no login; whoever reaches 0.0.0.0:" in said


class _ReachedError(Exception):
    """Raised in place of a step, to show that the command came as far as that."""


def _reached(*_: object) -> None:
    raise _ReachedError
