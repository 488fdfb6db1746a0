"""Being ended by a signal, in one place: the first one unwinds the command, later ones only hurry it.

A shell's Ctrl-C, `timeout -s INT` (which signals twice) and an impatient person all send more than one. A
second `KeyboardInterrupt` in the middle of the cleaning up would leave behind what was to be cleaned up.
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
"""What ends a command: Ctrl-C, `kill` and its service manager, a terminal that closes."""

hurry = threading.Event()
"""Set by a second signal: whoever waits for others to end politely stops waiting."""

_SAME_S: Final = 1.0
"""Signals so soon after the first are the same wish: `timeout` signals the program and then its group [s]."""

_PR_SET_PDEATHSIG: Final = 1
"""Linux, `prctl(2)`: the signal that the kernel sends us when the thread that started us ends."""


class Ended(KeyboardInterrupt):
    """The command was asked to end."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    @property
    def exit_code(self) -> int:
        """As a shell says it: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP."""
        return 128 + self.number


_first: tuple[int, float] | None = None
"""The first signal and when it came [s, monotonic]."""

_holding = False
"""Whether the main thread is in a block of `held_back`."""

_waiting = False
"""Whether a signal came there, and is still to be raised."""


def end_on_signals() -> None:
    """From now on the first signal raises `Ended` in the main thread, the next sets `hurry`, a third ends us.

    A shell tells the jobs it starts with `&` to ignore SIGINT; who sends us one all the same means us.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in ending_signals():
        signal.signal(number, _on_signal)


def ending_signals() -> tuple[signal.Signals, ...]:
    """Those of `ENDING` that end this process: a SIGHUP that is ignored (`nohup`) stays ignored."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return tuple(number for number in ENDING if not (ignored and number == signal.SIGHUP))


def signalled() -> int | None:
    """The signal that ends this process, once there was one."""
    return None if _first is None else _first[0]


@contextmanager
def held_back() -> Iterator[None]:
    """The first signal that comes in the block ends the command at the block's end: it is done whole.

    For what takes seconds. In other threads than the main one, where no signal is raised, it does nothing.
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
    """Around the start of worker processes: Ctrl-C at the terminal is for us, and we end them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def tie_worker(parent: int) -> None:
    """First words of a worker process: it ends with `parent`, however that ends. It holds nothing unsaved."""
    if sys.platform == "linux":
        import ctypes  # not for every command that only listens to signals

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(143)


def end_workers() -> None:
    """Ends the worker processes of this process at once: who is interrupted does not wait for their work."""
    import multiprocessing

    workers = multiprocessing.active_children()
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join(timeout=5.0)
