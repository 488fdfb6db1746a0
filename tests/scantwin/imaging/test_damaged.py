"""Damage found by fuzzing: each is refused with a code that says what it is, never `study.unreadable`."""

from __future__ import annotations

import io
import resource
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from scantwin.errors import Rejection
from scantwin.imaging.dicom_files import FileRef, zip_members
from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.reading import find_studies, read_study
from scantwin.imaging.volume import Volume


def code_of_first(path) -> str:
    with pytest.raises(Rejection) as caught:
        for source in find_studies(path):
            read_study(source)
    return str(caught.value.code)


def nifti_zip(tmp_path):
    rng = np.random.default_rng(0)
    ct = Volume(rng.normal(-100, 300, (8, 30, 30)).astype(np.int16), (5.0, 5.0, 5.0), unit="HU")
    write_nifti(ct, tmp_path / "CT.nii.gz")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "CT.nii.gz", "CT.nii.gz")
    (tmp_path / "CT.nii.gz").unlink()
    return tmp_path / "a.zip"


def test_a_checksum_that_does_not_fit(tmp_path):
    path = nifti_zip(tmp_path)
    data = bytearray(path.read_bytes())
    data[600] ^= 255
    path.write_bytes(bytes(data))
    assert code_of_first(path) == "zip.unreadable"


def test_a_member_whose_two_names_differ(tmp_path):
    path = nifti_zip(tmp_path)
    data = bytearray(path.read_bytes())
    data[32] ^= 1
    path.write_bytes(bytes(data))
    assert code_of_first(path) == "zip.unreadable"


def test_an_unknown_way_of_packing(tmp_path):
    path = nifti_zip(tmp_path)
    data = bytearray(path.read_bytes())
    struct.pack_into("<H", data, data.index(b"PK\x01\x02") + 10, 77)
    path.write_bytes(bytes(data))
    assert code_of_first(path) == "zip.unreadable"


def test_a_member_that_begins_before_the_file(tmp_path):
    """The directory lies further on than it says, so that members begin at a negative byte."""
    path = nifti_zip(tmp_path)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x05\x06") + 16, len(data) * 2)
    path.write_bytes(bytes(data))
    assert code_of_first(path) in ("zip.unreadable", "study.empty-folder")


@pytest.mark.parametrize("field", ["ImagePositionPatient", "PixelSpacing", "Columns", "AcquisitionNumber"])
def test_a_value_representation_that_does_not_exist(field, tmp_path, ct_maker):
    folder = ct_maker(slices=4, fields={"AcquisitionNumber": 1}).write(tmp_path / "ct")
    from pydicom.datadict import tag_for_keyword

    tag = int(tag_for_keyword(field))
    element = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    for path in folder.iterdir():
        data = bytearray(path.read_bytes())
        at = data.index(element) + 4
        data[at : at + 2] = b"ZZ"
        path.write_bytes(bytes(data))
    if field == "AcquisitionNumber":  # it only tells passes apart
        assert len(find_studies(folder)) == 1
    else:
        assert code_of_first(folder) in ("geometry.bad", "dicom.unreadable", "geometry.too-few-slices")


def test_a_length_beyond_the_file_takes_no_memory(tmp_path, ct_maker):
    """A field that claims 4 GB would be asked for at once."""
    folder = ct_maker(slices=3).write(tmp_path / "ct")
    for path in folder.iterdir():
        data = path.read_bytes()
        at = data.index(b"\xe0\x7f\x10\x00")
        path.write_bytes(data[: at + 4] + b"OW\0\0" + struct.pack("<I", 0xFFFFFFF0) + data[at + 12 : -9])
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), before[1]))
    try:
        assert code_of_first(folder) in ("dicom.truncated", "dicom.unreadable")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_streams_seek_and_end_like_files(tmp_path):
    content = bytes(range(256)) * 300
    (tmp_path / "x").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", content)
    for ref in (FileRef(tmp_path / "x"), *zip_members(tmp_path / "x.zip")):
        with ref.open() as stream:
            assert stream.read(10) == content[:10]
            assert stream.seek(1000) == 1000
            assert stream.read(1 << 40) == content[1000:]
            assert stream.read(5) == b""
            stream.seek(-3, io.SEEK_END)
            assert stream.read() == content[-3:]
