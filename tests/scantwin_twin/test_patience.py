"""Clients that keep the service waiting: they are ended, and do not shut out the others meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from scantwin.errors import ServiceError
from scantwin.settings import Settings
from scantwin.store.models import Scan, Twin
from scantwin_twin.catalogue import refuse
from scantwin_twin.client import TwinClient
from scantwin_twin.security import expose
from scantwin_twin.server import TwinServer, build
from scantwin_twin.service import MOST_DOWNLOADS
from scantwin_twin.uploads import Limits
from scantwin_twin.v1 import twin_pb2 as pb
from scantwin_twin.v1 import twin_pb2_grpc

_Code = grpc.StatusCode


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


def test_downloads_that_nobody_reads_are_ended_and_uploads_go_on_meanwhile(tmp_path, ct_file, model_folder):
    size = 4 << 20
    (tmp_path / "scans" / "one").mkdir(parents=True)
    (tmp_path / "scans" / "one" / "pet.nii.gz").write_bytes(bytes(size))
    narrow = (("grpc.http2.bdp_probe", 0),)  # takes in 64 KiB before anybody reads, and never more
    with (
        _serving(tmp_path, [model_folder], stall_s=1.0) as (server, client),
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
        until, said = time.monotonic() + 20, "Too many"
        while said.startswith("Too many") and time.monotonic() < until:
            time.sleep(0.05)
            with pytest.raises(ServiceError) as failed:
                client.fetch(scan.id, "pet.nii.gz", tmp_path / "pet.nii.gz")
            said = failed.value.message
        assert "arrived damaged" in said  # whole, that is: its sha256 was never right
        for call in calls:
            with pytest.raises(grpc.RpcError) as caught:
                list(call)
            assert caught.value.code() == _Code.CANCELLED


def test_the_time_that_the_service_takes_is_not_the_clients(tmp_path, ct_file, model_folder, monkeypatch):
    with _serving(tmp_path, [model_folder], stall_s=0.2) as (server, client):

        def slow(*_args, **_more):
            time.sleep(1)
            raise refuse("queue-full", waiting=0)

        monkeypatch.setattr(server.jobs, "create", slow)
        with pytest.raises(ServiceError) as caught:
            client.submit(ct_file, model="tiny")
        assert caught.value.code == "queue-full"
