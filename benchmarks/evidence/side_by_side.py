"""Experiments side by side: training a small network uses one core well, but two cores only by two thirds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty
from typing import Final

from benchmarks.evidence.experiments import Kept, module_of, run
from benchmarks.evidence.findings import Setting
from benchmarks.evidence.settings import recipe_for
from benchmarks.evidence.workshop import Bench

from scantwin.interrupts import end_workers, starting_workers, tie_worker
from scantwin.learning.machine import use_threads
from scantwin.learning.recipe import Recipe
from scantwin.terminal import Advance, progress_bar

ROWS: Final = (
    ("diffusion", "sampling", "suv_aware", "districts", "cyclegan", "federated"),
    ("inpainting", "volumes"),
)
"""Experiments that share models stand in one row and run one after the other. One that stands in no row is
given minutes of the whole machine, so it runs alone."""

_ASK_S: Final = 0.2
"""How often the workers' progress is read [s]: a progress bar need not be faster."""

_Words = tuple[str, int, int, str]
"""Name, done, total, text: the progress of an experiment."""

_said: Queue[_Words] | None = None
"""Where a worker reports its progress."""


@dataclass(frozen=True)
class Order:
    """What all experiments of a run share."""

    setting: Setting
    work: Path
    pictures: Path
    again: bool
    """Whether experiments are run again even if their findings are kept."""


def run_all(names: list[str], order: Order, *, quiet: bool) -> Iterator[tuple[str, Kept | None]]:
    """Run `names`, side by side where possible; yield each one's findings as they come.

    Findings are None for an experiment that is not in this checkout.
    """
    rows = together(names)
    bench = Bench(order.setting, order.work, order.pictures)
    if rows:
        with progress_bar("phantoms", quiet=quiet) as advance:  # all rows need them, so they are made first
            bench.prepare(_recipes_of(rows, order.setting), advance)
        with progress_bar("experiments", quiet=quiet) as advance:
            yield from _run_rows(rows, order, advance)
    for name in names:
        if not any(name in row for row in rows):
            with progress_bar(name, quiet=quiet) as advance:
                yield name, run(name, order.setting, bench, advance, again=order.again)


def together(names: list[str]) -> list[list[str]]:
    """Those of `names` that stand in a row, row by row; empty unless two rows can run side by side."""
    rows = [found for row in ROWS if (found := [name for name in names if name in row])]
    return rows if len(rows) > 1 else []


def _recipes_of(rows: list[list[str]], setting: Setting) -> list[Recipe]:
    """The recipes of all experiments in `rows`."""
    modules = [module for row in rows for name in row if (module := module_of(name))]
    return [recipe_for(setting, name) for name in sorted({name for m in modules for name in m.RECIPES})]


def _run_rows(rows: list[list[str]], order: Order, advance: Advance) -> Iterator[tuple[str, Kept | None]]:
    """Run each row in a process with its share of the cores; yield findings as they come."""
    context = get_context("spawn")
    said: Queue[_Words] = context.Queue()
    threads = max(1, len(os.sched_getaffinity(0)) // len(rows))
    latest: dict[str, str] = {}
    with ExitStack() as stack:
        try:
            waiting = {}
            with starting_workers():
                for row in rows:
                    begin = (os.getpid(), threads, said)
                    pool = stack.enter_context(ProcessPoolExecutor(1, context, _begin, begin))
                    waiting.update({pool.submit(_run, name, order): name for name in row})
            every = len(waiting)
            while waiting:
                done, _ = wait(waiting, timeout=_ASK_S, return_when=FIRST_COMPLETED)
                for future in done:
                    name = waiting.pop(future)
                    latest.pop(name, None)
                    yield name, future.result()
                latest |= _heard(said, set(waiting.values()))
                advance(every - len(waiting), every, "; ".join(latest.values()))
        except BaseException:
            end_workers()  # before leaving the pools, which would wait for all they were given
            raise


def _heard(said: Queue[_Words], of: set[str]) -> dict[str, str]:
    """The latest progress of each experiment that still runs."""
    found = {}
    while True:
        try:
            name, done, total, text = said.get_nowait()
        except Empty:
            return found
        if name in of:
            found[name] = f"{text or name} {done}/{total}"


def _begin(parent: int, threads: int, said: Queue[_Words]) -> None:
    global _said  # noqa: PLW0603 - a worker begins once
    tie_worker(parent)
    use_threads(threads)
    _said = said


@cache
def _bench(setting: Setting, work: Path, pictures: Path) -> Bench:
    """One bench for all experiments of a worker, which share what is prepared and measured."""
    return Bench(setting, work, pictures)


def _run(name: str, order: Order) -> Kept | None:
    def advance(done: int, total: int, text: str = "") -> None:
        if _said is not None:
            _said.put((name, done, total, text))

    bench = _bench(order.setting, order.work, order.pictures)
    return run(name, order.setting, bench, advance, again=order.again)
