"""The calls of the twin service. A call raises what went wrong; `Guard` turns it into a status."""
# ruff: noqa: N802, ARG002  # gRPC names the methods and hands every one of them a request and a context

from __future__ import annotations

import hashlib
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import grpc

from scantwin import NOTICE
from scantwin_twin import messages, uploads
from scantwin_twin.dispatcher import Dispatcher
from scantwin_twin.forgetting import forget
from scantwin_twin.jobs import Jobs, ScanState
from scantwin_twin.models import ModelShelf
from scantwin_twin.patience import MOST_HEALTH_WATCHES, MOST_OTHERS, Patience, Slots
from scantwin_twin.places import Places
from scantwin_twin.refusals import answered, refuse
from scantwin_twin.v1 import twin_pb2 as pb
from scantwin_twin.v1 import twin_pb2_grpc

MOST_WAITING: Final = 200
"""Limit of queued scans; more would wait for days."""
MOST_WATCHERS: Final = 24
MOST_UPLOADS: Final = 12
MOST_DOWNLOADS: Final = 12
"""Each of these streams holds one of the server's threads."""
THREADS: Final = MOST_WATCHERS + MOST_UPLOADS + MOST_DOWNLOADS + MOST_OTHERS + MOST_HEALTH_WATCHES + 12
"""Twelve threads remain for the short calls."""

_PAGE: Final = 100
_LARGEST_PAGE: Final = 500
_LOOK_S: Final = 1.0
"""A watcher checks at least this often [s] whether its client is still there."""


class TwinService(twin_pb2_grpc.TwinServiceServicer):
    """Submit, watch, fetch."""

    def __init__(
        self, jobs: Jobs, models: ModelShelf, dispatcher: Dispatcher, places: Places, limits: uploads.Limits
    ) -> None:
        self._jobs, self._models, self._dispatcher = jobs, models, dispatcher
        self._places, self._limits = places, limits
        self._watchers = Slots("watchers", MOST_WATCHERS)
        self._uploads = Slots("uploads", MOST_UPLOADS)
        self._downloads = Slots("downloads", MOST_DOWNLOADS)
        self._keeping = threading.Lock()

    def SubmitScan(self, request_iterator: Iterator[pb.SubmitScanRequest], context: Any) -> pb.Scan:
        """Receives a CT and queues its scan."""
        with self._uploads.taken(), Patience(context, self._limits.stall_s) as patience:
            incoming = patience.heard(request_iterator)
            metadata = uploads.first(incoming)
            uploads.check(metadata, self._limits)
            version = self._models.version(metadata.model)
            scan_id = _scan_id(metadata)
            request = {
                "seed": metadata.seed, "size": metadata.size, "sha256": metadata.sha256.lower(),
                "format": uploads.FORMATS[metadata.format],
            }  # fmt: skip
            if (known := self._jobs.find(scan_id)) is not None:
                return messages.scan(_same(known, version, request))
            waiting = self._jobs.waiting()
            if waiting >= MOST_WAITING:
                raise refuse("queue-full", waiting=waiting)
            uploads.check_disk(metadata.size, self._places.uploads, self._limits)
            with uploads.private_folder(self._places.uploads / f".upload-{secrets.token_hex(8)}") as aside:
                ct = uploads.receive(incoming, metadata, aside, self._limits)
                request["input"] = f"uploads/{scan_id}/{ct.name}"
                kept = self._places.uploads / scan_id
                with self._kept_with_its_row(scan_id, kept):
                    state = self._jobs.create(
                        scan_id, twin=metadata.twin, model=version, folder=f"scans/{scan_id}",
                        request=request, actor=actor(context), place=lambda: _place(aside, kept),
                    )  # fmt: skip
        # Another call with this key may have come first, with another CT.
        return messages.scan(_same(state, version, request))

    @contextmanager
    def _kept_with_its_row(self, scan_id: str, kept: Path) -> Iterator[None]:
        """Wraps the creation of a row: if there is none, the CT is removed, since no deletion would find it.

        One at a time: two calls with one idempotency key share a folder, and the call that fails must not
        remove the CT of the other.
        """
        with self._keeping:
            try:
                yield
            except Exception:
                if self._jobs.find(scan_id) is None:  # a commit may have succeeded without saying so
                    shutil.rmtree(kept, ignore_errors=True)
                raise

    def WatchScan(self, request: pb.WatchScanRequest, context: Any) -> Iterator[pb.ScanEvent]:
        """The state now, then every change, until the scan has ended."""
        with self._watchers.taken():
            seen, shown = -1, None
            while context.is_active():
                state = self._jobs.get(request.id)
                message = messages.event(state)
                if message != shown:
                    yield message
                    shown = message
                if state.ended:
                    return
                if self._dispatcher.stopping:
                    raise refuse("stopping", id=state.id)
                seen = self._jobs.wait(seen, _LOOK_S)

    def GetScan(self, request: pb.GetScanRequest, context: Any) -> pb.Scan:
        """One scan."""
        return messages.scan(self._jobs.get(request.id))

    def ListScans(self, request: pb.ListScansRequest, context: Any) -> pb.ListScansResponse:
        """Scans, newest first."""
        limit = _limit(request.limit)
        if request.status and request.status not in messages.WORD:
            raise refuse("unknown-status", number=request.status, known=", ".join(messages.STATUS))
        status = messages.WORD.get(request.status, "")
        found = self._jobs.scans(twin=request.twin, status=status, limit=limit + 1, offset=request.offset)
        shown = [messages.scan(state) for state in found[:limit]]
        return pb.ListScansResponse(scans=shown, more=len(found) > limit, notice=NOTICE)

    def CancelScan(self, request: pb.CancelScanRequest, context: Any) -> pb.Scan:
        """Ends a scan that has not ended."""
        state = self._jobs.cancel(request.id, actor(context))
        self._dispatcher.cancel(request.id)
        return messages.scan(state)

    def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        """The models of the registry, newest first."""
        return pb.ListModelsResponse(models=[messages.model(m) for m in self._models.list()], notice=NOTICE)

    def FetchResult(self, request: pb.FetchResultRequest, context: Any) -> Iterator[pb.FetchResultResponse]:
        """One file of a scan's results."""
        with self._downloads.taken(), Patience(context, self._limits.stall_s) as patience:
            yield from patience.taken(self._result(request, context))

    def _result(self, request: pb.FetchResultRequest, context: Any) -> Iterator[pb.FetchResultResponse]:
        state = self._jobs.get(request.id)
        if state.status != "done":
            raise refuse("scan-not-done", id=state.id, status=state.status)
        entry = next((e for e in state.summary["results"] if e["name"] == request.name), None)
        if entry is None:
            raise refuse("unknown-result", id=state.id, name=repr(request.name[:80]))
        path = self._places.results(state) / entry["name"]
        if not path.is_file() or path.stat().st_size != entry["size"]:
            raise refuse("result-changed", name=entry["name"], id=state.id)
        self._jobs.audit(actor(context), "scan.fetch", state.id, {"name": entry["name"]})
        yield pb.FetchResultResponse(head=pb.ResultHead(file=messages.result(entry), notice=NOTICE))
        with path.open("rb") as file:
            while context.is_active() and (block := file.read(uploads.CHUNK_BYTES)):
                yield pb.FetchResultResponse(chunk=block)

    def GetTwin(self, request: pb.GetTwinRequest, context: Any) -> pb.Twin:
        """One twin."""
        return messages.twin(self._jobs.twin(request.pseudonym))

    def ListTwins(self, request: pb.ListTwinsRequest, context: Any) -> pb.ListTwinsResponse:
        """Twins by pseudonym."""
        limit = _limit(request.limit)
        found = self._jobs.twins(limit=limit + 1, offset=request.offset)
        shown = [messages.twin(state) for state in found[:limit]]
        return pb.ListTwinsResponse(twins=shown, more=len(found) > limit, notice=NOTICE)

    def DeleteTwin(self, request: pb.DeleteTwinRequest, context: Any) -> pb.DeleteTwinResponse:
        """Forgets a patient."""
        gone = forget(
            request.pseudonym, jobs=self._jobs, dispatcher=self._dispatcher, places=self._places,
            actor=actor(context),
        )  # fmt: skip
        return pb.DeleteTwinResponse(
            pseudonym=gone.pseudonym, scans=gone.scans, size=gone.size, notice=NOTICE
        )


class Guard(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc brings no types
    """Turns a call's exceptions into what the client may know; `FirstMessage` has made all calls streams."""

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """Called by gRPC before every call."""
        handler = continuation(handler_call_details)
        if handler is None:
            return handler
        if handler.stream_unary:
            return handler._replace(stream_unary=_guarded(handler.stream_unary))
        return handler._replace(stream_stream=_guarded_stream(handler.stream_stream))


def actor(context: Any) -> str:
    """Who calls, for the audit log: the address, without the port, which says nothing."""
    return "twin-client " + str(context.peer()).rpartition(":")[0]


def _guarded(call: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def guarded(request: Any, context: Any) -> Any:
        with answered(context):
            return call(request, context)

    return guarded


def _guarded_stream(call: Callable[[Any, Any], Iterator[Any]]) -> Callable[[Any, Any], Iterator[Any]]:
    def guarded(request: Any, context: Any) -> Iterator[Any]:
        with answered(context):
            yield from call(request, context)

    return guarded


def _place(aside: Path, kept: Path) -> None:
    if kept.exists():  # from a crash before the row's commit; now the same idempotency key came again
        shutil.rmtree(kept)
    aside.rename(kept)


def _limit(asked: int) -> int:
    return min(asked or _PAGE, _LARGEST_PAGE)


def _scan_id(metadata: pb.ScanMetadata) -> str:
    """A new id; with an idempotency key, the id that this key always gives for this twin."""
    if not metadata.idempotency_key:
        return secrets.token_hex(16)
    return hashlib.sha256(f"{metadata.twin}\0{metadata.idempotency_key}".encode()).hexdigest()[:32]


def _same(known: ScanState, version: str, request: dict[str, Any]) -> ScanState:
    """The scan that an idempotency key made before; refuses the key if that was for another request."""
    if known.model != version or any(known.request.get(key) != value for key, value in request.items()):
        raise refuse("key-reused")
    return known
