"""Runs ScanTwin's own commands: calls that answer in JSON, and services that stay up. All end with us."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from scantwin.errors import InputError, ResourceError, ScanTwinError
from scantwin.federation.processes import Child, end_all

_FULL = 1_000_000
"""A disk with less free space [bytes] counts as full: a command that fails on it cannot say so."""


class Runner:
    """Runs commands with a SCANTWIN_HOME of its own; leaving the block ends whatever still runs."""

    def __init__(self, home: Path, logs: Path) -> None:
        self.home, self.logs = home, logs
        self._children: list[Child] = []
        self._env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("SCANTWIN_")},
            "SCANTWIN_HOME": str(home),
            "PYTHONUNBUFFERED": "1",
        }

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Ends every command that still runs."""
        end_all(reversed(self._children))
        self._children.clear()

    def start(self, *words: str) -> Call:
        """Starts a command that answers with one JSON document."""
        call = Call(words, self.logs / f"{words[0]}-{words[1].strip('-')}.log", self._env)
        self._children.append(call.child)
        return call

    def call(self, *words: str, meanwhile: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Runs a command to its end and returns its JSON answer; raises its error as ours."""
        call = self.start(*words)
        try:
            while not call.ended:
                meanwhile()
                time.sleep(0.1)
            return call.answer()
        finally:
            end_all([call.child])
            self._children.remove(call.child)

    def call_all(
        self, calls: list[tuple[str, ...]], at_once: int, meanwhile: Callable[[int], None]
    ) -> list[dict[str, Any]]:
        """Runs commands side by side, `at_once` at a time; returns their answers in the order asked."""
        waiting = list(enumerate(calls))
        running: dict[int, Call] = {}
        answers: dict[int, dict[str, Any]] = {}
        while waiting or running:
            while waiting and len(running) < at_once:
                number, words = waiting.pop(0)
                running[number] = self.start(*words)
            for number in [n for n, call in running.items() if call.ended]:
                answers[number] = running.pop(number).answer()
                meanwhile(len(answers))
            time.sleep(0.05)
        return [answers[number] for number in range(len(calls))]

    def start_service(self, name: str, *words: str) -> Call:
        """Starts a command that stays up until the end."""
        call = Call(words, self.logs / f"{name}.log", self._env)
        call.child.name = name
        self._children.append(call.child)
        return call

    def serve(self, name: str, *words: str, ready_s: float = 60.0) -> dict[str, Any]:
        """Starts a service and waits for the JSON that says it is ready."""
        call = self.start_service(name, *words)
        end = time.monotonic() + ready_s
        while time.monotonic() < end:
            if call.ended:
                raise call.failure()
            with suppress(ValueError):  # nothing yet, or only a part of it
                ready: dict[str, Any] = json.loads(call.written())
                if "error" not in ready:  # else it is about to end
                    return ready
            time.sleep(0.1)
        raise ResourceError(f"{name} was not ready within {ready_s:.0f} s.", hint=f"Its log: {call.log}")

    def check(self) -> None:
        """Raises if a service has ended by itself."""
        for child in self._children:
            if not child.running and child.name.startswith("service"):
                raise ScanTwinError(f"{child.name} ended by itself.", hint=f"Its log: {child.log}")


class Call:
    """One command: standard output is its answer, standard error goes to a log."""

    def __init__(self, words: tuple[str, ...], log: Path, env: dict[str, str]) -> None:
        self.words, self.log = words, log
        self._out = log.with_suffix(f".{time.monotonic_ns()}.json")
        argv = [sys.executable, "-P", "-m", "scantwin", *words, "--json"]
        self.child = Child(" ".join(words[:2]), argv, log, env, answer=self._out)
        self.child.start()

    @property
    def ended(self) -> bool:
        """Whether the command has ended."""
        return not self.child.running

    def written(self) -> str:
        """What it has answered so far."""
        return self._out.read_text()

    def answer(self) -> dict[str, Any]:
        """Its JSON answer, or its error raised as ours."""
        if self.child.exit_code != 0:
            raise self.failure()
        answer: dict[str, Any] = json.loads(self.written())
        self._out.unlink(missing_ok=True)
        return answer

    def failure(self) -> ScanTwinError:
        """The command's own error, or where to read about it."""
        name = f"scantwin {' '.join(self.words[:2])}"
        if shutil.disk_usage(self.log.parent).free < _FULL:
            return ResourceError(
                f"{name}: the disk of {self.log.parent.parent} is full.",
                hint="Free some space and begin again.",
            )
        try:
            error = json.loads(self.written())["error"]
            if isinstance(error, str):  # a failed run gives its reason as plain text
                error = {"message": error}
            kind = InputError if self.child.exit_code == 2 else ScanTwinError
            return kind(f"{name}: {error['message']}", hint=error.get("hint") or f"Its log: {self.log}")
        except (ValueError, KeyError, TypeError):
            last = (self.log.read_text().strip().splitlines() or ["it said nothing"])[-1]
            return ScanTwinError(
                f"{name} ended with code {self.child.exit_code}: {last}", hint=f"Its log: {self.log}"
            )
