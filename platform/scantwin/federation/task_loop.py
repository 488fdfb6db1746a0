"""Taking tasks from Flower's Runtime API, in place of Flower's SuperExec.

Flower's SuperExec starts a program for each task, with the task's token on its command line; the program
unpacks the bundle and imports what it finds there. Ours takes only one kind of task and hands the token to
`handle`, which looks into the bundle first. See docs/decisions/0003-job-ticket.md.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scantwin.federation.flower import TASK_POLL_S, may_pass

_TELL_EVERY = 60
"""Tries between two warnings, at one try a second."""

log = logging.getLogger("scantwin.federation")

Handle = Callable[[str], None]
"""Called with a task's token; an exception from it ends the executor."""


def runtime_client(
    address: str, ca: Path | None, *, component: str, interceptor: Any, give_up_s: float | None = None
) -> Any:
    """A client of the Runtime API at `address` (host:port); without `ca` it uses plain HTTP on loopback.

    It retries about every second while nothing answers or the server fails, for ever or for `give_up_s` [s].
    Flower's own client waits up to 20 s between tries, and interrupts its own process if the server does not
    know its token.
    """
    import httpx
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
    from flwr.supercore.retry import RetryInvoker, constant
    from flwr.supercore.runtime import RuntimeHttpClient

    return RuntimeHttpClient.from_server_address(
        server_address=address,
        insecure=ca is None,
        root_certificates=None if ca is None else ca.read_bytes(),
        interceptors=[RuntimeVersionHttpInterceptor(component_name=component), interceptor],
        retry_invoker=RetryInvoker(
            lambda: constant(1.0),
            httpx.HTTPError,
            None,
            give_up_s,
            on_backoff=_tell,
            should_giveup=lambda e: not may_pass(e),
        ),
    )


def _tell(state: Any) -> None:
    """Logs that a call is retried: the first time, and about once a minute."""
    if state.tries % _TELL_EVERY == 1:
        log.warning("the server does not answer as it should, trying again: %s", state.exception)


def take_tasks(
    address: str, ca: Path | None, secret: bytes, *, task_type: str, handle: Handle,
    poll_s: float = TASK_POLL_S, each_look: Callable[[], None] | None = None,
) -> None:  # fmt: skip
    """Asks for tasks of `task_type` for ever and hands each token to `handle`, one after the other."""
    from flwr.proto.runtime_pb2 import AcquireTaskRequest
    from flwr.supercore.interceptors import SuperExecAuthHttpInterceptor

    signing = SuperExecAuthHttpInterceptor(
        master_secret=secret, protected_methods=frozenset({"/flwr.proto.Runtime/AcquireTask"})
    )
    client = runtime_client(address, ca, component="SuperExec", interceptor=signing)
    request = AcquireTaskRequest(supported_task_types=[task_type])
    while True:
        answer = client.AcquireTask(request)
        if answer.HasField("task") and answer.token:
            handle(answer.token)
            continue
        if each_look is not None:
            each_look()
        time.sleep(poll_s)
