"""Tracing the memory that a step takes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def memory_traced() -> Iterator[None]:
    """Traces Python's memory meanwhile, and no longer: it makes every test after it several times slower."""
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
