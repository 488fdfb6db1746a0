"""What the service refuses, with which status and code, and that a refusal leaves nothing behind."""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import threading
import time
import zipfile
from types import SimpleNamespace

import grpc
import pytest

from scantwin.errors import InputError, ServiceError
from scantwin.settings import Settings
from scantwin_twin.client import TwinClient
from scantwin_twin.patience import Slots
from scantwin_twin.refusals import DETAIL_KEY, Refused, answered
from scantwin_twin.security import expose
from scantwin_twin.server import build
from scantwin_twin.uploads import MAX_CHUNK_BYTES, Limits
from scantwin_twin.v1 import twin_pb2 as pb

_Code = grpc.StatusCode


def _metadata(data: bytes, **changes) -> pb.ScanMetadata:
    about = {
        "twin": "patient-1", "model": "tiny", "seed": 0, "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(), "format": pb.FORMAT_NIFTI,
    }  # fmt: skip
    return pb.ScanMetadata(**{**about, **changes})


def _send(service, *parts):
    """The status and the code with which an upload of `parts` (metadata or bytes) is refused."""
    messages = [
        pb.SubmitScanRequest(metadata=p) if isinstance(p, pb.ScanMetadata) else pb.SubmitScanRequest(chunk=p)
        for p in parts
    ]
    with pytest.raises(grpc.RpcError) as caught:
        service.client._calls.SubmitScan(iter(messages), timeout=10)
    detail = pb.ErrorDetail()
    detail.ParseFromString(dict(caught.value.trailing_metadata()).get(DETAIL_KEY, b""))
    assert detail.message == caught.value.details() or not detail.code
    return caught.value.code(), detail.code


def _comes_true(state, seconds=20.0):
    until = time.monotonic() + seconds
    while not (now := state()) and time.monotonic() < until:
        time.sleep(0.02)
    return now


@pytest.fixture(autouse=True)
def nothing_is_left(service):
    before = {p.name for p in service.uploads.iterdir()}
    scans = {s.id for s in service.client.scans(limit=500).scans}
    yield
    # The service may hear of the client's end a moment after the client, and an upload of the test before may
    # have been there at first.
    assert _comes_true(lambda: {p.name for p in service.uploads.iterdir()} <= before)
    assert {s.id for s in service.client.scans(limit=500).scans} == scans


DATA = gzip.compress(b"\x5c\x01\x00\x00" + bytes(1000))
"""Begins like a NIfTI-1 file: 348, little-endian."""


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"twin": ""}, _Code.INVALID_ARGUMENT, "bad-pseudonym"),
        ({"twin": "Jane Doe"}, _Code.INVALID_ARGUMENT, "bad-pseudonym"),
        ({"twin": "../../etc"}, _Code.INVALID_ARGUMENT, "bad-pseudonym"),
        ({"twin": "p" * 65}, _Code.INVALID_ARGUMENT, "bad-pseudonym"),
        ({"format": pb.FORMAT_UNSPECIFIED}, _Code.INVALID_ARGUMENT, "bad-format"),
        ({"sha256": "abc"}, _Code.INVALID_ARGUMENT, "bad-sha256"),
        ({"size": 0}, _Code.INVALID_ARGUMENT, "empty-upload"),
        ({"size": 5 << 20}, _Code.INVALID_ARGUMENT, "upload-too-large"),
        ({"size": 2**63}, _Code.INVALID_ARGUMENT, "upload-too-large"),
        ({"idempotency_key": "k" * 129}, _Code.INVALID_ARGUMENT, "bad-key"),
        ({"model": "nothing"}, _Code.NOT_FOUND, "unknown-model"),
        ({"model": ""}, _Code.NOT_FOUND, "unknown-model"),
        ({"sha256": "0" * 64}, _Code.DATA_LOSS, "wrong-sha256"),
        ({"size": len(DATA) + 1}, _Code.DATA_LOSS, "truncated"),
        ({"size": len(DATA) - 1}, _Code.INVALID_ARGUMENT, "longer-than-declared"),
        ({"format": pb.FORMAT_DICOM_ZIP}, _Code.INVALID_ARGUMENT, "not-a-zip"),
    ],
)
def test_metadata_that_cannot_be_right(service, changes, status, code):
    assert _send(service, _metadata(DATA, **changes), DATA) == (status, code)


def test_the_order_of_messages(service):
    assert _send(service) == (_Code.INVALID_ARGUMENT, "no-metadata")
    assert _send(service, DATA) == (_Code.INVALID_ARGUMENT, "no-metadata")
    twice = _metadata(DATA)
    assert _send(service, twice, twice) == (_Code.INVALID_ARGUMENT, "metadata-twice")


def test_chunks_that_are_too_large(service):
    large = bytes(MAX_CHUNK_BYTES + 1)
    about = _metadata(large)
    assert _send(service, about, large) == (_Code.INVALID_ARGUMENT, "chunk-too-large")
    # One that is far too large is refused by gRPC before memory is taken for it.
    assert _send(service, about, bytes(3 << 20))[0] == _Code.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "data",
    [
        b"Dear colleague",
        b"\x1f\x8bnot really",
        gzip.compress(b"a letter", mtime=0),
        gzip.compress(b"", mtime=0),
    ],
)
def test_what_is_no_nifti(service, data):
    assert _send(service, _metadata(data), data) == (_Code.INVALID_ARGUMENT, "not-a-nifti")


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_what_is_no_zip_of_dicom(service):
    for data, code in (
        (_zip({}), "not-a-zip"),
        (_zip({str(n): b"" for n in range(201)}), "unpacks-too-large"),
    ):
        about = _metadata(data, format=pb.FORMAT_DICOM_ZIP)
        assert _send(service, about, data) == (_Code.INVALID_ARGUMENT, code)


def test_an_upload_that_the_client_leaves(service):
    """The client goes away after half of the file: nothing of it stays."""

    def half():
        yield pb.SubmitScanRequest(metadata=_metadata(DATA))
        yield pb.SubmitScanRequest(chunk=DATA[:10])
        call.cancel()
        yield pb.SubmitScanRequest(chunk=DATA[10:20])

    call = service.client._calls.SubmitScan.future(half())
    with pytest.raises((grpc.RpcError, grpc.FutureCancelledError)):
        call.result(timeout=10)


def test_a_client_that_goes_away_is_no_error_in_the_log(service, caplog):
    caplog.set_level(logging.INFO)
    hold = threading.Event()

    def half():
        yield pb.SubmitScanRequest(metadata=_metadata(DATA))
        hold.wait()

    def arrived():
        return set(service.uploads.glob(".upload-*")) - before

    before = set(service.uploads.glob(".upload-*"))  # one of the test before may still be going away
    call = service.client._calls.SubmitScan.future(half())
    try:
        assert _comes_true(arrived)
        call.cancel()
        # No word of it in the log is waited for: gRPC's thread may see the stream's end before the
        # cancellation, and then this is a truncated upload.
        assert _comes_true(lambda: not arrived())
    finally:
        hold.set()
    time.sleep(0.1)  # gRPC would say more after the service's own end
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_cancelled_call_is_one_line_of_the_log(caplog):
    caplog.set_level(logging.INFO)
    context = SimpleNamespace(peer=lambda: "ipv4:127.0.0.1:5")  # it has no abort: there is nobody to tell
    with pytest.raises(grpc.RpcError), answered(context):
        raise grpc.RpcError
    assert [record.getMessage() for record in caplog.records] == ["a call of ipv4:127.0.0.1:5 ended early"]


def test_a_deadline_ends_an_upload(service):
    hold = threading.Event()

    def slow():
        yield pb.SubmitScanRequest(metadata=_metadata(DATA))
        hold.wait(10)

    try:
        with pytest.raises(grpc.RpcError) as caught:
            service.client._calls.SubmitScan(slow(), timeout=0.3)
    finally:
        hold.set()
    assert caught.value.code() == _Code.DEADLINE_EXCEEDED


def test_a_silent_upload_a_full_disk_a_full_queue(model_folder, tmp_path, monkeypatch):
    """A service of its own, with limits that are reached at once. Nothing is scanned: there is no worker."""
    strict = build(
        Settings(home=tmp_path), expose("127.0.0.1", 0), models=[model_folder], limits=Limits(stall_s=2.0)
    )
    strict.start()
    try:
        with TwinClient(strict.address) as client:
            here = SimpleNamespace(client=client)
            hold = threading.Event()

            def silent():
                yield pb.SubmitScanRequest(metadata=_metadata(DATA))
                hold.wait(10)

            with pytest.raises(grpc.RpcError) as caught:
                client._calls.SubmitScan(silent())
            hold.set()
            assert caught.value.code() == _Code.CANCELLED
            assert _comes_true(lambda: not list((tmp_path / "uploads").iterdir()))
            monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
            assert _send(here, _metadata(DATA), DATA) == (_Code.RESOURCE_EXHAUSTED, "disk-full")
            monkeypatch.setattr("scantwin_twin.service.MOST_WAITING", 0)
            assert _send(here, _metadata(DATA), DATA) == (_Code.RESOURCE_EXHAUSTED, "queue-full")
    finally:
        strict.stop()


def test_more_at_once_than_there_are_slots():
    slots = Slots("watchers", 1)
    with slots.taken(), pytest.raises(Refused, match="Too many watchers"), slots.taken():
        pass
    with slots.taken():
        pass


def test_unknown_things(service):
    client = service.client
    for call in (client.get, client.cancel, lambda i: list(client.watch(i))):
        with pytest.raises(InputError, match="no scan") as caught:
            call("f" * 32)
        assert caught.value.code == "unknown-scan"
    with pytest.raises(InputError, match="no twin"):
        client.twin("nobody")


def test_a_status_that_there_is_not(service):
    """A client of a later version may know more of them: all scans are not what it asked for."""
    with pytest.raises(grpc.RpcError) as caught:
        service.client._calls.ListScans(pb.ListScansRequest(status=9))
    assert caught.value.code() == _Code.INVALID_ARGUMENT
    assert caught.value.details() == "There is no status with the number 9."
    assert service.client._calls.ListScans(pb.ListScansRequest()).notice


def test_no_service_is_one_sentence_at_once(free_port):
    with TwinClient(f"127.0.0.1:{free_port}") as client:
        for call in (lambda: client.get("x"), lambda: list(client.watch("x"))):
            with pytest.raises(ServiceError, match="No twin service answers"):
                call()
    with pytest.raises(InputError, match="HOST:PORT"):
        TwinClient("somewhere")
