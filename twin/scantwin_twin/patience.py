"""How many clients may keep the service waiting, and for how long.

Every call holds one of the server's few threads until it ends. A client that says nothing, or reads nothing,
must not hold it for ever.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from scantwin_twin.catalogue import refuse

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass
class Slots:
    """At most `limit` at once; the next is refused rather than made to wait."""

    what: str
    limit: int
    _free: threading.BoundedSemaphore = field(init=False)

    def __post_init__(self) -> None:
        self._free = threading.BoundedSemaphore(self.limit)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """One of the slots, for the length of the block."""
        if not self._free.acquire(blocking=False):
            raise refuse("too-many-streams", what=self.what, limit=self.limit)
        try:
            yield
        finally:
            self._free.release()


class Patience:
    """Cancels a call whose client keeps it waiting for `seconds`; the service's own work is not timed."""

    def __init__(self, context: Any, seconds: float) -> None:
        self._context, self._seconds = context, seconds
        self._since: float | None = None
        self._over = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, name="twin-patience", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what only the client can end."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._since = None

    def heard(self, messages: Iterator[T]) -> Iterator[T]:
        """The messages of the client, each waited for."""
        while True:
            with self.waiting():
                message = next(messages, None)
            if message is None:
                return
            yield message

    def taken(self, answers: Iterator[T]) -> Iterator[T]:
        """The answers to the client: gRPC asks for the next when the client has room for it."""
        for answer in answers:
            with self.waiting():
                yield answer

    def _watch(self) -> None:
        while not self._over.wait(self._seconds / 4):
            since = self._since
            if since is not None and time.monotonic() - since > self._seconds:
                log.info("a call of %s is cancelled: it kept still", self._context.peer())
                self._context.cancel()
                return
