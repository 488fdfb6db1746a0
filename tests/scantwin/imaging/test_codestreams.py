"""The size that a codestream claims is compared with the image's before a decoder takes memory for it."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from openjpeg.utils import encode_array
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from scantwin.imaging import dicom_pixels
from scantwin.imaging.codestreams import claimed_size
from scantwin.imaging.reading import read_ct

from .test_reading import rejected

START, SCAN = b"\xff\xd8", bytes.fromhex("ffda 0008 01 01 00 00 00 00")


def frame_header(marker: int, rows: int, columns: int, components: int = 1) -> bytes:
    said = struct.pack(">BHHB", 16, rows, columns, components) + b"\x01\x11\x00" * components
    return bytes([0xFF, marker]) + struct.pack(">H", 2 + len(said)) + said


BOMB = START + frame_header(0xF7, 9000, 9000) + SCAN + b"\0" * 6 + b"\xff\xd9"
"""A JPEG-LS frame of 81 million voxels."""


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
def test_what_is_packed_claims_its_own_size(syntax, ct_maker):
    ds = ct_maker(shape=(40, 70)).dataset(0)
    ds.compress(syntax, generate_instance_uid=False)
    frame = get_frame(ds.PixelData, 0, number_of_frames=1)
    assert claimed_size(frame) == (40, 70, 1)
    with pytest.raises(struct.error):
        claimed_size(frame[:10])


def test_jpeg_2000_in_the_boxes_of_a_file_claims_its_size():
    for components in (1, 3):
        shape = (40, 70) if components == 1 else (40, 70, components)
        array = np.zeros(shape, np.uint8)
        assert claimed_size(encode_array(array, codec_format=1)) == (40, 70, components)
    assert claimed_size(encode_array(array, codec_format=1)[:60]) is None


@pytest.mark.parametrize(
    ("frame", "size"),
    [
        (BOMB, (9000, 9000, 1)),
        (START + frame_header(0xC3, 5, 6, 3), (5, 6, 3)),
        (START + b"\xff\xff\xff\xe0\x00\x04ab" + frame_header(0xC1, 5, 6), (5, 6, 1)),
        # A marker without a length: what looks like its length is the true frame header.
        (START + b"\xff\x01" + frame_header(0xC0, 9000, 9000) + frame_header(0xC0, 5, 6), (9000, 9000, 1)),
        (START + b"\xff\xc4\x00\x02" + frame_header(0xC0, 5, 6), (5, 6, 1)),
        (START, None), (b"", None), (b"no codestream", None),
    ],
)  # fmt: skip
def test_the_first_frame_header_counts(frame, size):
    assert claimed_size(frame) == size


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless, JPEGLosslessSV1])
def test_a_codestream_of_another_size_is_refused_before_it_is_decoded(
    syntax, tmp_path, ct_maker, monkeypatch
):
    def decode(*_: object, **__: object) -> None:
        pytest.fail("it was decoded")

    monkeypatch.setattr(dicom_pixels, "pixel_array", decode)
    monkeypatch.setattr(dicom_pixels.JpegApart, "decode", decode)

    def swell(ds, i):
        ds.file_meta.TransferSyntaxUID = syntax
        ds.PixelData = encapsulate([BOMB])

    assert rejected(ct_maker(slices=3, shape=(16, 16)).write(tmp_path, change=swell)) == "dicom.compressed"


@pytest.mark.parametrize("lengths", [1, 2])
def test_the_frame_that_is_looked_at_is_the_one_that_is_decoded(lengths, tmp_path, ct_maker):
    """Tables of offsets that do not belong together are ignored by the decoder."""
    maker = ct_maker(slices=4, shape=(40, 70))

    def mislead(ds, i):
        ds.compress(JPEGLSLossless, generate_instance_uid=False)
        frame = get_frame(ds.PixelData, 0, number_of_frames=1)
        ds.PixelData, ds.NumberOfFrames = encapsulate([BOMB, frame]), 2
        ds.ExtendedOffsetTable = struct.pack("<Q", 8 + len(BOMB) + len(BOMB) % 2)
        ds.ExtendedOffsetTableLengths = struct.pack("<Q", len(frame)) * lengths

    folder = maker.write(tmp_path / "packed", change=mislead)
    if lengths == 1:
        np.testing.assert_array_equal(read_ct(folder).array, read_ct(maker.write(tmp_path / "plain")).array)
    else:
        assert rejected(folder) == "dicom.compressed"


@pytest.mark.parametrize("syntax", [JPEGLSLossless, RLELossless])
def test_frames_beyond_their_number_are_not_decoded(syntax, tmp_path, ct_maker):
    maker = ct_maker(slices=4, shape=(40, 70))

    def more(ds, i):
        ds.compress(syntax, generate_instance_uid=False)
        ds.PixelData = encapsulate([get_frame(ds.PixelData, 0, number_of_frames=1), BOMB])

    plain = read_ct(maker.write(tmp_path / "plain"))
    np.testing.assert_array_equal(read_ct(maker.write(tmp_path / "more", change=more)).array, plain.array)
