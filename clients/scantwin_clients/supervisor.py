"""A site on duty: its SuperNode and its worker, kept alive, ended together."""

from __future__ import annotations

import secrets
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scantwin.errors import InputError, ResourceError
from scantwin.federation.flower import flower_env
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

_CONNECTED = "SuperNode ID:"


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
    if not duty.ca.is_file():
        raise InputError(
            f"There is no certificate {duty.ca}.",
            hint="Ask the consortium for its ca.crt and give it with --ca.",
        )
    require_free_port(HOST, duty.port, what="The SuperNode")
    hint = "End the other scantwin site run first."
    busy = ResourceError(f"The site {duty.site.name} is on duty already.", hint=hint)
    # Two runs of one site would take each other's secret and outbox.
    with lock(duty.site.folder / "run.lock", busy):
        _keep(duty, report, ready)


def _keep(duty: Duty, report: Callable[[str, str], None], ready: Callable[[dict[str, object]], None]) -> None:
    supervisor = Supervisor(children(duty), report)
    node, worker = supervisor.children
    told = False

    def tell_when_ready() -> None:
        nonlocal told
        if not told and _CONNECTED in node.output() and READY in worker.output():
            told = True
            ready({"site": duty.site.name, "node_id": _node_id(node.output()), "port": duty.port})

    with stop_on_signals() as stop:
        try:
            supervisor.start()
            watch(supervisor, stop, tell_when_ready)
        finally:
            supervisor.end()


def children(duty: Duty) -> list[Child]:
    """The site's two programs. They share a secret of this start, so that no one else can take our tasks."""
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
