"""Clients that keep the service waiting: they are ended, and do not shut out the others meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from scantwin.errors import ServiceError
from scantwin.settings import Settings
from scantwin.store.models import Scan, Twin
from scantwin_twin.client import TwinClient
from scantwin_twin.patience import MOST_HEALTH_WATCHES, MOST_OTHERS
from scantwin_twin.refusals import refuse
from scantwin_twin.security import expose
from scantwin_twin.server import SERVICE, TwinServer, build
from scantwin_twin.service import MOST_DOWNLOADS, THREADS
from scantwin_twin.uploads import Limits
from scantwin_twin.v1 import twin_pb2 as pb
from scantwin_twin.v1 import twin_pb2_grpc

CHECK = "/grpc.health.v1.Health/Check"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
_Code = grpc.StatusCode
_LONG_S = 60.0
"""Longer than any test here."""


@contextmanager
def _serving(home, models=(), **limits) -> Iterator[tuple[TwinServer, TwinClient]]:
    """A service of its own. Nothing is scanned, so there is no worker."""
    server = build(Settings(home=home), expose("127.0.0.1", 0), models=models, limits=Limits(**limits))
    server.start()
    try:
        with TwinClient(server.address) as client:
            yield server, client
    finally:
        server.stop()


@contextmanager
def _silent(address: str, method: str, count: int) -> Iterator[list[grpc.Future]]:
    """So many calls that are opened and say nothing."""
    hold = threading.Event()

    def nothing():
        hold.wait()
        yield b""

    with grpc.insecure_channel(address) as channel:
        call = channel.stream_unary(method, lambda raw: raw, lambda raw: raw)
        calls = [call.future(nothing()) for _ in range(count)]
        try:
            yield calls
        finally:
            hold.set()


@pytest.mark.parametrize("method", [f"/{SERVICE}/GetScan", f"/{SERVICE}/WatchScan", CHECK, REFLECTION])
def test_calls_that_say_nothing_are_ended(tmp_path, method):
    with (
        _serving(tmp_path, first_s=2.0) as (server, client),
        _silent(server.address, method, THREADS) as calls,
    ):
        codes = {call.exception(timeout=20).code() for call in calls}
        assert _Code.CANCELLED in codes and codes <= {_Code.CANCELLED, _Code.RESOURCE_EXHAUSTED}
        assert not client.models().models


@pytest.mark.parametrize("method", [CHECK, REFLECTION])
def test_what_needs_no_token_does_not_shut_out_the_rest(tmp_path, method):
    with (
        _serving(tmp_path, first_s=_LONG_S) as (server, client),
        _silent(server.address, method, THREADS) as calls,
    ):
        refused = []
        for call in calls:
            call.add_done_callback(lambda call: refused.append(call.code()))
        until = time.monotonic() + 20
        while len(refused) < THREADS - MOST_OTHERS and time.monotonic() < until:
            time.sleep(0.02)
        assert refused == [_Code.RESOURCE_EXHAUSTED] * (THREADS - MOST_OTHERS)
        assert not client.models().models


def test_watches_of_the_health_that_come_and_go_bring_nothing_to_a_standstill(tmp_path):
    ask = health_pb2.HealthCheckRequest()
    with _serving(tmp_path) as (server, _client), grpc.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for _ in range(20):
            watches = [health.Watch(ask) for _ in range(30)]
            time.sleep(0.01)
            for watch in watches:
                watch.cancel()
        assert health.Check(ask, timeout=20).status == health_pb2.HealthCheckResponse.SERVING


def test_the_health_is_watched_to_the_end(tmp_path):
    ask = health_pb2.HealthCheckRequest()
    with _serving(tmp_path) as (server, _client), grpc.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watches = [health.Watch(ask) for _ in range(MOST_HEALTH_WATCHES)]
        assert {next(watch).status for watch in watches} == {health_pb2.HealthCheckResponse.SERVING}
        with pytest.raises(grpc.RpcError) as caught:
            next(health.Watch(ask))
        assert caught.value.code() == _Code.RESOURCE_EXHAUSTED
        assert health.Check(ask).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            health.Check(health_pb2.HealthCheckRequest(service="another"))
        assert caught.value.code() == _Code.NOT_FOUND
        server._health.stop()
        assert [one.status for one in watches[0]] == [health_pb2.HealthCheckResponse.NOT_SERVING]


def test_a_call_without_its_message_is_refused(tmp_path):
    with _serving(tmp_path) as (server, _client), grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.stream_unary(f"/{SERVICE}/GetScan")(iter(()), timeout=10)
        assert caught.value.code() == _Code.INVALID_ARGUMENT
        assert "before its message came" in caught.value.details()


def test_downloads_that_nobody_reads_are_ended_and_uploads_go_on_meanwhile(
    tmp_path, ct_file, model_folder, caplog
):
    caplog.set_level(logging.INFO)
    size = 4 << 20
    (tmp_path / "scans" / "one").mkdir(parents=True)
    (tmp_path / "scans" / "one" / "pet.nii.gz").write_bytes(bytes(size))
    narrow = (("grpc.http2.bdp_probe", 0),)  # takes in 64 KiB before anybody reads, and never more
    with (
        _serving(tmp_path, [model_folder], stall_s=3.0) as (server, client),
        grpc.insecure_channel(server.address, narrow) as channel,
    ):
        file = {"name": "pet.nii.gz", "kind": "pet-nifti", "size": size, "sha256": "0" * 64}
        with server.database.session() as session:
            version = server.models.version("tiny")
            scan = Scan(twin=Twin(pseudonym="p"), model_version=version, status="done", folder="scans/one")
            scan.summary = {"results": [file]}
            session.add(scan)
        request = pb.FetchResultRequest(id=scan.id, name="pet.nii.gz")
        fetch = twin_pb2_grpc.TwinServiceStub(channel).FetchResult
        calls = [fetch(request) for _ in range(MOST_DOWNLOADS)]
        assert {next(call).head.file.size for call in calls} == {size}
        with pytest.raises(ServiceError, match="Too many downloads"):
            client.fetch(scan.id, "pet.nii.gz", tmp_path / "pet.nii.gz")
        client.cancel(client.submit(ct_file, model="tiny").id)
        until = time.monotonic() + 30
        while caplog.text.count("kept still") < MOST_DOWNLOADS and time.monotonic() < until:
            time.sleep(0.05)
        for call in calls:
            with pytest.raises(grpc.RpcError) as caught:
                list(call)
            assert caught.value.code() == _Code.CANCELLED
        said = "Too many"
        while said.startswith("Too many") and time.monotonic() < until:
            time.sleep(0.05)
            with pytest.raises(ServiceError) as failed:
                client.fetch(scan.id, "pet.nii.gz", tmp_path / "pet.nii.gz")
            said = failed.value.message
        assert "arrived damaged" in said  # whole, that is: its sha256 was never right


def test_the_time_that_the_service_takes_is_not_the_clients(tmp_path, ct_file, model_folder, monkeypatch):
    with _serving(tmp_path, [model_folder], stall_s=2.0) as (server, client):

        def slow(*_args, **_more):
            time.sleep(3)  # longer than a client may keep the service waiting
            raise refuse("queue-full", waiting=0)

        monkeypatch.setattr(server.jobs, "create", slow)
        with pytest.raises(ServiceError) as caught:
            client.submit(ct_file, model="tiny")
        assert caught.value.code == "queue-full"
