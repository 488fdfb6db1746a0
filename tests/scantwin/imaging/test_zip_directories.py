"""A zip is refused for what its end declares, whatever its directory holds."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest

from scantwin.errors import Rejection
from scantwin.imaging.reading import find_studies, read_study
from scantwin.imaging.zip_directories import directory_excess


def _zip_of(path: Path, files: int, comment: bytes = b"") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = comment
        for number in range(files):
            archive.writestr(f"{number}.dcm", b"")
    return path


@pytest.mark.parametrize("comment", [b"", b"a comment", b"c" * 0xFFFF])
@pytest.mark.parametrize("large", [False, True])
def test_how_many_files_a_zip_has_is_known_from_its_end(tmp_path, monkeypatch, large, comment):
    if large:
        monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 5)  # more are told by the ZIP64 record
    path = _zip_of(tmp_path / "x.zip", 6, comment)
    assert (b"PK\x06\x06" in path.read_bytes()) == large
    assert (directory_excess(path, 6), directory_excess(path, 5)) == ("", "6 files")


def test_a_zip_that_lies_about_its_files_is_refused_for_its_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 5)
    content = _zip_of(tmp_path / "x.zip", 60).read_bytes()
    at = content.index(b"PK\x06\x06")
    size = struct.unpack_from("<Q", content, at + 40)[0]
    for record, field, lie in ((b"PK\x06\x06", 32, "<Q"), (b"PK\x05\x06", 10, "<H")):
        content = bytearray(content)
        struct.pack_into(lie, content, content.index(record) + field, 1)
    (tmp_path / "x.zip").write_bytes(content)
    assert directory_excess(tmp_path / "x.zip", size // 512 + 1) == ""
    assert "of names" in directory_excess(tmp_path / "x.zip", size // 512)
    # A ZIP64 record elsewhere, with small numbers, does not hide what a reader may go by.
    elsewhere = content[at : at + 56]
    struct.pack_into("<QQ", elsewhere, 32, 1, 1)
    moved = bytearray(elsewhere + content)
    struct.pack_into("<Q", moved, moved.rindex(b"PK\x06\x07") + 8, 0)
    (tmp_path / "x.zip").write_bytes(moved)
    assert "of names" in directory_excess(tmp_path / "x.zip", size // 512)


def test_a_zip_of_very_many_files_is_refused_before_its_directory_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("scantwin.imaging.dicom_files.MAX_MEMBERS", 5)
    content = bytearray(_zip_of(tmp_path / "x.zip", 6).read_bytes())
    content[content.index(b"PK\x01\x02")] = 0  # who reads the directory finds it damaged
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(Rejection) as told:
        read_study(find_studies(tmp_path / "x.zip")[0])
    assert told.value.code == "zip.bomb"


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x05\x06", bytes(21), b"x" * 70_000 + b"PK\x05\x06" + b"y" * 17],
    ids=["empty", "cut", "short", "cut late"],
)
def test_what_is_no_zip_has_no_end(tmp_path, content):
    (tmp_path / "x.zip").write_bytes(content)
    assert directory_excess(tmp_path / "x.zip", 1) == ""
    with pytest.raises(Rejection) as told:
        read_study(find_studies(tmp_path / "x.zip")[0])
    assert told.value.code == "zip.unreadable"
