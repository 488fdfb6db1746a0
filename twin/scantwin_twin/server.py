"""Builds and runs the twin service."""

from __future__ import annotations

import json
import logging
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from scantwin import NOTICE
from scantwin.errors import ResourceError
from scantwin.files import lock
from scantwin.interrupts import ending_signals
from scantwin.settings import Settings
from scantwin.store.database import Database
from scantwin.store.registry import Registry
from scantwin_twin import health
from scantwin_twin.dispatcher import Dispatcher
from scantwin_twin.executor import Executor, LocalExecutor
from scantwin_twin.jobs import Jobs
from scantwin_twin.models import ModelShelf
from scantwin_twin.patience import FirstMessage
from scantwin_twin.places import Places
from scantwin_twin.security import Exposure, TokenGate, join
from scantwin_twin.service import THREADS, Guard, TwinService
from scantwin_twin.uploads import MAX_MESSAGE_BYTES, Limits
from scantwin_twin.v1 import twin_pb2, twin_pb2_grpc

log = logging.getLogger(__name__)

SERVICE: Final = twin_pb2.DESCRIPTOR.services_by_name["TwinService"].full_name
"""`scantwin.twin.v1.TwinService`."""

_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # by default two services would share a port and each take half of the calls
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 16 << 10),
    ("grpc.keepalive_time_ms", 30_000),  # notices a client that vanished silently
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)
_STOP_S: Final = 5.0
"""How long running calls may take to end when the service stops."""


@dataclass
class TwinServer:
    """A built service; `start` it, `stop` it."""

    exposure: Exposure
    database: Database
    jobs: Jobs
    models: ModelShelf
    dispatcher: Dispatcher
    _server: Any
    _health: health.Health
    _lock: IO[str]
    port: int = field(default=0)

    @property
    def address(self) -> str:
        """The `host:port` at which it really listens."""
        return join(self.exposure.host, self.port)

    def start(self) -> None:
        """Starts to work on the queue and to answer calls."""
        self.dispatcher.start()
        self._server.start()

    def stop(self) -> None:
        """Accepts no more calls, ends the worker, queues again what was running."""
        self._health.stop()
        ending = self._server.stop(_STOP_S)
        self.dispatcher.stop()
        ending.wait()
        self.database.close()
        self._lock.close()


def build(
    settings: Settings,
    exposure: Exposure,
    *,
    models: Sequence[Path] = (),
    limits: Limits | None = None,
    executor: Executor | None = None,
) -> TwinServer:
    """A service on the state of `settings.home`. `models`: folders of models to publish first."""
    home = settings.home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    # Two services on one home would take each other's scans.
    hint = "Stop it, or choose another folder with --home."
    ours = lock(home / "twin.lock", ResourceError(f"Another twin service runs on {home}.", hint=hint))
    places = Places(home)
    places.prepare()
    database = Database.from_settings(settings).migrate()
    jobs = Jobs(database)
    places.sweep(jobs.ids())
    shelf = ModelShelf(Registry.from_settings(database, settings), places.models)
    for folder in models:
        log.info("the model %s is version %s", folder, shelf.publish(folder).id)
    dispatcher = Dispatcher(jobs, shelf, executor or LocalExecutor(), places)
    limits = limits or Limits()
    service = TwinService(jobs, shelf, dispatcher, places, limits)
    gates = [TokenGate(exposure.token)] if exposure.token else []
    server = grpc.server(
        ThreadPoolExecutor(THREADS, thread_name_prefix="twin-call"),
        interceptors=(*gates, Guard(), FirstMessage(limits.first_s)),
        options=_OPTIONS,
        maximum_concurrent_rpcs=THREADS,
    )
    twin_pb2_grpc.add_TwinServiceServicer_to_server(service, server)  # type: ignore[no-untyped-call]
    condition = health.Health(SERVICE)
    health_pb2_grpc.add_HealthServicer_to_server(condition, server)
    reflection.enable_server_reflection((SERVICE, health.NAME, reflection.SERVICE_NAME), server)
    built = TwinServer(exposure, database, jobs, shelf, dispatcher, server, condition, ours)
    built.port = _listen(server, exposure)
    return built


def serve(server: TwinServer, *, as_json: bool) -> None:
    """Runs until SIGINT, SIGTERM or SIGHUP, in the foreground; with `nohup` a SIGHUP does not end it."""
    asked = threading.Event()
    for number in ending_signals():
        signal.signal(number, lambda *_: asked.set())
    server.start()
    ready = {
        "ready": True, "address": server.address, "port": server.port, "tls": server.exposure.tls,
        "token": server.exposure.token is not None, "models": len(server.models.list()),
        "queued": server.jobs.waiting(), "notice": NOTICE,
    }  # fmt: skip
    sys.stdout.write((json.dumps(ready) if as_json else _sentence(ready)) + "\n")
    sys.stdout.flush()
    asked.wait()
    log.info("stopping")
    server.stop()


def _sentence(ready: dict[str, Any]) -> str:
    guard = (
        "TLS and a token"
        if ready["tls"] and ready["token"]
        else "a token"
        if ready["token"]
        else "loopback only"
    )
    return f"The twin service answers at {ready['address']} ({guard}), {ready['models']} model(s). {NOTICE}."


def _listen(server: Any, exposure: Exposure) -> int:
    """Binds the port, after a trial with a plain socket: gRPC prints lines of its own about a busy port."""
    bare = exposure.host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((bare, exposure.port))
        credentials = exposure.credentials()
        address = join(exposure.host, exposure.port)
        if credentials is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, credentials))
    except (OSError, RuntimeError, OverflowError) as error:
        why = getattr(error, "strerror", None) or "it cannot be bound"
        raise ResourceError(
            f"The service cannot listen at {join(exposure.host, exposure.port)}: {why}.",
            hint="Choose another port with --port, or stop what holds it.",
        ) from None
