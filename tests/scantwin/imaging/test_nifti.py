"""NIfTI: the world, units, quirks of headers, and damaged files."""

from __future__ import annotations

import gzip
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from scantwin.errors import Rejection
from scantwin.imaging.images import read_image
from scantwin.imaging.nifti import read_nifti, write_nifti
from scantwin.imaging.volume import Volume

from .memory import memory_traced
from .sitk_volumes import from_sitk

AXCODES = ["RAS", "LPS", "LAS", "RPI", "ASR", "SRA", "PIL"]


def rejected(path, unit="HU") -> str:
    with pytest.raises(Rejection) as caught:
        read_nifti(path, unit)
    return caught.value.code


def image(shape=(5, 6, 7), affine=None, dtype=np.int16) -> nib.Nifti1Image:
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    return nib.Nifti1Image(array, np.diag([2.0, 3.0, 4.0, 1.0]) if affine is None else affine)


@pytest.mark.parametrize("codes", AXCODES)
def test_orientations_lie_where_simpleitk_puts_them(codes, tmp_path):
    wanted = nib.orientations.axcodes2ornt(codes)
    turned = image().as_reoriented(nib.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], wanted))
    nib.save(turned, tmp_path / "x.nii.gz")
    ours = read_nifti(tmp_path / "x.nii.gz", "HU")
    theirs = from_sitk(sitk.ReadImage(str(tmp_path / "x.nii.gz")), "HU")
    assert ours.same_grid(theirs)
    np.testing.assert_array_equal(ours.array, theirs.array)
    nib.save(image(), tmp_path / "plain.nii.gz")
    plain = read_nifti(tmp_path / "plain.nii.gz", "HU").canonical()
    assert ours.canonical().same_grid(plain)
    np.testing.assert_array_equal(ours.canonical().array, plain.array)


@given(
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    spacing=st.tuples(*[st.floats(0.2, 9.0)] * 3),
    origin=st.tuples(*[st.floats(-800, 800)] * 3),
    dtype=st.sampled_from([np.int16, np.uint8, np.float32, np.int32, bool]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_written_is_read_again(shape, angles, spacing, origin, dtype, tmp_path_factory):
    path = tmp_path_factory.mktemp("n") / "x.nii.gz"
    turn = Rotation.from_euler("xyz", angles).as_matrix()
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    volume = Volume(array, spacing, origin, turn, "SUV")
    again = read_nifti(write_nifti(volume, path), "SUV")
    corners = np.array([[0, 0, 0], np.asarray(shape) - 1])
    np.testing.assert_allclose(again.world(corners), volume.world(corners), atol=2e-2)  # float32 headers
    np.testing.assert_array_equal(again.array, array)
    assert again.unit == "SUV"


def test_the_header_scale_is_applied_and_integers_stay_integers(tmp_path):
    plain = image()
    nib.save(plain, tmp_path / "a.nii")
    assert read_nifti(tmp_path / "a.nii", "HU").array.dtype == np.int16
    plain.header.set_slope_inter(0.5, -10)
    nib.save(plain, tmp_path / "b.nii")
    expected = nib.load(tmp_path / "b.nii").get_fdata().transpose(2, 1, 0)
    np.testing.assert_allclose(read_nifti(tmp_path / "b.nii", "SUV").array, expected, rtol=1e-6)


def test_units_are_brought_to_millimetres_where_they_make_sense(tmp_path):
    metres = image(affine=np.diag([0.002, 0.003, 0.004, 1.0]))
    metres.header.set_xyzt_units("meter")
    nib.save(metres, tmp_path / "a.nii")
    assert read_nifti(tmp_path / "a.nii", "HU").spacing == pytest.approx((4, 3, 2))
    said_wrongly = image()
    said_wrongly.header.set_xyzt_units("meter")
    nib.save(said_wrongly, tmp_path / "b.nii")
    assert read_nifti(tmp_path / "b.nii", "HU").spacing == pytest.approx((4, 3, 2))


def test_sform_goes_before_qform_and_either_alone_is_enough(tmp_path):
    both = image()
    both.set_qform(np.diag([2.0, 3.0, 4.0, 1.0]), 1)
    shifted = np.diag([2.0, 3.0, 4.0, 1.0])
    shifted[:3, 3] = 10, 20, 30
    both.set_sform(shifted, 2)
    nib.save(both, tmp_path / "both.nii")
    assert read_nifti(tmp_path / "both.nii", "HU").origin == pytest.approx((-10, -20, 30))
    both.set_sform(None, 0)
    nib.save(both, tmp_path / "qform.nii")
    assert read_nifti(tmp_path / "qform.nii", "HU").origin == pytest.approx((0, 0, 0))


def test_extra_axes_of_length_one_are_dropped_and_longer_ones_refused(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5, 1), np.int16), np.eye(4)), tmp_path / "a.nii")
    assert read_nifti(tmp_path / "a.nii", "HU").shape == (5, 4, 3)
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5, 2), np.int16), np.eye(4)), tmp_path / "b.nii")
    assert rejected(tmp_path / "b.nii") == "nifti.dims"
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.complex64), np.eye(4)), tmp_path / "c.nii")
    assert rejected(tmp_path / "c.nii") == "nifti.dims"


def test_big_endian_and_nifti_2_are_read(tmp_path):
    array = np.arange(60, dtype=">i2").reshape(3, 4, 5)
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nib.save(nib.Nifti1Image(array, np.eye(4), header), tmp_path / "a.nii")
    nib.save(nib.Nifti2Image(array.astype("<i2"), np.eye(4)), tmp_path / "b.nii.gz")
    for name in ("a.nii", "b.nii.gz"):
        read = read_nifti(tmp_path / name, "HU").array
        np.testing.assert_array_equal(read, array.transpose(2, 1, 0))
        assert read.dtype == np.int16


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_a_header_is_never_read_as_voxels(kind, tmp_path):
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    content = bytearray(kind(array, np.eye(4)).to_bytes())
    place, value = (slice(108, 112), "<f4") if kind is nib.Nifti1Image else (slice(168, 176), "<i8")
    for offset in (0, 100):
        content[place] = np.array([offset], value).tobytes()
        (tmp_path / "x.nii").write_bytes(bytes(content))
        read = read_nifti(tmp_path / "x.nii", "HU").array
        np.testing.assert_array_equal(read, array.transpose(2, 1, 0))
    (tmp_path / "x.nii").write_bytes(bytes(content[:-4]))
    assert rejected(tmp_path / "x.nii") == "nifti.unreadable"


def test_a_sheared_affine_is_straightened_by_the_reader_of_studies(tmp_path):
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[1, 2] = 0.8  # slices slide along y
    nib.save(image((8, 9, 10), affine, np.int16), tmp_path / "ct.nii.gz")
    from scantwin.imaging.world import axis_aligned, skew

    volume = read_nifti(tmp_path / "ct.nii.gz", "HU")
    assert skew(volume) > 0.1
    assert axis_aligned(volume).is_canonical


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        ("cut", "nifti.unreadable"),
        ("gzip", "nifti.unreadable"),
        ("affine", "nifti.geometry"),
        ("huge", "dicom.too-large"),
        ("offset", "nifti.unreadable"),
        ("empty", "nifti.unreadable"),
        ("text", "nifti.unreadable"),
    ],
)
def test_damaged_files_are_refused_with_a_code(spoil, code, tmp_path):
    path = tmp_path / ("x.nii.gz" if spoil == "gzip" else "x.nii")
    nib.save(image(), path)
    content = bytearray(path.read_bytes())
    if spoil == "cut":
        content = content[:-20]
    elif spoil == "gzip":
        content = content[:-30]
    elif spoil == "affine":
        content[280:328] = np.full(12, np.nan, "<f4").tobytes()
    elif spoil == "huge":
        content[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    elif spoil == "offset":
        content[108:112] = np.array([1e12], "<f4").tobytes()
    elif spoil == "empty":
        content = bytearray()
    else:
        content = bytearray(b"this is not an image" * 40)
    path.write_bytes(bytes(content))
    assert rejected(path) == code


@given(place=st.floats(0, 1), bit=st.integers(0, 7))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_turned_bit_in_a_packed_file_is_noticed(place, bit, tmp_path_factory):
    path = tmp_path_factory.mktemp("f") / "x.nii.gz"
    array = np.random.default_rng(0).integers(-1000, 1000, (5, 6, 7)).astype(np.int16)
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1 << bit
    path.write_bytes(bytes(content))
    try:
        read = read_nifti(path, "HU")
    except Rejection as refusal:
        assert refusal.code == "nifti.unreadable"
    else:  # a bit of gzip's own header: its time, its system
        np.testing.assert_array_equal(read.array, array.transpose(2, 1, 0))


@pytest.mark.parametrize("missing", range(1, 10))
def test_a_packed_file_without_its_last_bytes_is_refused(missing, tmp_path):
    nib.save(image(), tmp_path / "x.nii.gz")
    (tmp_path / "x.nii.gz").write_bytes((tmp_path / "x.nii.gz").read_bytes()[:-missing])
    assert rejected(tmp_path / "x.nii.gz") == "nifti.unreadable"


def test_what_follows_the_voxels_is_not_unpacked_without_end(tmp_path):
    content = image().to_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content + bytes(1000)))
    assert read_nifti(tmp_path / "a.nii.gz", "HU").array.ndim == 3
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(content + bytes(200 << 20)))
    assert rejected(tmp_path / "b.nii.gz") == "nifti.unreadable"


def test_without_sform_and_qform_nobody_knows_which_way_is_front(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), None), tmp_path / "x.nii")
    assert rejected(tmp_path / "x.nii") == "nifti.geometry"


def test_a_small_file_that_claims_gigabytes_takes_no_memory(tmp_path):
    path = tmp_path / "x.nii.gz"
    content = bytearray(image().to_bytes())
    content[42:48] = np.array([900, 900, 600], "<i2").tobytes()  # 1.9 GiB as float32
    path.write_bytes(gzip.compress(bytes(content)))
    with memory_traced():
        assert rejected(path) == "nifti.unreadable"
        assert tracemalloc.get_traced_memory()[1] < 50e6


@given(data=st.data(), packed=st.booleans())
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
def test_mutated_bytes_give_a_volume_or_a_rejection(data, packed, tmp_path_factory):
    path = tmp_path_factory.mktemp("f") / ("x.nii.gz" if packed else "x.nii")
    content = bytearray(image((3, 4, 5)).to_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))]
    path.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))
    try:
        assert read_nifti(path, "HU").array.ndim == 3
    except Rejection as refusal:
        assert refusal.code


@pytest.mark.parametrize("ending", ["mha", "mhd", "nrrd"])
def test_metaimage_and_nrrd_are_read(ending, tmp_path):
    turn = Rotation.from_euler("z", 20, degrees=True).as_matrix()
    volume = Volume(np.arange(60, dtype=np.int16).reshape(3, 4, 5), (3, 2, 1), (5, 6, 7), turn, "HU")
    sitk.WriteImage(volume.to_sitk(), str(tmp_path / f"x.{ending}"), True)
    again = read_image(tmp_path / f"x.{ending}", "HU")
    assert again.same_grid(volume)
    np.testing.assert_array_equal(again.array, volume.array)


@given(data=st.data(), ending=st.sampled_from(["mha", "nrrd"]))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_mutated_metaimages_give_a_volume_or_a_rejection(data, ending, tmp_path_factory):
    path = tmp_path_factory.mktemp("m") / f"x.{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 5), np.int16)), str(path))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        assert read_image(path, "HU").array.ndim == 3
    except Rejection as refusal:
        assert refusal.code
