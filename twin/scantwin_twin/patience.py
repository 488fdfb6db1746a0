"""How many clients may keep the service waiting, and for how long.

Every call holds one of the server's few threads until it ends. A client that says nothing, or reads nothing,
must not hold it for ever.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeVar

import grpc

from scantwin_twin.refusals import refuse

log = logging.getLogger(__name__)

MOST_OTHERS: Final = 8
MOST_HEALTH_WATCHES: Final = 4
"""Limits of simultaneous calls of health, which needs no token, and of reflection."""

_OURS: Final = "/scantwin."

T = TypeVar("T")
Stream = Iterator[Any]
Slot = Callable[[], AbstractContextManager[None]]


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
        """Takes one of the slots for the length of the block."""
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
        """Wraps a wait that only the client can end."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._since = None

    def heard(self, messages: Iterator[T]) -> Iterator[T]:
        """The messages of the client; the wait for each is timed."""
        while True:
            with self.waiting():
                message = next(messages, None)
            if message is None:
                return
            yield message

    def taken(self, answers: Iterator[T]) -> Iterator[T]:
        """The answers to the client; the wait is timed: gRPC asks for the next when the client has room."""
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


class FirstMessage(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc brings no types
    """Waits only some seconds for a call's first message.

    gRPC itself waits for ever for the one request of a unary call, before it calls the handler. All calls
    are therefore served as streams here, and the request is taken out of the stream.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._others = Slots("calls of health and reflection", MOST_OTHERS)
        self._watches = Slots("watches of health", MOST_HEALTH_WATCHES)

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """Called by gRPC before every call."""
        handler = continuation(handler_call_details)
        if handler is None or handler.stream_unary:  # an upload is timed in `SubmitScan`
            return handler
        ours = handler_call_details.method.startswith(_OURS)
        others: Slot = nullcontext if ours else self._others.taken
        coding = handler.request_deserializer, handler.response_serializer
        if handler.unary_unary:
            call = self._answer(handler.unary_unary, others)
            return grpc.stream_unary_rpc_method_handler(call, *coding)
        if handler.unary_stream:
            call = self._answers(handler.unary_stream, nullcontext if ours else self._watches.taken)
        else:
            call = self._talk(handler.stream_stream, others)
        return grpc.stream_stream_rpc_method_handler(call, *coding)

    def _answer(self, call: Callable[[Any, Any], T], slot: Slot) -> Callable[[Iterator[Any], Any], T]:
        def served(messages: Iterator[Any], context: Any) -> T:
            with slot():
                return call(self._first(messages, context), context)

        return served

    def _answers(self, call: Callable[[Any, Any], Stream], slot: Slot) -> Callable[[Stream, Any], Stream]:
        def served(messages: Stream, context: Any) -> Stream:
            with slot():
                yield from call(self._first(messages, context), context)

        return served

    def _talk(self, call: Callable[[Stream, Any], Stream], slot: Slot) -> Callable[[Stream, Any], Stream]:
        def served(messages: Stream, context: Any) -> Stream:
            with slot(), Patience(context, self._seconds) as patience:
                yield from patience.taken(call(patience.heard(messages), context))

        return served

    def _first(self, messages: Iterator[Any], context: Any) -> Any:
        with Patience(context, self._seconds) as patience:
            request = next(patience.heard(messages), None)
        if request is None:
            raise refuse("no-request")
        return request
