"""Child processes that end when we end, with all their descendants, and leave no port occupied."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from scantwin.errors import ResourceError
from scantwin.interrupts import hurry

# Runs in the child's process before its program does: the kernel ends the child when we die, however we die
# (prctl PR_SET_PDEATHSIG = 1, kept across exec). Not a preexec_fn, which may deadlock in a threaded parent.
_TIE = (
    "import ctypes,os,sys;"
    "ctypes.CDLL(None).prctl(1,15);"
    "os.getppid()==int(sys.argv[1]) or os._exit(143);"
    "os.execv(sys.argv[2],sys.argv[2:])"
)


@dataclass
class Child:
    """A program, its log and its environment; started and ended as one tree."""

    name: str
    argv: Sequence[str]
    log: Path
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    answer: Path | None = None
    """Where its standard output goes, if not to the log."""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    log_start: int = 0
    """Where this start begins in the log [bytes]."""

    def start(self) -> None:
        """Starts the program in its own session, with its output in the log. From the main thread only.

        The kernel ends a tied child when the *thread* that started it ends.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as files:
            log = files.enter_context(self.log.open("ab"))
            self.log_start = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), *map(str, self.argv)],
                stdin=subprocess.DEVNULL,
                stdout=log if self.answer is None else files.enter_context(self.answer.open("wb")),
                stderr=log,
                env=None if self.env is None else dict(self.env),
                cwd=self.cwd,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether the program is running."""
        return self.process is not None and self.process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit code, once it has ended; negative for a signal."""
        return None if self.process is None else self.process.poll()

    def output(self, last: int | None = None) -> str:
        """What this start has written so far, or its last `last` bytes."""
        try:
            with self.log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(self.log_start if last is None else max(self.log_start, size - last))
                return log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def last_words(self, lines: int = 5) -> str:
        """The last lines of its output, for an error message."""
        written = [line for line in self.output().splitlines() if line.strip()]
        return "\n".join(written[-lines:])


def end_all(children: Iterable[Child], grace_s: float = 8.0) -> None:
    """Ends the programs and everything that they started: first politely, then by force.

    Members are found by descent and by session, so that orphans of a crashed program are found too. A second
    signal to us (`scantwin.interrupts.hurry`) cuts the grace period short.
    """
    started = [child for child in children if child.process is not None]
    sessions = {child.process.pid for child in started if child.process is not None}
    members = _members(sessions)
    for member in members:
        with suppress(psutil.NoSuchProcess):
            member.send_signal(signal.SIGTERM)
    alive = _wait(members, grace_s)
    for member in {*alive, *_members(sessions)}:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(alive, timeout=5.0)
    for child in started:
        if child.process is not None:
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(timeout=5.0)


def _wait(members: Iterable[psutil.Process], grace_s: float) -> list[psutil.Process]:
    """Those that still run after the grace period, which ends early when someone hurries us."""
    end = time.monotonic() + grace_s
    alive = list(members)
    while alive and time.monotonic() < end and not hurry.is_set():
        _, alive = psutil.wait_procs(alive, timeout=0.2)
    return alive


def _members(sessions: set[int]) -> set[psutil.Process]:
    members: set[psutil.Process] = set()
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
            if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                members.add(process)
                members.update(process.children(recursive=True))
    return members


def program(name: str) -> str:
    """The path of a program installed beside our interpreter: PATH may point elsewhere."""
    # Not resolved: the interpreter of a virtual environment is a link out of it.
    path = Path(sys.executable).parent / name
    if not path.is_file():
        raise ResourceError(
            f"The program {name} is not installed beside {sys.executable}.",
            hint="pip install 'scantwin[all]'",
        )
    return str(path)


def require_free_port(
    host: str, port: int, *, what: str, choose: str = "Choose another port with --port"
) -> None:
    """Raises `ResourceError` if the port is already taken; `choose` says how to use another."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port that only waits for old connections to expire is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ResourceError(
                f"{what} cannot listen on {host}:{port}: {(error.strerror or str(error)).lower()}.",
                hint=f"{choose}, or stop what holds it.",
            ) from None


def wait_for_port(host: str, port: int, *, timeout_s: float, child: Child | None = None) -> bool:
    """Waits until something accepts connections; False when time is up or the child has ended."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if child is not None and not child.running:
            return False
        with suppress(OSError), socket.create_connection((host, port), timeout=1.0):
            return True
        time.sleep(0.1)
    return False
