"""The health of the service, as gRPC's health protocol asks for it.

The servicer of grpcio-health-checking lets clients without a token bring the whole server to a standstill: a
watch sends while it holds a lock that the server's only loop needs when another watch ends, and the sending
waits for this loop.
"""
# ruff: noqa: N802, ARG002  # gRPC names the methods and hands every one of them a request and a context

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Final

from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc

from scantwin_twin.refusals import refuse

NAME: Final = pb.DESCRIPTOR.services_by_name["Health"].full_name
"""`grpc.health.v1.Health`."""

_LOOK_S: Final = 1.0
"""A watch checks at least this often [s] whether its client is still there."""


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # grpc brings no types
    """Reports SERVING until `stop`."""

    def __init__(self, *services: str) -> None:
        """`services`: the names that can be asked for, and "" for the server itself."""
        self._services = frozenset(services) | {""}
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Reports from now on that nothing is served."""
        self._stopping.set()

    def Check(self, request: pb.HealthCheckRequest, context: Any) -> pb.HealthCheckResponse:
        """The health now."""
        if request.service not in self._services:
            raise refuse("unknown-service", name=repr(request.service[:80]))
        return self._now(request.service)

    def Watch(self, request: pb.HealthCheckRequest, context: Any) -> Iterator[pb.HealthCheckResponse]:
        """The health now, then the end of serving."""
        yield self._now(request.service)
        while context.is_active():
            if self._stopping.wait(_LOOK_S):
                yield self._now(request.service)
                return

    def _now(self, service: str) -> pb.HealthCheckResponse:
        if service not in self._services:
            return pb.HealthCheckResponse(status=pb.HealthCheckResponse.SERVICE_UNKNOWN)
        stopping = self._stopping.is_set()
        status = pb.HealthCheckResponse.NOT_SERVING if stopping else pb.HealthCheckResponse.SERVING
        return pb.HealthCheckResponse(status=status)
