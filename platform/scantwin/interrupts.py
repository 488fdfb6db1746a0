"""Handles ending signals in one place: the first unwinds the command, later ones only hurry it.

A shell's Ctrl-C, `timeout -s INT` (which signals twice) and an impatient person all send more than one. A
second `KeyboardInterrupt` during the clean-up would leave things behind that should have been cleaned up.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a command: Ctrl-C, `kill` or a service manager, a terminal that closes."""

hurry = threading.Event()
"""Set by a second signal: code that is waiting for others to end by themselves stops waiting."""

_SAME_S: Final = 1.0
"""A signal this soon [s] after the first only repeats it: `timeout` signals the program, then its group."""

_PR_SET_PDEATHSIG: Final = 1
"""Linux, `prctl(2)`: the signal that the kernel sends us when the thread that started us ends."""


class Ended(KeyboardInterrupt):
    """The command was asked to end."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    @property
    def exit_code(self) -> int:
        """As a shell reports it: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP."""
        return 128 + self.number


_first: tuple[int, float] | None = None
"""The first signal and when it came [s, monotonic]."""

_holding = False
"""Whether the main thread is in a block of `held_back`."""

_waiting = False
"""Whether a signal came in such a block and must still be raised."""


def end_on_signals() -> None:
    """From now on the first signal raises `Ended` in the main thread, the next sets `hurry`, a third ends us.

    A shell makes the jobs it starts with `&` ignore SIGINT; whoever sends us one all the same means us.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in ending_signals():
        signal.signal(number, _on_signal)


def ending_signals() -> tuple[signal.Signals, ...]:
    """The signals of `ENDING` that end this process: a SIGHUP that is ignored (`nohup`) stays ignored."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return tuple(number for number in ENDING if not (ignored and number == signal.SIGHUP))


def signalled() -> int | None:
    """The signal that is ending this process; None if there was none."""
    return None if _first is None else _first[0]


@contextmanager
def held_back() -> Iterator[None]:
    """Delays the first signal that comes in the block until the block's end, so that the block completes.

    For work of some seconds. It does nothing outside the main thread, where no signal is raised.
    """
    global _holding, _waiting  # noqa: PLW0603 - a process is ended once
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _holding = True
    try:
        yield
    finally:
        _holding = False
        if _waiting and _first is not None:
            _waiting = False
            raise Ended(_first[0])


def _on_signal(number: int, _frame: FrameType | None) -> None:
    global _first, _waiting  # noqa: PLW0603 - a process is ended once
    if _first is None:
        _first = (number, time.monotonic())
        if not _holding:
            raise Ended(number)
        _waiting = True
        return
    if time.monotonic() - _first[1] < _SAME_S:
        return
    if hurry.is_set():  # something hangs; what we started is tied to us and ends too
        os._exit(128 + number)
    hurry.set()


@contextmanager
def starting_workers() -> Iterator[None]:
    """Wraps the start of worker processes: Ctrl-C at the terminal reaches only us, and we end them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def tie_worker(parent: int) -> None:
    """Call first in a worker: it then ends when `parent` does, in whatever way. It holds nothing unsaved."""
    if sys.platform == "linux":
        import ctypes  # local: a command that only listens to signals does without

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(143)


def end_workers() -> None:
    """Kills the worker processes of this process: an interrupted command does not wait for their work."""
    import multiprocessing

    workers = multiprocessing.active_children()
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join(timeout=5.0)
