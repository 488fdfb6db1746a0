"""Keeping child processes alive: restarts with backoff, an orderly end on SIGINT and SIGTERM."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from scantwin.federation.complaints import complaint
from scantwin.federation.processes import Child, end_all
from scantwin.interrupts import ending_signals

FIRST_DELAY_S = 1.0
"""Delay before the first restart [s]; it doubles up to `LONGEST_DELAY_S`."""

LONGEST_DELAY_S = 30.0
"""Longest delay between restarts [s]. Flower refuses a crashed site's key for up to about 70 s."""

STEADY_S = 60.0
"""A child that ran this long [s] has recovered: its next restart is prompt again."""

_LOOK_EVERY_S = 0.2
_HEARD_BYTES = 64_000
"""How much of the end of a child's log is searched for the reason why it ended [bytes]."""

Report = Callable[[str, str], None]
"""Called with a child's name and what happened to it."""


@dataclass
class _State:
    delay: float
    started: float = 0.0
    restart_at: float | None = None


@dataclass
class Supervisor:
    """Starts children in order, restarts those that end, and ends all of them."""

    children: Sequence[Child]
    report: Report
    first_delay_s: float = FIRST_DELAY_S
    _states: dict[str, _State] = field(default_factory=dict)

    def start(self) -> None:
        """Starts all children. To be called from the main thread only."""
        for child in self.children:
            self._start(child)

    def look(self) -> None:
        """Looks after the children once: notes which ended, restarts those whose delay is over."""
        now = time.monotonic()
        for child in self.children:
            state = self._states.setdefault(child.name, _State(self.first_delay_s))
            if child.running:
                continue
            if state.restart_at is None:
                if now - state.started > STEADY_S:
                    state.delay = self.first_delay_s
                self.report(child.name, f"{_end_of(child)}; restart in {state.delay:g} s (log {child.log})")
                state.restart_at = now + state.delay
                state.delay = min(2 * state.delay, LONGEST_DELAY_S)
            elif now >= state.restart_at:
                end_all([child], grace_s=1.0)  # what it left running may hold its port
                self._start(child)
                self.report(child.name, "started again")

    def end(self, grace_s: float = 8.0) -> None:
        """Ends all children and what they started."""
        end_all(self.children, grace_s)

    def _start(self, child: Child) -> None:
        child.start()
        state = self._states.setdefault(child.name, _State(self.first_delay_s))
        state.started, state.restart_at = time.monotonic(), None


def _end_of(child: Child) -> str:
    """How a child ended and, if it said so, why; a killed one said nothing of its end."""
    code = child.exit_code or 0
    why = complaint(child.output(_HEARD_BYTES)) if code > 0 else ""
    return f"ended with code {code}" + (f": {why}" if why else "")


def watch(supervisor: Supervisor, stop: threading.Event, each_look: Callable[[], None] | None = None) -> None:
    """Looks after the children until `stop` is set; `each_look` is called about five times a second."""
    while not stop.wait(_LOOK_EVERY_S):
        supervisor.look()
        if each_look is not None:
            each_look()


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGINT, SIGTERM and SIGHUP set; afterwards the former handlers are restored."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in ending_signals()}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
