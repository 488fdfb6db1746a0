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
_T = TypeVar("_T")
_A = TypeVar("_A")

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
        yield from self._indexed(refs, _CHUNK)

    def answers(self, tasks: dict[str, Task]) -> Iterator[tuple[str, Answer]]:
        """Name and answer of every task, as they come; at most two tasks per worker are in progress."""
        if self.workers == 0:
            yield from ((name, self._work(task)) for name, task in tasks.items())
            return
        yield from self._each(self._work, tasks, self._crashed)

    def abandon(self) -> None:
        """Ends the workers in the middle of their reading."""
        end_workers()
        self.close()

    def close(self) -> None:
        """Ends the workers."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _indexed(self, refs: list[FileRef], size: int) -> Iterator[IndexEntry | None]:
        """The same, `size` files at a time; a file that crashes its worker is marked as damaged."""
        chunks = {str(first): refs[first : first + size] for first in range(0, len(refs), size)}
        found = dict(self._each(_index_files, chunks, None))
        for name, chunk in chunks.items():
            entries = found.pop(name)
            if entries is not None:
                yield from entries
            elif size > 1:
                yield from self._indexed(chunk, 1)
            else:
                yield IndexEntry(chunk[0], "", "", "", "", "", readable=False)

    def _each(self, work: Callable[[_T], _A], tasks: dict[str, _T], crashed: _A) -> Iterator[tuple[str, _A]]:
        """What the workers make of every task; `crashed` for one that kills its worker."""
        waiting = list(tasks.items())[::-1]
        running: dict[Future[_A], str] = {}
        while waiting or running:
            while waiting and len(running) < 2 * self.workers:
                name, task = waiting[-1]
                try:
                    running[self._submit(work, task)] = name
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
                for name in suspects:
                    yield name, self._alone(work, tasks[name], crashed)

    def _alone(self, work: Callable[[_T], _A], task: _T, crashed: _A) -> _A:
        self.close()
        try:
            return self._submit(work, task).result()
        except BrokenProcessPool:
            self.close()
            return crashed

    def _submit(self, work: Callable[[_T], _A], task: _T) -> Future[_A]:
        with starting_workers():  # this may start one
            return self._start().submit(work, task)

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
