"""`scantwin twin serve` as a process: readiness, signals, crashes, busy ports. No child is ever left."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil
import pytest

from scantwin.store.database import Database
from scantwin.store.models import AuditEntry, Scan
from scantwin_twin.client import TwinClient
from scantwin_twin.v1 import twin_pb2 as pb

SCANTWIN = [sys.executable, "-c", "from scantwin.cli.main import main; main()", "twin"]
GUARD_S = 150.0
"""No machine that is merely busy takes this long for one step of a test [s]."""


@contextmanager
def serving(home, *arguments, port=0):
    """The service as a process, its readiness line read; killed at the end with all of its children."""
    environment = {**os.environ, "SCANTWIN_HOME": str(home)}
    # The log is a file: a child that outlived the service would hold a pipe open, and the test would hang.
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            [*SCANTWIN, "serve", "--json", "--port", str(port), *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=log, env=environment, text=True,
        )  # fmt: skip
    try:
        line = process.stdout.readline()
        assert line.startswith('{"ready"'), line + (home / "log").read_text()
        yield process, json.loads(line)
    finally:
        for child in (*_children(process), process):
            child.kill()
        process.wait()
        process.stdout.close()


def _gone(children) -> bool:
    """Whether all have ended; those that have not are ended now."""
    alive = psutil.wait_procs(children, timeout=5)[1]
    for child in alive:
        child.kill()
    return bool(children) and not alive


def _children(process) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _run(*arguments, home) -> subprocess.CompletedProcess:
    environment = {**os.environ, "SCANTWIN_HOME": str(home)}
    return subprocess.run(
        [*SCANTWIN, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        timeout=GUARD_S,
    )


def _until_running(client, scan_id, process) -> list[psutil.Process]:
    until = time.monotonic() + GUARD_S
    while time.monotonic() < until:
        if client.get(scan_id).status == pb.STATUS_RUNNING and (children := _children(process)):
            return children
        time.sleep(0.005)
    raise AssertionError("the scan never ran")


def _status(home, scan_id) -> tuple[str, int]:
    with Database(f"sqlite:///{home / 'scantwin.db'}").session() as session:
        again = session.query(AuditEntry).filter_by(subject=scan_id, action="scan.queued").count()
        return session.get(Scan, scan_id).status, again


def test_what_was_running_goes_on_after_a_crash_and_after_a_stop(tmp_path, ct_file, model_folder, free_port):
    with serving(tmp_path, "--model", model_folder) as (process, ready):
        assert ready["ready"] and ready["models"] == 1 and not ready["tls"]
        with TwinClient(ready["address"]) as client:
            scan = client.submit(ct_file, model="tiny").id
            children = _until_running(client, scan, process)
            process.kill()
            process.wait()
        # The worker notices that its input ended, although nobody could tell it.
        assert _gone(children)
        assert _status(tmp_path, scan) == ("running", 0)
    (tmp_path / "uploads" / ".upload-cut").mkdir()

    # Started again, and asked to stop before that scan is done, while two watchers look on.
    with TwinClient(f"127.0.0.1:{free_port}") as client, ThreadPoolExecutor(1) as pool:
        with serving(tmp_path, port=free_port) as (process, _ready):
            assert not (tmp_path / "uploads" / ".upload-cut").exists()
            children = _until_running(client, scan, process)
            patient = pool.submit(client.wait, scan)
            events = client._calls.WatchScan(pb.WatchScanRequest(id=scan))
            assert next(events).status == pb.STATUS_RUNNING
            process.send_signal(signal.SIGTERM)
            assert process.wait(GUARD_S) == 0
            with pytest.raises(grpc.RpcError, match="goes on when it is started again"):
                list(events)
            assert _gone(children)
            assert _status(tmp_path, scan) == ("queued", 2)
            assert "Traceback" not in (tmp_path / "log").read_text()
        with serving(tmp_path, port=free_port):
            assert patient.result(GUARD_S).status == pb.STATUS_DONE


def test_a_busy_port_is_one_sentence(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = _run("serve", "--port", taken.getsockname()[1], home=tmp_path)
    assert refused.returncode == 1
    assert "cannot listen at 127.0.0.1" in refused.stderr and "hint" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 2, refused.stderr
    assert "error" not in refused.stdout


def test_a_second_service_on_one_home_or_an_open_address_is_refused(tmp_path, free_port):
    with serving(tmp_path) as (process, _ready):
        refused = _run("serve", "--port", free_port, home=tmp_path)
        assert refused.returncode == 1 and "Another twin service runs on" in refused.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(GUARD_S) == 0
    opened = _run("serve", "--host", "0.0.0.0", "--port", free_port, home=tmp_path)  # noqa: S104
    assert opened.returncode == 2 and "--tls-cert" in opened.stderr and "Traceback" not in opened.stderr


def test_a_terminal_that_closes_does_not_end_a_service_that_nohup_started(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does: what is ignored is inherited
    try:
        with serving(tmp_path) as (process, _ready):
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert int(re.search(r"SigIgn:\s*(\w+)", status)[1], 16) & 1 << signal.SIGHUP - 1
            process.send_signal(signal.SIGTERM)
            assert process.wait(GUARD_S) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_help_has_examples_and_needs_no_grpc_and_no_torch():
    names = ["serve", "submit", "watch", "list", "export", "cancel"]
    code = (
        "import sys; sys.modules['grpc'] = sys.modules['torch'] = None\n"
        "from typer.testing import CliRunner; from scantwin_twin.commands import app\n"
        f"for name in {names}: print(CliRunner().invoke(app, [name, '--help']).output)"
    )
    arguments = [sys.executable, "-c", code]
    shown = subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=GUARD_S)
    for name in names:
        assert f"scantwin twin {name}" in shown.stdout, shown.stderr
