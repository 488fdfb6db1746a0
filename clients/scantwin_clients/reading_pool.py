"""Processes that read studies, a few at a time; a study that crashes its reader harms no other."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Final, Generic, TypeVar

from scantwin.imaging.dicom_files import FileRef
from scantwin.imaging.dicom_series import IndexEntry, index_file
from scantwin.interrupts import end_workers, starting_workers, tie_worker

Task = TypeVar("Task")
Answer = TypeVar("Answer")

_CHUNK: Final = 250
"""Files whose headers one worker indexes at a time: about a tenth of a second."""


_FEW: Final = 4000
"""Up to this many files, one process is done before others have started."""


class ReadingPool(Generic[Task, Answer]):
    """Workers that turn a task into an answer with the function `work`; all must be picklable."""

    def __init__(self, workers: int, work: Callable[[Task], Answer], crashed: Answer) -> None:
        """`crashed` is the answer for a task that kills its worker (out of memory, a crash in a decoder).

        With 0 workers everything is done in this process.
        """
        self.workers = workers
        self._work = work
        self._crashed = crashed
        self._pool: ProcessPoolExecutor | None = None

    def index(self, refs: list[FileRef]) -> Iterator[IndexEntry | None]:
        """The index entries of many files, in order; read by the workers if there are many."""
        if len(refs) <= _FEW or self.workers <= 1:
            yield from map(index_file, refs)
            return
        chunks = [refs[i : i + _CHUNK] for i in range(0, len(refs), _CHUNK)]
        with starting_workers():
            indexed = self._start().map(_index_files, chunks)
        for entries in indexed:
            yield from entries

    def answers(self, tasks: dict[str, Task]) -> Iterator[tuple[str, Answer]]:
        """Name and answer of every task, as they come; at most two tasks per worker are in progress."""
        if self.workers == 0:
            yield from ((name, self._work(task)) for name, task in tasks.items())
            return
        waiting = list(tasks.items())[::-1]
        running: dict[Future[Answer], str] = {}
        while waiting or running:
            while waiting and len(running) < 2 * self.workers:
                name, task = waiting[-1]
                try:
                    running[self._submit(task)] = name
                except BrokenProcessPool:  # a reader died while our caller was busy; `done` will say so
                    if not running:
                        self.close()
                    break
                waiting.pop()
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            suspects: list[str] = []
            for future in done:
                name = running.pop(future)
                try:
                    yield name, future.result()
                except BrokenProcessPool:
                    suspects.append(name)
            if suspects:
                # It is unknown whose fault it was: each task that was in progress is tried alone.
                suspects += [running.pop(future) for future in list(running)]
                yield from self._each_alone({name: tasks[name] for name in suspects})

    def abandon(self) -> None:
        """Ends the workers in the middle of their reading."""
        end_workers()
        self.close()

    def close(self) -> None:
        """Ends the workers."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _each_alone(self, tasks: dict[str, Task]) -> Iterator[tuple[str, Answer]]:
        for name, task in tasks.items():
            self.close()
            try:
                answer = self._submit(task).result()
            except BrokenProcessPool:
                self.close()
                answer = self._crashed
            yield name, answer

    def _submit(self, task: Task) -> Future[Answer]:
        with starting_workers():  # this may start one
            return self._start().submit(self._work, task)

    def _start(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Spawned, not forked: the parent may have threads (SQLite, SimpleITK) that a fork would break.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                self.workers, mp_context=context, initializer=_begin, initargs=(os.getpid(),)
            )
        return self._pool


def _index_files(refs: list[FileRef]) -> list[IndexEntry | None]:
    return [index_file(ref) for ref in refs]


def _begin(parent: int) -> None:
    """Ties a worker to its parent and to one thread: there are as many workers as processors."""
    import SimpleITK as sitk

    tie_worker(parent)
    os.environ["OMP_NUM_THREADS"] = "1"
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
