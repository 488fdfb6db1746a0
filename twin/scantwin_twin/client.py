"""The Python client of the twin service.

    with TwinClient("127.0.0.1:50071") as twins:
        scan = twins.submit(Path("ct.nii.gz"), twin="patient-7", model="pix2pix")
        for event in twins.watch(scan.id):
            print(event.stage, event.progress)
        contract = twins.export(scan.id, Path("out"))

Errors are those of `scantwin.errors`, with the service's own sentence and hint.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import grpc

from scantwin import NOTICE
from scantwin.addresses import is_loopback
from scantwin.errors import InputError, ServiceError
from scantwin.files import require_ours, sha256, whole_file, whole_folder
from scantwin.terminal import Advance, silent
from scantwin_twin import PORT, messages
from scantwin_twin.packing import packed
from scantwin_twin.refusals import from_detail, from_rpc
from scantwin_twin.results import DICOM_ZIP, inside, unzip_series
from scantwin_twin.security import split
from scantwin_twin.uploads import CHUNK_BYTES, MAX_MESSAGE_BYTES
from scantwin_twin.v1 import twin_pb2 as pb
from scantwin_twin.v1 import twin_pb2_grpc

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.max_reconnect_backoff_ms", 3_000),  # a restarted service is found soon
)
_NO_PROXY: Final = ("grpc.enable_http_proxy", 0)
"""For this very machine: a proxy from the environment would see the CT and the token in plain text."""
_SHORT_S: Final = 30.0
"""Deadline of a call that moves no file."""
_PATIENCE_S: Final = 60.0
"""How long a watcher tries to reach a service that went away: a restart takes some seconds."""
_TRIES: Final = 3
"""How often an upload is started in all if the link breaks."""


M = TypeVar("M")


class TwinClient:
    """One connection to a twin service. A token is sent only over TLS or to this very machine."""

    def __init__(
        self, address: str = f"127.0.0.1:{PORT}", *, token: str | None = None, ca: Path | None = None
    ) -> None:
        """`ca`: PEM file of the authority that signed the service's certificate; None: the public ones."""
        self.address = address
        local = is_loopback(split(address)[0])
        if local and ca is None:
            self._channel = grpc.insecure_channel(address, options=(*_OPTIONS, _NO_PROXY))
        else:
            credentials = grpc.ssl_channel_credentials(None if ca is None else ca.read_bytes())
            options = (*_OPTIONS, _NO_PROXY) if local else _OPTIONS
            self._channel = grpc.secure_channel(address, credentials, options=options)
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._calls = twin_pb2_grpc.TwinServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection and every call on it."""
        self._channel.close()

    def submit(
        self, ct: Path, *, model: str, twin: str = "", seed: int = 0, key: str = "", advance: Advance = silent
    ) -> pb.Scan:
        """Sends a CT (NIfTI file, zip or folder of DICOM) and returns its queued scan.

        `twin`: pseudonym; empty: one made from the CT's own sha256, so that the same CT is the same twin.
        `key`: idempotency key; empty: a random one, so that a restarted upload makes no second scan.
        """
        if not 0 <= seed < 2**32:
            raise InputError(
                f"The seed {seed} is not a whole number from 0 to 2^32 - 1.", hint="Choose another."
            )
        with packed(ct) as pack:
            digest = sha256(pack.path)
            size = pack.path.stat().st_size
            metadata = pb.ScanMetadata(
                twin=twin or f"ct-{digest[:12]}", model=model, seed=seed, file_name=pack.suffix, size=size,
                sha256=digest, format=pack.format, idempotency_key=key or secrets.token_hex(16),
            )  # fmt: skip
            for attempt in range(1, _TRIES + 1):
                try:
                    with self._calling():
                        upload = _upload(metadata, pack.path, advance)
                        queued: pb.Scan = self._calls.SubmitScan(upload, metadata=self._metadata)
                        return queued
                except ServiceError as error:
                    if error.code != "unavailable" or attempt == _TRIES:
                        raise
                    time.sleep(attempt)
        raise AssertionError("not reached")

    def watch(self, scan_id: str, *, patience_s: float = _PATIENCE_S) -> Iterator[pb.ScanEvent]:
        """The events of a scan until it has ended; goes on after the service was away for a moment."""
        last = -patience_s  # a service that never answered is not waited for
        while True:
            try:
                with self._calling():
                    request = pb.WatchScanRequest(id=scan_id)
                    for event in self._calls.WatchScan(request, metadata=self._metadata):
                        last = time.monotonic()
                        yield event
                    return
            except ServiceError as error:
                if error.code not in ("unavailable", "stopping") or time.monotonic() - last > patience_s:
                    raise
            time.sleep(0.5)

    def wait(self, scan_id: str, *, advance: Advance = silent) -> pb.Scan:
        """Waits for the scan and returns it when it is done; raises if it failed or was cancelled."""
        for event in self.watch(scan_id):
            advance(round(100 * event.progress), 100, event.stage)
        scan = self.get(scan_id)
        if scan.status == pb.STATUS_FAILED:
            raise from_detail(scan.error)
        if scan.status == pb.STATUS_CANCELLED:
            raise ServiceError(
                f"The scan {scan_id} was cancelled.", hint="Submit the CT again.", code="cancelled"
            )
        return scan

    def get(self, scan_id: str) -> pb.Scan:
        """One scan."""
        return self._short("GetScan", pb.GetScanRequest(id=scan_id), pb.Scan)

    def cancel(self, scan_id: str) -> pb.Scan:
        """Ends a scan and returns it; one that has ended stays as it is."""
        return self._short("CancelScan", pb.CancelScanRequest(id=scan_id), pb.Scan)

    def scans(
        self, *, twin: str = "", status: str = "", limit: int = 100, offset: int = 0
    ) -> pb.ListScansResponse:
        """Scans, newest first."""
        if status and status not in messages.STATUS:
            known = ", ".join(messages.STATUS)
            raise InputError(f"There is no status {status!r}.", hint=f"Choose one of {known}.")
        wanted = messages.STATUS.get(status, pb.STATUS_UNSPECIFIED)
        request = pb.ListScansRequest(twin=twin, status=wanted, limit=limit, offset=offset)
        return self._short("ListScans", request, pb.ListScansResponse)

    def models(self) -> pb.ListModelsResponse:
        """The models that the service offers."""
        return self._short("ListModels", pb.ListModelsRequest(), pb.ListModelsResponse)

    def twin(self, pseudonym: str) -> pb.Twin:
        """One twin."""
        return self._short("GetTwin", pb.GetTwinRequest(pseudonym=pseudonym), pb.Twin)

    def twins(self, *, limit: int = 100, offset: int = 0) -> pb.ListTwinsResponse:
        """Twins by pseudonym."""
        request = pb.ListTwinsRequest(limit=limit, offset=offset)
        return self._short("ListTwins", request, pb.ListTwinsResponse)

    def delete_twin(self, pseudonym: str) -> pb.DeleteTwinResponse:
        """Forgets a patient: the twin, its scans, the CTs and the results at the service."""
        return self._short("DeleteTwin", pb.DeleteTwinRequest(pseudonym=pseudonym), pb.DeleteTwinResponse)

    def fetch(self, scan_id: str, name: str, target: Path, *, advance: Advance = silent) -> Path:
        """Fetches one result file, checked by its sha256; it appears whole at `target`."""
        with self._calling(), whole_file(target) as aside:
            request = pb.FetchResultRequest(id=scan_id, name=name)
            incoming = self._calls.FetchResult(request, metadata=self._metadata)
            head = next(incoming).head.file
            total = 0
            with aside.open("wb") as file:
                for message in incoming:
                    total += len(message.chunk)
                    if total > head.size:
                        break
                    file.write(message.chunk)
                    advance(total, head.size, name)
            if total != head.size or sha256(aside) != head.sha256:
                incoming.cancel()
                raise ServiceError(
                    f"The result {name} arrived damaged.", hint="Fetch it again.", code="damaged"
                )
        return target

    def export(self, scan_id: str, out: Path, *, advance: Advance = silent) -> dict[str, Any]:
        """Writes a done scan's results to `out`; returns the JSON contract of `scantwin scan` and the id.

        `out` appears whole and replaces an earlier scan's: two patients' files never share a folder.
        """
        require_ours(out, "pet.nii.gz")
        scan = self.get(scan_id)
        if not scan.results:
            word = messages.WORD.get(scan.status, "unknown")
            raise InputError(
                f"The scan {scan_id} is {word}: it has no results.", hint="Wait, or submit again."
            )
        found: dict[str, list[str]] = {}
        with whole_folder(out) as aside:
            for result in scan.results:
                target = inside(aside, result.name)
                self.fetch(scan_id, result.name, target, advance=advance)
                if result.name == DICOM_ZIP:
                    target = _unpack(target, aside / "dicom")
                found.setdefault(result.kind, []).append(str(out / target.relative_to(aside)))
        shown = messages.plain(scan)
        one = {kind: paths[0] for kind, paths in found.items()}
        return {
            "scan": scan.id, "twin": scan.twin, "model_version": scan.model, "seed": scan.seed,
            "pet_nifti": one.get("pet-nifti"), "std_nifti": one.get("std-nifti"),
            "pet_dicom": one.get("pet-dicom"),
            "pictures": found.get("picture", []), "manifest": one.get("manifest"),
            "seconds": shown["seconds"], "districts": shown["districts"], "confidence": scan.confidence,
            "warnings": shown["warnings"], "triage": shown["triage"], "notice": scan.notice or NOTICE,
        }  # fmt: skip

    def _short(self, call: str, request: Any, _kind: type[M]) -> M:
        with self._calling():
            answer: M = getattr(self._calls, call)(request, timeout=_SHORT_S, metadata=self._metadata)
            return answer

    @contextmanager
    def _calling(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise from_rpc(error, self.address) from None


def _upload(metadata: pb.ScanMetadata, path: Path, advance: Advance) -> Iterator[pb.SubmitScanRequest]:
    yield pb.SubmitScanRequest(metadata=metadata)
    sent = 0
    with path.open("rb") as file:
        while block := file.read(CHUNK_BYTES):
            yield pb.SubmitScanRequest(chunk=block)
            sent += len(block)
            advance(sent, metadata.size, "sending")


def _unpack(archive: Path, folder: Path) -> Path:
    unzip_series(archive, folder)
    archive.unlink()
    return folder
