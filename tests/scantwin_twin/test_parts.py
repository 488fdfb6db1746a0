"""The catalogue, names of results, triage, packing, the executor, and the generated code."""

from __future__ import annotations

import logging
import os
import shutil
import string
import struct
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import scantwin_twin
from scantwin.errors import InputError, Rejection, ServiceError
from scantwin.imaging.volume import Volume
from scantwin_twin.executor import LocalExecutor, Work
from scantwin_twin.packing import packed
from scantwin_twin.refusals import REFUSALS, Refused, from_detail, public, refuse
from scantwin_twin.results import inside, unzip_series, zip_folder
from scantwin_twin.triage import triage
from scantwin_twin.uploads import Limits, inspect_zip
from scantwin_twin.v1 import twin_pb2 as pb

PACKAGE = Path(scantwin_twin.__file__).parent


@pytest.mark.parametrize("code", REFUSALS)
def test_every_refusal_is_a_sentence_with_a_hint_and_comes_back_as_itself(code):
    entry = REFUSALS[code]
    places = {name for _, name, _, _ in string.Formatter().parse(entry.sentence + entry.hint) if name}
    error = refuse(code, **dict.fromkeys(places, 7))
    status, detail = public(error)
    assert error.message.endswith(".") and error.hint and "{" not in error.message + error.hint
    assert (status, detail.code, detail.message) == (entry.status, code, error.message)
    back = from_detail(detail)
    assert (back.message, back.hint, back.code) == (error.message, error.hint, code)
    bad_input = status not in (
        grpc.StatusCode.DATA_LOSS, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNAVAILABLE,
    )  # fmt: skip
    assert isinstance(back, InputError if bad_input else ServiceError)


def test_what_was_not_foreseen_is_logged_and_not_told(caplog):
    with caplog.at_level(logging.ERROR):
        status, detail = public(RuntimeError("password=hunter2 in /srv/secret"))
    assert status == grpc.StatusCode.INTERNAL and detail.code == "internal"
    assert "hunter2" not in str(detail) and "secret" not in str(detail)
    incident = detail.hint.split("incident ")[1].split()[0]
    assert incident in caplog.text and "hunter2" in caplog.text


def test_our_errors_keep_their_code_and_system_errors_lose_their_path():
    status, detail = public(Rejection("No.", code="pet.not-fdg"))
    assert (status, detail.code) == (grpc.StatusCode.INVALID_ARGUMENT, "pet.not-fdg")
    status, detail = public(FileNotFoundError(2, "No such file", "/srv/secret"))
    assert status == grpc.StatusCode.RESOURCE_EXHAUSTED and "secret" not in str(detail)


@given(st.text(max_size=30))
def test_a_name_never_leads_out_of_the_folder(name):
    folder = Path("/out/scan")
    try:
        target = inside(folder, name)
    except ServiceError:
        return
    assert target.resolve().is_relative_to(folder) and target != folder


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a//b", "a/../../b", "c:x", "a\\b", "", ".", "a\x00"]
)
def test_names_that_lead_out(name):
    with pytest.raises(ServiceError, match="unsafe name"):
        inside(Path("/out"), name)


def test_a_series_survives_its_zip_and_a_wicked_zip_is_refused(tmp_path):
    series = tmp_path / "dicom"
    series.mkdir()
    for n in range(3):
        (series / f"{n}.dcm").write_bytes(bytes([n]) * 1000)
    first = zip_folder(series, tmp_path / "a.zip").read_bytes()
    assert zip_folder(series, tmp_path / "b.zip").read_bytes() == first
    back = unzip_series(tmp_path / "a.zip", tmp_path / "back")
    assert {p.name: p.read_bytes() for p in back.iterdir()} == {
        p.name: p.read_bytes() for p in series.iterdir()
    }
    with zipfile.ZipFile(tmp_path / "wicked.zip", "w") as archive:
        archive.writestr("../../out.txt", "x")
    with pytest.raises(ServiceError, match="unsafe name"):
        unzip_series(tmp_path / "wicked.zip", tmp_path / "back")


def _volume(value: float, shape=(4, 4, 4)) -> Volume:
    return Volume(np.full(shape, value, np.float32), (4.0, 4.0, 4.0), unit="SUV")


def test_triage_never_claims_to_tell():
    clear = triage(_volume(2.0), _volume(0.1), warnings=[], districts=2)
    assert clear.answer == "cannot tell" and len(clear.reasons) == 1
    wide = triage(_volume(2.0), _volume(1.5), warnings=["w"], districts=0)
    assert any("100% of the voxels" in r for r in wide.reasons) and len(wide.reasons) == 4
    assert any(
        "never measured" in r for r in triage(_volume(2), _volume(np.nan), warnings=[], districts=1).reasons
    )
    assert any("empty" in r for r in triage(_volume(0), _volume(0), warnings=[], districts=1).reasons)


def test_packing_takes_ct_slices_only_and_no_names(ct_series, ct_file, tmp_path):
    with packed(ct_series) as pack, zipfile.ZipFile(pack.path) as archive:
        names = archive.namelist()
        assert pack.format == pb.FORMAT_DICOM_ZIP and names == [f"{n:05d}.dcm" for n in range(1, 25)]
        made = pack.path
    assert not made.exists()
    with packed(ct_file) as pack:
        assert (pack.path, pack.format, pack.suffix) == (ct_file, pb.FORMAT_NIFTI, ".nii.gz")
    (tmp_path / "note.txt").write_text("hello")
    for wrong, said in (
        (tmp_path, "no CT slices"),
        (tmp_path / "note.txt", "neither"),
        (tmp_path / "no", "no CT at"),
    ):
        with pytest.raises(InputError, match=said), packed(wrong):
            pass


def test_packing_takes_files_of_any_date_and_does_not_send_the_date(ct_series, tmp_path):
    slices = sorted(ct_series.glob("*.dcm"))[:3]
    for source, date in zip(
        slices, (0, 1e9, 5e9), strict=True
    ):  # 1970, 2001 and 2128, which a zip cannot say
        os.utime(shutil.copy(source, tmp_path), (date, date))
    with packed(tmp_path) as pack, zipfile.ZipFile(pack.path) as archive:
        members = archive.infolist()
        assert [archive.read(m) for m in members] == [source.read_bytes() for source in slices]
    assert {m.date_time for m in members} == {(1980, 1, 1, 0, 0, 0)}
    assert all(m.compress_size < m.file_size for m in members)


def _end(files: int, size: int) -> bytes:
    """The end of a zip that claims so many files in a directory of so many bytes."""
    return struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, files, files, size, 0, 0)


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        (_end(11, 46 * 11), "unpacks-too-large", "11 files; this service takes 10 files"),
        (_end(1, 600 << 20), "unpacks-too-large", "600 MiB of names"),
        (_end(10, 46 * 10), "not-a-zip", "damaged"),
    ],
    ids=["files", "bytes", "neither"],
)
def test_a_zip_of_too_many_files_is_refused_before_its_directory_is_read(tmp_path, end, code, said):
    path = tmp_path / "ct.zip"
    path.write_bytes(b"PK\x03\x04" + end)  # there is no directory to read
    with pytest.raises(Refused, match=said) as caught:
        inspect_zip(path, Limits(members=10))
    assert caught.value.code == code


def test_a_worker_that_cannot_start_or_takes_too_long_is_an_error_and_no_hang(tmp_path):
    work = Work("s", "ct", "model", "v", 0, str(tmp_path / "out"))
    broken = LocalExecutor(module="scantwin_twin.no_such_worker")
    assert broken.run(work, lambda *_: None, threading.Event()).error["code"] == "worker-died"
    broken.close()
    slow = LocalExecutor(limit_s=0.05)  # it takes longer to import numpy
    assert slow.run(work, lambda *_: None, threading.Event()).error["code"] == "scan-too-long"
    assert slow.pid is None
    stop = threading.Event()
    stop.set()
    stopped = slow.run(work, lambda *_: None, stop)
    assert stopped.summary is None and stopped.error is None
    slow.close()
    assert slow.run(work, lambda *_: None, threading.Event()) == stopped


def test_a_worker_has_no_secrets_goes_without_work_and_is_replaced(tmp_path, monkeypatch):
    executor = LocalExecutor(idle_s=0.05)
    work = Work("s", str(tmp_path / "none.nii"), "model", "v", 0, str(tmp_path / "out"))
    for name in ("SCANTWIN_TWIN_TOKEN", "SCANTWIN_DATABASE_URL", "SCANTWIN_OTHER"):
        monkeypatch.setenv(name, "a-value-that-shows")
    seen: list[str] = []

    def look(*_):
        seen.append(Path(f"/proc/{executor.pid}/environ").read_text())

    first = executor.run(work, look, threading.Event())
    assert (
        seen and "SCANTWIN_OTHER=a-value-that-shows" in seen[0] and seen[0].count("a-value-that-shows") == 1
    )
    assert first.error["bad_input"] and str(tmp_path) not in first.error["message"]
    executor._child.process.wait(10)
    assert executor.run(work, lambda *_: None, threading.Event()).error == first.error
    executor.close()


def test_the_generated_code_is_what_the_proto_says(tmp_path):
    proto = PACKAGE / "proto" / "scantwin" / "twin" / "v1"
    subprocess.run(
        [
            sys.executable, "-m", "grpc_tools.protoc", f"-Iscantwin_twin/v1={proto}",
            f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", f"--grpc_python_out={tmp_path}",
            "scantwin_twin/v1/twin.proto",
        ],
        check=True,
    )  # fmt: skip
    for made in (tmp_path / "scantwin_twin" / "v1").iterdir():
        assert made.read_text() == (PACKAGE / "v1" / made.name).read_text(), f"run `make proto`: {made.name}"


def test_a_small_share_is_not_said_to_be_none() -> None:
    sure = _volume(0.1, (8, 8, 8))
    array = np.array(sure.array)
    array.flat[0] = 9.0
    one_wide = sure.with_array(array, "SUV")
    reasons = triage(_volume(2.0, sure.shape), one_wide, warnings=[], districts=1).reasons
    assert any("The error bar of less than 1% of the voxels" in reason for reason in reasons)
