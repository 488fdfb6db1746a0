"""Batches drawn while a network learns from the one before: one thread cuts too few for a GPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
S = TypeVar("S")


def drawn_ahead(draw: Callable[[S], T], steps: Iterable[S], threads: int) -> Generator[T]:
    """`draw(step)` of each of `steps`, in their order, one being drawn by each of `threads` meanwhile.

    Without threads each is drawn when it is asked for. Closed, it begins no more and waits for those at work.
    """
    if not threads:
        yield from map(draw, steps)
        return
    waiting: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(threads, "drawing")
    try:
        for step in steps:
            waiting.append(pool.submit(draw, step))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
