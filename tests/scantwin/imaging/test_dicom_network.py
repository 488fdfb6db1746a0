"""C-STORE against real nodes on free loopback ports: what is sent arrives, what goes wrong is a sentence."""

from __future__ import annotations

import socket
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pynetdicom import AE, evt

from scantwin.errors import InputError, ResourceError, ServiceError
from scantwin.imaging import limits
from scantwin.imaging.dicom_network import store
from scantwin.imaging.dicom_pet import write_pet_series
from scantwin.imaging.dicom_receiver import VERIFICATION, Receiver
from scantwin.imaging.volume import Volume

from .memory import memory_traced

PET = "1.2.840.10008.5.1.4.1.1.128"


@pytest.fixture
def series(tmp_path: Path) -> Path:
    array = np.random.default_rng(0).gamma(2.0, 1.0, (5, 16, 18)).astype(np.float32)
    write_pet_series(Volume(array, (3.0, 4.0, 4.0), unit="SUV"), tmp_path / "pet", model_version="m", seed=1)
    return tmp_path / "pet"


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with Receiver(tmp_path / "in", 0, "TESTAE") as node:
        yield node


def send(node: Receiver, *paths: Path, ae: str = "TESTAE", calling: str = "SCANTWIN"):
    return store(paths, node.host, node.port, ae, calling, timeout_s=10)


def test_what_is_sent_arrives_whole(series: Path, receiver: Receiver) -> None:
    report = send(receiver, series)
    assert (report.sent, report.failed) == (5, [])
    assert (receiver.received, receiver.refused) == (5, 0)
    arrived = {pydicom.dcmread(p).SOPInstanceUID: pydicom.dcmread(p) for p in receiver.folder.rglob("*.dcm")}
    for path in series.iterdir():
        ds = pydicom.dcmread(path)
        assert arrived[ds.SOPInstanceUID] == ds
    assert not [p for p in receiver.folder.rglob("*") if ".part" in p.name]


def test_the_same_object_again_leaves_its_file_alone(series: Path, receiver: Receiver) -> None:
    send(receiver, series)
    before = {p: p.stat().st_mtime_ns for p in receiver.folder.rglob("*.dcm")}
    send(receiver, series)
    assert {p: p.stat().st_mtime_ns for p in receiver.folder.rglob("*.dcm")} == before


def test_no_sender_chooses_a_path(series: Path, receiver: Receiver) -> None:
    path = next(iter(series.iterdir()))
    for k, uid in enumerate(("../../evil", "/tmp/evil", "1.2/../3", "x" * 300, "a\0b")):  # noqa: S108
        ds = pydicom.dcmread(path)
        ds.StudyInstanceUID = uid
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{k}"
        ds.save_as(path.parent / f"evil{k}.dcm")
    send(receiver, series)
    names = [p.relative_to(receiver.folder) for p in receiver.folder.rglob("*.dcm")]
    assert all(len(n.parts) == 2 and len(n.parts[0]) == 32 and len(n.stem) == 32 for n in names)
    assert len(names) == receiver.received


def test_damaged_files_are_told_and_the_others_go(series: Path, receiver: Receiver) -> None:
    files = sorted(series.iterdir())
    files[0].write_bytes(files[0].read_bytes()[:300])
    (series / "notes.txt").write_text("hello")
    report = send(receiver, series)
    assert report.sent == 4
    assert [Path(one["file"]).name for one in report.failed] == [files[0].name]


@pytest.mark.parametrize("name", ["notes.zip", "letter.docx"])
def test_a_damaged_zip_is_told_and_the_others_go(name: str, series: Path, receiver: Receiver) -> None:
    (series / name).write_bytes(b"PK\x03\x04 broken")
    report = send(receiver, series)
    assert (report.sent, receiver.received) == (5, 5)
    assert [Path(one["file"]).name for one in report.failed] == [name]
    with pytest.raises(InputError, match=r"no DICOM file to send: .* cannot be read as a zip"):
        send(receiver, series / name)


def test_a_small_file_that_inflates_to_a_giant_is_told_and_not_inflated(
    series: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    giant = sorted(series.iterdir())[0]
    ds = pydicom.dcmread(giant)
    ds.PixelData = bytes(40 << 20)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    ds.save_as(giant)
    del ds
    monkeypatch.setattr(limits, "MAX_INFLATED_BYTES", 10 << 20)
    with memory_traced():
        report = send(receiver, series)
        peak = tracemalloc.get_traced_memory()[1]
    assert report.sent == 4
    assert [Path(one["file"]).name for one in report.failed] == [giant.name]
    assert "inflates to more than" in report.failed[0]["why"]
    assert peak < 20 << 20


def test_one_file_and_a_zip_can_be_sent(series: Path, receiver: Receiver, tmp_path: Path) -> None:
    import shutil

    zipped = Path(shutil.make_archive(str(tmp_path / "all"), "zip", series))
    assert send(receiver, zipped).sent == 5
    assert send(receiver, series / "00002.dcm").sent == 1


def test_a_kind_that_is_not_taken_is_told(series: Path, receiver: Receiver) -> None:
    for path in series.iterdir():
        ds = pydicom.dcmread(path)
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
        ds.save_as(path)
    with pytest.raises(ServiceError, match="takes none of these kinds"):
        send(receiver, series)
    assert receiver.received == 0


def test_an_object_that_is_too_large_ends_the_association(series: Path, tmp_path: Path) -> None:
    with Receiver(tmp_path / "in", 0, "TESTAE", max_object_bytes=20_000) as node:
        path = series / "00001.dcm"
        ds = pydicom.dcmread(path)
        ds.ImageComments = "x" * 10_000
        ds.add_new(0x00091010, "OB", b"0" * 2_000_000)
        ds.save_as(path)
        with pytest.raises(ServiceError, match="broke off"):
            send(node, series)
        assert node.refused == 1
        assert send(node, series / "00003.dcm").sent == 1, "it goes on for others"


def test_an_object_without_a_study_is_refused(series: Path, receiver: Receiver) -> None:
    for path in series.iterdir():
        ds = pydicom.dcmread(path)
        del ds.StudyInstanceUID
        ds.save_as(path)
    report = send(receiver, series)
    assert {one["why"] for one in report.failed} == {"The other side refused it, status 0xc000."}
    assert (report.sent, receiver.received, receiver.refused) == (0, 0, 5)


def test_a_wrong_ae_is_one_sentence(series: Path, receiver: Receiver) -> None:
    with pytest.raises(ServiceError, match="does not know the AE title OTHER"):
        send(receiver, series, ae="OTHER")


def test_an_unknown_sender_is_one_sentence(series: Path) -> None:
    node = AE("PACS")
    node.require_calling_aet = ["FRIEND"]
    node.add_supported_context(PET)
    server = node.start_server(("127.0.0.1", 0), block=False)
    try:
        with pytest.raises(ServiceError, match="does not know the sender SCANTWIN"):
            store([series], "127.0.0.1", server.socket.getsockname()[1], "PACS", timeout_s=10)
    finally:
        server.shutdown()


def test_a_dead_port_is_one_sentence(series: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ServiceError, match=f"Nothing answers at 127.0.0.1:{port}"):
        store([series], "127.0.0.1", port, "PACS", timeout_s=5)


def test_what_is_no_dicom_node_is_one_sentence(series: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.recv(100)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(ServiceError, match="broke the association off"):
            store([series], "127.0.0.1", listener.getsockname()[1], "PACS", timeout_s=5)
        thread.join(5)


def test_refusals_of_single_files_are_in_the_report(series: Path) -> None:
    def full(event: evt.Event) -> int:
        return 0xA700

    node = AE("PACS")
    node.add_supported_context(PET)
    server = node.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, full)])
    try:
        report = store([series], "127.0.0.1", server.socket.getsockname()[1], "PACS", timeout_s=10)
    finally:
        server.shutdown()
    assert report.sent == 0
    assert [one["why"] for one in report.failed] == ["The other side refused it, status 0xa700."] * 5


def test_echo_is_answered(receiver: Receiver) -> None:
    ae = AE()
    ae.add_requested_context(VERIFICATION)
    association = ae.associate(receiver.host, receiver.port, ae_title="TESTAE")
    assert association.send_c_echo().Status == 0
    association.release()


def test_deflated_objects_are_not_taken(receiver: Receiver) -> None:
    """Nobody sees what a small one becomes before it is inflated as a whole."""
    ae = AE()
    ae.add_requested_context(PET, [DeflatedExplicitVRLittleEndian])
    association = ae.associate(receiver.host, receiver.port, ae_title="TESTAE")
    assert association.accepted_contexts == []
    assert len(association.rejected_contexts) == 1
    association.release()


def test_bad_words_are_refused_before_anything_is_sent(series: Path, tmp_path: Path) -> None:
    for title in ("", "  ", "A" * 17, "A\\B", "Ä"):
        with pytest.raises(InputError, match="AE title"):
            store([series], "127.0.0.1", 1, title)
    with pytest.raises(InputError, match="no DICOM file"):
        (tmp_path / "empty").mkdir()
        store([tmp_path / "empty"], "127.0.0.1", 1, "PACS")
    with pytest.raises(InputError, match="no such file"):
        store([tmp_path / "nowhere"], "127.0.0.1", 1, "PACS")


def test_a_taken_port_is_one_sentence(receiver: Receiver, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="Cannot listen on"):
        Receiver(tmp_path / "other", receiver.port).start()
