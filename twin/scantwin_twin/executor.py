"""Where a scan is computed: one interface, and the executor of this machine.

`LocalExecutor` keeps one child process (`scantwin_twin.worker`): the service answers while it computes, a
cancelled scan stops at once, and a crash or a lack of memory ends the child, not the service. The two
exchange JSON lines through pipes; the child ends by itself when the service is gone, however that happened.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

log = logging.getLogger(__name__)

_SECRETS: Final = ("SCANTWIN_TWIN_TOKEN", "SCANTWIN_DATABASE_URL")
"""Kept from the worker, which does not need them: it reads one CT and one model and writes one folder."""

_TICK_S: Final = 0.1


@dataclass(frozen=True)
class Work:
    """One scan to compute. Paths are absolute."""

    scan: str
    ct: str
    """A NIfTI file or a zip of DICOM."""
    model: str
    """A model's folder."""
    version: str
    seed: int
    out: str
    """The folder of the results; it does not exist yet."""


@dataclass(frozen=True)
class Outcome:
    """How the work ended: with a summary, an error {code, message, hint, bad_input}, or stopped (neither)."""

    summary: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


STOPPED: Final = Outcome()


class Executor(Protocol):
    """Computes scans. `run` is called from one thread per slot."""

    slots: int
    """How many scans it computes at once."""

    def run(self, work: Work, progress: Callable[[float, str], None], stop: threading.Event) -> Outcome:
        """Blocks until the work has ended or `stop` is set; `progress` receives (0..1, stage)."""

    def close(self) -> None:
        """Ends everything that was started."""


class LocalExecutor:
    """One child process on this machine, kept warm between scans."""

    slots = 1

    def __init__(
        self, *, limit_s: float = 3600.0, idle_s: float = 600.0, module: str = "scantwin_twin.worker"
    ) -> None:
        """A scan that takes longer than `limit_s` [s] is ended; an idle child ends after `idle_s` [s]."""
        self._limit_s, self._idle_s, self._module = limit_s, idle_s, module
        self._child: _Child | None = None
        self._lock = threading.Lock()
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is one."""
        child = self._child
        return child.process.pid if child is not None and child.process.poll() is None else None

    def run(self, work: Work, progress: Callable[[float, str], None], stop: threading.Event) -> Outcome:
        """Computes `work` in the child."""
        for fresh in (False, True):
            child = self._ready(fresh)
            if child is None:
                return STOPPED
            try:
                outcome = self._follow(child, work, progress, stop)
            except BaseException:
                child.end()  # nobody listens to this work any more; its reports must not reach the next
                raise
            if outcome is not None:
                return outcome
            # A warm child may end, for want of work, at the moment when work is sent: try once more.
        return Outcome(error=_died(None))

    def close(self) -> None:
        """Ends the child."""
        with self._lock:
            self._closed = True
            child, self._child = self._child, None
        if child is not None:
            child.end()

    def _ready(self, fresh: bool) -> _Child | None:
        with self._lock:
            if self._closed:
                return None
            if self._child is not None and (fresh or self._child.process.poll() is not None):
                self._child.end()
                self._child = None
            if self._child is None:
                self._child = _Child(self._module, self._idle_s)
            return self._child

    def _follow(
        self, child: _Child, work: Work, progress: Callable[[float, str], None], stop: threading.Event
    ) -> Outcome | None:
        """The outcome, or None if the child was gone before it took the work."""
        begun = False
        child.send(asdict(work))
        until = time.monotonic() + self._limit_s
        while not stop.is_set():
            if time.monotonic() > until:
                child.end()
                return Outcome(error=_too_long(self._limit_s))
            try:
                report = child.reports.get(timeout=_TICK_S)
            except queue.Empty:
                continue
            match report:
                case None:
                    code = child.process.wait()
                    return Outcome(error=_died(code)) if begun or code else None
                case {"progress": fraction, "stage": stage}:
                    begun = True
                    progress(float(fraction), str(stage))
                case {"done": summary}:
                    return Outcome(summary=summary)
                case {"failed": error}:
                    return Outcome(error=error)
                case _:
                    log.error("the worker said something unknown")
        child.end()
        return STOPPED


class _Child:
    """The worker process and the two pipes to it."""

    def __init__(self, module: str, idle_s: float) -> None:
        environment = {key: value for key, value in os.environ.items() if key not in _SECRETS}
        # A session of its own: Ctrl-C at the terminal is for the service, which then ends its child.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(idle_s)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True,
        )  # fmt: skip
        self.reports: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._listen, name="twin-worker-reports", daemon=True).start()

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None  # noqa: S101  # it was asked for as a pipe
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            log.info("the worker is gone; a new one is started")

    def end(self) -> None:
        """Ends the process and everything in its session, at once: it holds nothing that is not on disk."""
        if self.process.poll() is None:  # once reaped, its id may be another process's
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        with suppress(OSError):
            assert self.process.stdin is not None  # noqa: S101  # it was asked for as a pipe
            self.process.stdin.close()

    def _listen(self) -> None:
        assert self.process.stdout is not None  # noqa: S101  # it was asked for as a pipe
        with self.process.stdout as lines:
            for line in lines:
                try:
                    report = json.loads(line)
                except ValueError:
                    report = {}
                self.reports.put(report)
        self.reports.put(None)


def _died(code: int | None) -> dict[str, str]:
    if code is not None and code < 0:
        how = f"was ended by signal {-code} ({signal.Signals(-code).name})"
    else:
        how = "ended" if code is None else f"ended with code {code}"
    hint = "Often the memory was not enough: see the service's log, then submit the CT again."
    return {"code": "worker-died", "message": f"The process that computed the scan {how}.", "hint": hint}


def _too_long(limit_s: float) -> dict[str, str]:
    hint = "Choose a smaller CT or a faster model, or raise --scan-limit at the service."
    return {"code": "scan-too-long", "message": f"The scan took longer than {limit_s:g} s.", "hint": hint}
