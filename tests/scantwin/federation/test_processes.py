"""Children end with us, with all that they started, and leave no port held."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from scantwin.errors import ResourceError
from scantwin.federation.processes import Child, end_all, program, require_free_port, wait_for_port

# A server that starts a helper which ignores SIGTERM, and that leaves an orphan behind.
TREE = """
import os, socket, subprocess, sys, time
stubborn = "from signal import *; import time; signal(SIGTERM, SIG_IGN); print(1, flush=True); time.sleep(99)"
subprocess.Popen([sys.executable, "-c", stubborn])
middle = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])"
subprocess.run([sys.executable, "-c", middle])
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("up", flush=True)
while True:
    server.accept()
"""


def wait_until(what: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.05)
    return False


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def in_session(session: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[tuple[Child, int]]:
    port = free_port()
    child = Child("tree", [sys.executable, "-c", TREE, str(port)], tmp_path / "logs" / "tree.log")
    child.start()
    yield child, port
    end_all([child], grace_s=0.5)


def test_a_whole_tree_ends(tree: tuple[Child, int]) -> None:
    child, port = tree
    assert wait_for_port("127.0.0.1", port, timeout_s=10, child=child)
    assert child.process is not None
    assert wait_until(lambda: len(in_session(child.process.pid)) == 3 and "1\n" in child.output())
    with pytest.raises(ResourceError, match="already in use"):
        require_free_port("127.0.0.1", port, what="The SuperLink")
    began = time.monotonic()
    end_all([child], grace_s=1.0)
    assert time.monotonic() - began < 5
    assert in_session(child.process.pid) == []
    assert not child.running
    require_free_port("127.0.0.1", port, what="The SuperLink")


def test_orphans_of_a_crash_are_found(tree: tuple[Child, int]) -> None:
    child, port = tree
    assert wait_for_port("127.0.0.1", port, timeout_s=10, child=child)
    assert child.process is not None
    child.process.kill()
    child.process.wait()
    assert in_session(child.process.pid) != []
    end_all([child], grace_s=0.5)
    assert in_session(child.process.pid) == []


def test_children_do_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = (
        "import sys, time; from pathlib import Path; from scantwin.federation.processes import Child;"
        "c = Child('c', [sys.executable, '-c', 'import time; time.sleep(600)'], Path(sys.argv[1]));"
        "c.start(); print(c.process.pid, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", parent, str(tmp_path / "log")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    # The tie is made in the child's first milliseconds, before it becomes the program.
    assert wait_until(lambda: "sleep" in " ".join(psutil.Process(pid).cmdline()[-1:]))
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie")


def test_output_is_that_of_the_last_start(tmp_path: Path) -> None:
    child = Child("talker", [sys.executable, "-c", "print('first'); print('last')"], tmp_path / "log")
    for _ in range(2):
        child.start()
        assert wait_until(lambda: child.exit_code == 0)
    assert child.output() == "first\nlast\n"
    assert child.last_words(1) == "last"
    assert (tmp_path / "log").read_text().count("first") == 2


def test_a_child_that_ends_is_not_waited_for(tmp_path: Path) -> None:
    child = Child("brief", [sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "log")
    child.start()
    began = time.monotonic()
    assert not wait_for_port("127.0.0.1", free_port(), timeout_s=30, child=child)
    assert time.monotonic() - began < 10
    assert child.exit_code == 3


def test_programs_are_those_beside_our_interpreter() -> None:
    assert program("flower-superlink").startswith(str(Path(sys.executable).parent))
    with pytest.raises(ResourceError, match="not installed"):
        program("no-such-program")
