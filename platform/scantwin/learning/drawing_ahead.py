"""Draws batches while a network learns from earlier ones: a single thread cuts too few for a GPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
S = TypeVar("S")


def drawn_ahead(draw: Callable[[S], T], steps: Iterable[S], threads: int) -> Generator[T]:
    """Yields `draw(step)` for each of `steps`, in order, while each of `threads` draws one ahead.

    Without threads each is drawn on demand. When closed, it starts no more and waits for those under way.
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
