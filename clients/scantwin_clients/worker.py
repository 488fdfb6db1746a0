"""The site's worker: does the jobs that arrive, in one process that stays.

It replaces Flower's `flwr-clientapp`, which starts afresh for every message, unpacks the bundle and imports
what it finds in it. The worker looks into the bundle, never unpacks it, and runs the installed app.
"""

from __future__ import annotations

import argparse
import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scantwin.errors import FederationError
from scantwin.federation.exchange import REFUSED_BY_SITE
from scantwin.federation.flower import beat_faster, wait_less
from scantwin.federation.task_loop import runtime_client, take_tasks
from scantwin_clients.policy import check_bundle
from scantwin_clients.site import READY, Site

if TYPE_CHECKING:
    from flwr.app import Context, Message
    from flwr.clientapp import ClientApp
    from flwr.supercore.heartbeat import HeartbeatSender

CLIENT_TASK = "flwr-clientapp"
"""The only kind of task that a site does (`flwr.supercore.constant.TaskType.CLIENT_APP`)."""

GIVE_UP_S = 10.0
"""How long we try to hand a task over to a SuperNode that does not answer [s]."""

log = logging.getLogger("scantwin.site")


def do_task(app: ClientApp, address: str, token: str) -> None:
    """Does one task of the SuperNode at `address` as `flwr-clientapp` would, but with the installed app.

    If the SuperNode is lost meanwhile, the task is dropped: its reply waits in the outbox.
    """
    from flwr.common.constant import SubStatus
    from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor
    from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output
    from httpx import HTTPError

    client = runtime_client(
        address, None, component="flwr-clientapp", interceptor=RuntimeTokenHttpInterceptor(token),
        give_up_s=GIVE_UP_S,
    )  # fmt: skip
    heartbeat = _heartbeat(client)
    context: Context | None = None
    began = time.monotonic()
    try:
        message, context, _run, bundle = pull_task_input(client)
        log.info("a job has arrived, received in %.2f s", time.monotonic() - began)
        reply = _reply(app, message, context, bundle.content)
        worked = time.monotonic()
        push_message(client, reply, context)
        failed = (reply.error.reason or "it failed") if reply.has_error() else ""
        status = SubStatus.FAILED if failed else SubStatus.COMPLETED
        push_task_output(client=client, context=context, sub_status=status, details=failed)
        log.info("done after %.2f s, handed over in %.2f s", worked - began, time.monotonic() - worked)
    except HTTPError as error:
        log.warning("the task was dropped, its SuperNode is gone: %s", error)
    finally:
        heartbeat.stop()
        client.close()


def _reply(app: ClientApp, message: Message, context: Context, bundle: bytes) -> Message:
    """What our app says, unless the bundle is more than a ticket."""
    from flwr.app import Error, Message
    from flwr.common.constant import ErrorCode

    try:
        check_bundle(bundle)
        return app(message=message, context=context)
    except FederationError as error:
        reason = f"{error.message} {error.hint}".strip()
        log.error("refused: %s", reason)
        return Message(Error(code=REFUSED_BY_SITE, reason=reason), reply_to=message)
    except Exception as error:
        # The error may name a file, and the file a patient: its words stay in the site's log.
        log.exception("the job failed")
        reason = f"{type(error).__name__}; see the site's log"
        return Message(Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=reason), reply_to=message)


def _heartbeat(client: Any) -> HeartbeatSender:
    """Tells the SuperNode that we are alive. Flower's own version interrupts the process when that fails."""
    from flwr.proto.runtime_pb2 import SendTaskHeartbeatRequest
    from flwr.supercore.heartbeat import HeartbeatSender
    from httpx import HTTPError

    def beat() -> bool:
        with suppress(HTTPError):
            client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
        return True

    sender = HeartbeatSender(beat)
    sender.start()
    return sender


def work(site: Site, address: str, secret: bytes, *, poll_s: float) -> None:
    """Does jobs for ever. Heavy imports come first, so that no round waits for them."""
    import torch

    from scantwin.learning.machine import between_jobs, use_device
    from scantwin.systems import SYSTEMS
    from scantwin_clients.client_app import app

    wait_less()
    beat_faster()
    torch.set_num_threads(site.config.threads)
    use_device()
    log.info("%s is %s with %d systems", site.name, READY, len(SYSTEMS))

    def handle(token: str) -> None:
        do_task(app, address, token)
        between_jobs()

    take_tasks(address, None, secret, task_type=CLIENT_TASK, handle=handle, poll_s=poll_s)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description="Does the jobs that a site's SuperNode receives.")
    parser.add_argument("--site", required=True)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--address", required=True, help="The SuperNode's Runtime API, on loopback.")
    parser.add_argument("--secret-file", type=Path, required=True)
    parser.add_argument("--poll", type=float, required=True)
    given: Any = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every poll
    work(Site.open(given.site, given.home), given.address, given.secret_file.read_bytes(), poll_s=given.poll)


if __name__ == "__main__":
    main()
