"""MetaImage and NRRD without ITK: the same voxels in the same place, and nothing that ends the process."""

from __future__ import annotations

import gzip
import zipfile

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from scantwin.errors import Rejection
from scantwin.imaging.images import read_image
from scantwin.imaging.reading import find_studies, read_study
from scantwin.imaging.volume import Volume

KINDS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64]


def some(dtype=np.int16) -> Volume:
    turn = Rotation.from_euler("xyz", (11, -23, 37), degrees=True).as_matrix()
    values = np.random.default_rng(1).integers(0, 100, (3, 4, 5)).astype(dtype)
    return Volume(values, (3.0, 2.0, 1.25), (5.0, -6.0, 7.5), turn, "HU")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("ending", ["mha", "mhd", "nrrd"])
@pytest.mark.parametrize("dtype", KINDS, ids=lambda d: d.__name__)
def test_as_itk_writes_them(dtype, ending, packed, tmp_path):
    volume = some(dtype)
    sitk.WriteImage(volume.to_sitk(), str(tmp_path / f"x.{ending}"), packed)
    again = read_image(tmp_path / f"x.{ending}", "HU")
    assert again.same_grid(volume)
    assert again.array.dtype == dtype
    np.testing.assert_array_equal(again.array, volume.array)


def test_the_other_byte_order_and_an_nrrd_in_ras(tmp_path):
    volume = some()
    head = (
        "ObjectType = Image\nNDims = 3\nBinaryDataByteOrderMSB = True\nDimSize = 5 4 3\n"
        "ElementType = MET_SHORT\nElementSpacing = 1 2 3\nElementDataFile = LOCAL\n"
    )
    (tmp_path / "x.mha").write_bytes(head.encode() + volume.array.astype(">i2").tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "x.mha", "HU").array, volume.array)
    head = (
        "NRRD0005\n# made by hand\ntype: short\ndimension: 3\nspace: right-anterior-superior\n"
        "sizes: 5 4 3\nspace directions: (1,0,0) (0,2,0) (0,0,3)\nendian: big\nencoding: raw\n"
        "space origin: (10,20,30)\nkey:=value\n\n"
    )
    (tmp_path / "x.nrrd").write_bytes(head.encode() + volume.array.astype(">i2").tobytes())
    found = read_image(tmp_path / "x.nrrd", "HU")
    np.testing.assert_array_equal(found.array, volume.array)
    np.testing.assert_allclose(found.world((0, 0, 1)), (-11, -20, 30))


def test_a_zip_of_metaimages_is_a_study(tmp_path):
    rng = np.random.default_rng(0)
    ct = Volume(rng.uniform(-900, 300, (5, 20, 20)).astype(np.int16), (5.0, 4.0, 4.0), unit="HU")
    pet = ct.with_array(rng.random((5, 20, 20)).astype(np.float32), "SUV")
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        for name, volume in (("CT.mha", ct), ("SUV.mhd", pet)):
            sitk.WriteImage(volume.to_sitk(), str(tmp_path / name), True)
        for path in sorted(tmp_path.glob("*")):
            if path.suffix != ".zip":
                archive.write(path, f"one/{path.name}")
    (source,) = find_studies(tmp_path / "export.zip")
    study = read_study(source)
    np.testing.assert_array_equal(study.ct.array, ct.array)
    np.testing.assert_array_equal(study.pet.array, pet.array)


HEAD = {
    "NDims": "3", "DimSize": "5 4 3", "ElementType": "MET_SHORT", "ElementSpacing": "1 1 1",
    "ElementDataFile": "LOCAL",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"NDims": "32767"}, "image.dims"),  # ended the process when ITK read it
        ({"NDims": "x"}, "image.unreadable"),
        ({"DimSize": "5 4"}, "image.dims"),
        ({"DimSize": "5 4 -3"}, "image.dims"),
        ({"DimSize": "5 4 4"}, "image.unreadable"),
        ({"DimSize": "50000 50000 50000"}, "dicom.too-large"),
        ({"ElementType": "MET_STRING"}, "image.unreadable"),
        ({"ElementNumberOfChannels": "3"}, "image.dims"),
        ({"ElementSpacing": "0 1 1"}, "geometry.bad"),
        ({"ElementSpacing": "nan 1 1"}, "image.unreadable"),
        ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "geometry.bad"),
        ({"BinaryData": "False"}, "image.unreadable"),
        ({"CompressedData": "True"}, "image.unreadable"),
        ({"ElementDataFile": "/etc/passwd"}, "image.unreadable"),
        ({"ElementDataFile": "../other.raw"}, "image.unreadable"),
        ({"ElementDataFile": "\0LOCAL"}, "image.unreadable"),
        ({"ElementDataFile": "gone.raw"}, "image.unreadable"),
    ],
)
def test_a_header_that_cannot_be_is_refused(change, code, tmp_path):
    fields = {**HEAD, **change}
    fields["ElementDataFile"] = fields.pop("ElementDataFile")  # it is the last line
    text = "".join(f"{name} = {value}\n" for name, value in fields.items())
    (tmp_path / "x.mha").write_bytes(text.encode() + bytes(120))
    with pytest.raises(Rejection) as caught:
        read_image(tmp_path / "x.mha", "HU")
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("fields", "before", "packed", "detached"),
    [
        ("byte skip: 10\n", b"x" * 10, False, False),
        ("byte skip: 10\n", b"x" * 10, True, False),
        ("line skip: 2\ndata file: x.raw\n", b"one\ntwo\n", False, True),
        ("byte skip: 10\ndata file: x.raw\n", b"x" * 10, False, True),
        ("byte skip: -1\n", b"any number of them", False, False),
    ],
)
def test_an_nrrd_says_where_its_voxels_begin(fields, before, packed, detached, tmp_path):
    volume = some()
    data = before + volume.array.astype("<i2").tobytes()
    encoding = "gzip" if packed else "raw"
    head = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 5 4 3\nencoding: {encoding}\n{fields}\n"
    data = gzip.compress(data) if packed else data
    (tmp_path / "x.nrrd").write_bytes(head.encode() + (b"" if detached else data))
    (tmp_path / "x.raw").write_bytes(data)
    np.testing.assert_array_equal(read_image(tmp_path / "x.nrrd", "HU").array, volume.array)


@pytest.mark.parametrize(("kib", "is_read"), [(200, True), (2000, False)])
def test_an_nrrd_header_is_read_to_its_end_or_refused(kib, is_read, tmp_path):
    """3D Slicer writes half a kB for each segment; what is left of a header is not the first voxels."""
    volume = some()
    keys = "".join(f"Segment{k}_Extent:={'1' * 1000}\n" for k in range(kib))
    head = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 5 4 3\nencoding: raw\n{keys}\n"
    (tmp_path / "x.nrrd").write_bytes(head.encode() + volume.array.astype("<i2").tobytes())
    if is_read:
        np.testing.assert_array_equal(read_image(tmp_path / "x.nrrd", "HU").array, volume.array)
    else:
        with pytest.raises(Rejection, match="does not end within"):
            read_image(tmp_path / "x.nrrd", "HU")


def test_what_moves_an_nrrd_and_is_not_read_is_refused(tmp_path):
    head = "NRRD0004\ntype: short\ndimension: 3\nsizes: 5 4 3\nencoding: raw\naxis mins: 10 20 30\n\n"
    (tmp_path / "x.nrrd").write_bytes(head.encode() + bytes(120))
    with pytest.raises(Rejection, match="space origin"):
        read_image(tmp_path / "x.nrrd", "HU")


@given(place=st.floats(0, 1), bit=st.integers(0, 7), ending=st.sampled_from(["mha", "nrrd"]))
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_turned_bit_in_packed_voxels_is_noticed(place, bit, ending, tmp_path_factory):
    path = tmp_path_factory.mktemp("m") / f"x.{ending}"
    array = np.random.default_rng(0).integers(-1000, 1000, (5, 6, 7)).astype(np.int16)
    sitk.WriteImage(Volume(array, (1.0, 1.0, 1.0), unit="HU").to_sitk(), str(path), True)
    content = bytearray(path.read_bytes())
    begins = content.index(b"LOCAL") + 6 if ending == "mha" else content.index(b"\n\n") + 2
    content[begins + int(place * (len(content) - begins - 1))] ^= 1 << bit
    path.write_bytes(bytes(content))
    try:
        read = read_image(path, "HU")
    except Rejection:
        return
    np.testing.assert_array_equal(read.array, array)  # a bit of gzip's own header


def test_a_packed_nrrd_that_ends_early_is_refused(tmp_path):
    sitk.WriteImage(some().to_sitk(), str(tmp_path / "x.nrrd"), True)
    (tmp_path / "x.nrrd").write_bytes((tmp_path / "x.nrrd").read_bytes()[:-20])
    with pytest.raises(Rejection, match=r"early|checksum"):
        read_image(tmp_path / "x.nrrd", "HU")
