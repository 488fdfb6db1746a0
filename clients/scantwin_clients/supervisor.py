"""A site on duty: its SuperNode and its worker, kept alive, ended together."""

from __future__ import annotations

import secrets
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scantwin.addresses import host_and_port
from scantwin.errors import InputError, ResourceError
from scantwin.federation.certificates import check_host, require_certificate
from scantwin.federation.complaints import complaint
from scantwin.federation.flower import flower_env, through_proxy
from scantwin.federation.processes import Child, require_free_port
from scantwin.federation.supervision import Supervisor, stop_on_signals, watch
from scantwin.files import lock, write_private
from scantwin_clients.site import READY, Site

HOST = "127.0.0.1"
"""The SuperNode's Runtime API is for our worker only."""

NODE_POLL_S = 0.5
"""How often a site asks the consortium for a job [s]; Flower's own 3 s are felt in every round."""

WORKER_POLL_S = 0.1
"""How often the worker asks the SuperNode, on loopback [s]."""

NOT_CONNECTED_S = 10.0
"""A site that is not connected after this long says why [s]; starting takes about three."""

_ANSWER_S = 5.0
"""How long a host may take to answer [s]."""

_CONNECTED = "SuperNode ID:"

_QUESTIONS: Final = {
    "Failed to activate SuperNode": (
        "Is the site enrolled, with this key? After a crash its key is refused for up to a minute."
    ),
    "CERTIFICATE_VERIFY_FAILED": (
        "Is --ca the ca.crt of this consortium, and its server certificate for this host?"
    ),
    "WRONG_VERSION_NUMBER": "Is it the consortium that listens there?",
}
"""Flower's messages, and what is usually behind them."""


@dataclass(frozen=True)
class Duty:
    """Where a site reports for duty."""

    site: Site
    home: Path
    superlink: str
    ca: Path
    port: int
    poll_s: float = NODE_POLL_S


def on_duty(
    duty: Duty, *, report: Callable[[str, str], None], ready: Callable[[dict[str, object]], None]
) -> None:
    """Keeps the site in the consortium until SIGINT or SIGTERM; `ready` is called when it is connected."""
    superlink_address(duty.superlink)
    require_certificate(duty.ca)
    require_free_port(HOST, duty.port, what="The SuperNode")
    hint = "End the other scantwin site run first."
    busy = ResourceError(f"The site {duty.site.name} is on duty already.", hint=hint)
    # Two runs of one site would take each other's secret and outbox.
    with lock(duty.site.folder / "run.lock", busy):
        _keep(duty, report, ready)


def _keep(duty: Duty, report: Callable[[str, str], None], ready: Callable[[dict[str, object]], None]) -> None:
    told: set[str] = set()

    def say(child: str, what: str) -> None:
        told.add(child)
        report(child, what + _question(what))

    supervisor = Supervisor(children(duty), say)
    node, worker = supervisor.children

    def tell_when_ready() -> None:
        if "ready" not in told and _CONNECTED in node.output() and READY in worker.output():
            told.add("ready")
            ready({"site": duty.site.name, "node_id": _node_id(node.output()), "port": duty.port})

    def tell_if_not_connected() -> None:
        if node.name not in told and _CONNECTED not in node.output():
            why = _why_not_connected(duty, node)
            say(node.name, f"is not connected yet: {why}; it goes on trying (log {node.log})")

    # A thread: looking up a host's name may take long, and nothing interrupts it.
    late = threading.Timer(NOT_CONNECTED_S, tell_if_not_connected)
    late.daemon = True
    with stop_on_signals() as stop:
        try:
            supervisor.start()
            late.start()
            watch(supervisor, stop, tell_when_ready)
        finally:
            late.cancel()
            supervisor.end()


def superlink_address(text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT. Raises `InputError`, as Flower's program would only end again and again."""
    found = host_and_port(text)
    hint = "Give it as HOST:PORT, for example pet.example.org:443."
    if found is None:
        raise InputError(f"{text!r} is not the address of a consortium.", hint=hint)
    host, port = found
    try:
        return check_host(host.removeprefix("[").removesuffix("]")), port
    except InputError as error:
        raise InputError(f"{text!r} is not the address of a consortium: {error.message}", hint=hint) from None


def _why_not_connected(duty: Duty, node: Child) -> str:
    """What the SuperNode complains of. It is silent when nothing answers, so we try the connection here."""
    if words := complaint(node.output()):
        return words
    host, port = superlink_address(duty.superlink)
    if through_proxy(host):
        return f"no answer from {duty.superlink} through the proxy of the environment"
    try:
        socket.create_connection((host, port), timeout=_ANSWER_S).close()
    except OSError as error:
        return f"nothing answers at {duty.superlink} ({(error.strerror or 'timed out').lower()})"
    return f"{duty.superlink} answers, but has not let it in"


def _question(what: str) -> str:
    """What a person may look at, if Flower's words alone do not say it."""
    return next((f". {ask}" for words, ask in _QUESTIONS.items() if words in what), "")


def children(duty: Duty) -> list[Child]:
    """The site's two programs. They share a secret made at each start, so nobody else can take our tasks."""
    site = duty.site
    secret = write_private(site.flower_home / "worker.secret", secrets.token_bytes(32))
    env = {**flower_env(site.flower_home), "OMP_NUM_THREADS": str(site.config.threads)}
    config = f'site-name="{site.name}" home="{duty.home}"'
    node = Child(
        "supernode",
        [
            sys.executable, "-P", "-m", "scantwin_clients.supernode", "--poll", str(duty.poll_s), "--",
            "--superlink", duty.superlink, "--root-certificates", str(duty.ca),
            "--auth-supernode-private-key", str(site.key), "--isolation", "process",
            "--superexec-auth-secret-file", str(secret), "--host", HOST, "--port", str(duty.port),
            "--node-config", config,
        ],
        site.logs / "supernode.log", env,
    )  # fmt: skip
    worker = Child(
        "worker",
        [
            sys.executable, "-P", "-m", "scantwin_clients.worker", "--site", site.name,
            "--home", str(duty.home), "--address", f"{HOST}:{duty.port}", "--secret-file", str(secret),
            "--poll", str(WORKER_POLL_S),
        ],
        site.logs / "worker.log", env,
    )  # fmt: skip
    return [node, worker]


def free_port() -> int:
    """A port of the loopback interface that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _node_id(output: str) -> str:
    tail = output.rpartition(_CONNECTED)[2].split()
    return tail[0] if tail else ""
