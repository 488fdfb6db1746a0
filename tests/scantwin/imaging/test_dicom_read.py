"""DICOM series -> volumes: place, order, gaps, tilt, padding, compression, enhanced multi-frame."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless

from scantwin.errors import Rejection
from scantwin.imaging.dicom_geometry import Plane, stack_planes
from scantwin.imaging.reading import find_studies, read_ct, read_study
from scantwin.imaging.reasons import code_of
from scantwin.imaging.volume import Volume

from .memory import memory_traced


def hu_at(points):
    return 2.0 * points[..., 0] - 3.0 * points[..., 1] + 1.5 * points[..., 2] - 20.0


def world_error(volume: Volume, margin: int = 0) -> float:
    """Largest difference from `hu_at` [HU] over all voxels but `margin` on each side."""
    index = np.stack(np.meshgrid(*(np.arange(margin, n - margin) for n in volume.shape), indexing="ij"), -1)
    return float(np.abs(volume.array[tuple(np.moveaxis(index, -1, 0))] - hu_at(volume.world(index))).max())


def codes(study) -> list[str]:
    return [code_of(note) for note in study.warnings]


def rejected(folder: Path, **options) -> str:
    with pytest.raises(Rejection) as caught:
        read_study(find_studies(folder)[0], **options)
    assert caught.value.code
    return caught.value.code


def one(folder: Path):
    (source,) = find_studies(folder)
    return read_study(source)


ORIENTATIONS = {
    "head first supine": (1, 0, 0, 0, 1, 0),
    "feet first supine": (-1, 0, 0, 0, 1, 0),
    "head first prone": (-1, 0, 0, 0, -1, 0),
    "decubitus left": (0, -1, 0, 1, 0, 0),
    "decubitus right": (0, 1, 0, -1, 0, 0),
    "coronal": (1, 0, 0, 0, 0, -1),
    "sagittal": (0, 1, 0, 0, 0, -1),
}


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_every_voxel_lies_where_it_was_whatever_the_orientation(name, tmp_path, ct_maker):
    ct_maker(orientation=ORIENTATIONS[name]).write(tmp_path)
    ct = read_ct(tmp_path)
    assert ct.is_canonical
    assert world_error(ct) <= 0.51  # stored as whole numbers


@given(angles=st.tuples(*[st.floats(-0.7, 0.7)] * 3), spacing=st.tuples(*[st.floats(0.7, 4.0)] * 3))
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_oblique_series_are_moved_to_the_patients_axes(angles, spacing, tmp_path_factory, ct_maker):
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_euler("xyz", angles).as_matrix()
    folder = tmp_path_factory.mktemp("oblique")
    maker = ct_maker(orientation=tuple(np.round(turn[:, :2].T.ravel(), 12)), spacing=spacing)
    study = one(maker.write(folder))
    ct = study.ct
    assert ct.is_canonical
    assert ("geometry.oblique" in codes(study)) == (np.abs(turn - np.eye(3)).max() > 1e-3)
    inside = ct.array > -1000  # air outside the oblique field of view
    index = np.argwhere(inside)
    error = np.abs(ct.array[inside] - hu_at(ct.world(index)))
    # Voxels at the rim are mixed with the air outside: half a voxel of the gradient.
    assert np.median(error) < 1.0
    assert inside.any()


def test_a_tilted_gantry_is_straightened_with_a_warning(tmp_path, ct_maker):
    tilt = np.radians(15)
    orientation = (1, 0, 0, 0, float(np.cos(tilt)), float(-np.sin(tilt)))
    study = one(ct_maker(orientation=orientation, step=(0.0, 0.0, 3.0), slices=20).write(tmp_path))
    assert "geometry.tilt" in codes(study)
    assert any("15.0 degrees" in note for note in study.warnings)
    assert study.ct.is_canonical
    inside = np.argwhere(study.ct.array > -1000)
    error = np.abs(study.ct.array[tuple(inside.T)] - hu_at(study.ct.world(inside)))
    assert np.median(error) < 1.0


def test_missing_slices_are_filled_when_few_and_refused_when_many(tmp_path, ct_maker):
    maker = ct_maker(slices=40)
    few = one(maker.write(tmp_path / "few", keep=lambda i: i not in (7, 22)))
    assert "geometry.missing-slices" in codes(few)
    assert few.ct.shape[0] == 40
    assert world_error(few.ct) <= 1.01
    maker.write(tmp_path / "many", keep=lambda i: not 10 <= i < 22)
    assert rejected(tmp_path / "many") == "geometry.large-gap"


def test_uneven_slices_are_interpolated_with_a_warning(tmp_path, ct_maker):
    rng = np.random.default_rng(3)
    shift = rng.uniform(-0.9, 0.9, 30)  # [mm] of 3 mm
    maker = ct_maker(slices=30)

    def change(ds, i):
        at = i + shift[i] / 3.0
        ds.PixelData = maker.stored(at)[0].astype("<i2").tobytes()
        ds.ImagePositionPatient = [float(v) for v in np.asarray(maker.origin) + at * maker.axes()[2]]

    study = one(maker.write(tmp_path, change=change))
    assert "geometry.uneven-filled" in codes(study)
    assert world_error(study.ct, 1) <= 1.01


def test_two_bed_positions_that_overlap_out_of_step_become_one_stack(tmp_path, ct_maker, pet_maker):
    ct_maker(slices=24).write(tmp_path / "ct")
    first = pet_maker(slices=8)
    second = pet_maker(slices=8, origin=(-14.0, -9.0, -19.0 + 6 * 4.0 + 2.0))
    uid = "1.2.826.0.1.77.1.3"

    def rename(ds, i):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{uid}.1{i}"
        ds.AcquisitionTime = "100800"

    first.write(tmp_path / "bed 1")
    second.write(tmp_path / "bed 2", change=rename)
    study = one(tmp_path)
    assert {"geometry.uneven-filled", "suv.acquisition-times"} <= set(codes(study))
    index = np.stack(np.meshgrid(*(np.arange(n) for n in study.pet.shape), indexing="ij"), -1)
    points = study.pet.world(index)
    expected = 5.0 + 0.02 * points[..., 0] + 0.01 * points[..., 1] - 0.015 * points[..., 2]
    np.testing.assert_allclose(study.pet.array, expected, atol=5e-4)


def test_slices_at_one_place_are_kept_once(tmp_path, ct_maker):
    ct_maker().write(tmp_path / "a")
    ct_maker(series="1.2.826.0.1.77.1.2").write(tmp_path / "copy")  # the same instances again
    study = one(tmp_path)
    assert study.ct.shape[0] == 12
    # One slice was sent twice under another instance UID.
    again = ct_maker().dataset(4)
    again.SOPInstanceUID = again.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
    pydicom.dcmwrite(tmp_path / "again.dcm", again)
    study = one(tmp_path)
    assert "geometry.duplicates" in codes(study)
    assert world_error(study.ct) <= 0.51


def test_of_several_passes_in_one_series_one_is_taken(tmp_path, ct_maker):
    for k in range(2):

        def change(ds, i, k=k):
            ds.AcquisitionNumber = k + 1
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{k}.{i}"
            if k == 1:
                ds.PixelData = bytes(len(ds.PixelData))

        ct_maker().write(tmp_path / str(k), change=change)
    study = one(tmp_path)
    assert "geometry.passes" in codes(study)
    assert study.ct.shape[0] == 12
    assert world_error(study.ct) <= 0.51


@pytest.mark.parametrize("said", [True, False])
def test_a_scout_among_the_slices_is_left_out(said, tmp_path, ct_maker):
    ct_maker().write(tmp_path)
    scout = ct_maker(orientation=(1, 0, 0, 0, 0, -1), shape=(30, 20)).dataset(0)
    if said:
        scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout.SOPInstanceUID = scout.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
    pydicom.dcmwrite(tmp_path / "AAA", scout)
    study = one(tmp_path)
    assert ("geometry.stray" in codes(study)) != said
    assert world_error(study.ct) <= 0.51


@pytest.mark.parametrize("where", ["orientation", "spacing"])
def test_headers_that_jitter_about_a_rounding_edge_are_of_one_series(where, tmp_path, ct_maker):
    def jitter(ds, i):
        off = 1e-7 if i % 2 else -1e-7
        angle = 0.005 + off if where == "orientation" else 0.0
        cosine, sine = np.cos(angle), np.sin(angle)
        ds.ImageOrientationPatient = [cosine, sine, 0.0, -sine, cosine, 0.0]
        ds.PixelSpacing = [2.0, 1.5005 + off if where == "spacing" else 1.5]

    study = one(ct_maker().write(tmp_path, change=jitter))
    assert study.ct.shape[0] == 12
    assert "geometry.stray" not in codes(study)


def test_padding_becomes_air_and_values_are_clipped(tmp_path, ct_maker):
    def change(ds, i):
        array = np.frombuffer(ds.PixelData, "<i2").reshape(14, 17).copy()
        array[0], array[1, 0] = -2000, 32000
        ds.PixelData, ds.PixelPaddingValue = array.tobytes(), -2000
        ds["PixelPaddingValue"].VR = "SS"

    study = one(ct_maker().write(tmp_path, change=change))
    assert "ct.padding" in codes(study)
    assert (study.ct.array[:, 0] == -1000).all()
    assert study.ct.array.max() == 3071
    assert study.ct.array.min() >= -1024


def test_a_padding_value_that_would_be_tissue_is_not_believed(tmp_path, ct_maker):
    def change(ds, i):
        ds.PixelPaddingValue = 1024  # 0 HU
        ds["PixelPaddingValue"].VR = "SS"

    study = one(ct_maker().write(tmp_path, change=change))
    assert "ct.padding" not in codes(study)


@pytest.mark.parametrize("high", [11, 14, 15])
@pytest.mark.parametrize("signed", [0, 1])
def test_values_in_upper_bits_are_moved_down(high, signed, tmp_path, ct_maker):
    """HighBit need not be BitsStored - 1 in old files; as they stand, values are 16 times too high."""

    def moved(ds, i):
        hu = np.frombuffer(ds.PixelData, "<i2").astype(int) - 1024
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, high, signed
        ds.RescaleIntercept = 0 if signed else -1024
        stored = (hu if signed else hu + 1024) & 0xFFF
        ds.PixelData = (stored << (high - 11)).astype("<u2").tobytes()

    ct_maker().write(tmp_path, change=moved)
    assert world_error(one(tmp_path).ct) <= 0.5


@pytest.mark.parametrize("packed", [False, True])
def test_values_whose_bits_cannot_be_told_are_refused(packed, tmp_path, ct_maker):
    """A header that says the upper bits, and values in the lower ones; or a decoder between the two."""

    def contradiction(ds, i):
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 15, 0
        if packed:
            ds.PixelData = (np.frombuffer(ds.PixelData, "<u2") << 4).astype("<u2").tobytes()
            ds.compress(RLELossless, generate_instance_uid=False)

    ct_maker().write(tmp_path, change=contradiction)
    assert rejected(tmp_path) == "dicom.high-bit"


def test_pet_has_another_slope_on_every_slice(tmp_path, ct_maker, pet_maker):
    ct_maker().write(tmp_path / "ct")
    pet_maker().write(tmp_path / "pet")
    study = one(tmp_path)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in study.pet.shape), indexing="ij"), -1)
    points = study.pet.world(index)
    expected = 5.0 + 0.02 * points[..., 0] + 0.01 * points[..., 1] - 0.015 * points[..., 2]
    np.testing.assert_allclose(study.pet.array, expected, atol=2e-4)  # half a step of the stored values
    assert study.pet.shape != study.ct.shape


SYNTAXES = {
    "deflated": "1.2.840.10008.1.2.1.99",
    "implicit": "1.2.840.10008.1.2",
    "big endian": "1.2.840.10008.1.2.2",
    "rle": "1.2.840.10008.1.2.5",
    "jpeg-ls": "1.2.840.10008.1.2.4.80",
    "jpeg 2000": "1.2.840.10008.1.2.4.90",
}


@pytest.mark.parametrize("name", SYNTAXES)
def test_transfer_syntaxes_give_the_same_voxels(name, tmp_path, ct_maker):
    uid = pydicom.uid.UID(SYNTAXES[name])

    def change(ds, i):
        if uid.is_compressed and not uid.is_deflated:
            ds.compress(uid, generate_instance_uid=False)
        else:
            if name == "big endian":
                ds.PixelData = np.frombuffer(ds.PixelData, "<i2").astype(">i2").tobytes()
                ds["PixelData"].VR = "OW"
            ds.file_meta.TransferSyntaxUID = uid

    def write(maker, folder):
        folder.mkdir()
        for i in range(maker.slices):
            ds = maker.dataset(i)
            change(ds, i)
            pydicom.dcmwrite(
                folder / f"{i}", ds, enforce_file_format=True, little_endian=name != "big endian",
                implicit_vr=name == "implicit",
            )  # fmt: skip
        return folder

    maker = ct_maker(shape=(40, 70), slices=4)  # the JPEG 2000 encoder wants at least 32 voxels
    plain = read_ct(maker.write(tmp_path / "plain"))
    np.testing.assert_array_equal(read_ct(write(maker, tmp_path / "other")).array, plain.array)


def as_lossless_jpeg(source: Path, target: Path) -> Path:
    """The files of a folder, packed by GDCM as JPEG lossless, process 14."""
    gdcm = pytest.importorskip("gdcm", reason="python-gdcm reads lossless JPEG")
    target.mkdir()
    for path in source.iterdir():
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(path))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFile(reader.GetFile())
        writer.SetFileName(str(target / path.name))
        writer.SetImage(change.GetOutput())
        assert writer.Write()
    return target


def test_lossless_jpeg_gives_the_same_voxels(tmp_path, ct_maker):
    packed = as_lossless_jpeg(ct_maker().write(tmp_path / "plain"), tmp_path / "jpeg")
    assert pydicom.dcmread(next(packed.iterdir())).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.70"
    np.testing.assert_array_equal(read_ct(packed).array, read_ct(tmp_path / "plain").array)


def test_a_decoder_that_dies_refuses_the_study_and_nothing_else(tmp_path, ct_maker, monkeypatch):
    packed = as_lossless_jpeg(ct_maker(slices=4).write(tmp_path / "plain"), tmp_path / "jpeg")
    monkeypatch.setattr("scantwin.imaging.jpeg_apart.sys.executable", "/bin/false")
    assert rejected(packed) == "dicom.compressed"
    monkeypatch.undo()
    for path in packed.iterdir():
        content = bytearray(path.read_bytes())
        at = content.find(b"\xff\xd8") + 4
        content[at : at + 60] = bytes(60)
        path.write_bytes(bytes(content))
    assert rejected(packed) == "dicom.compressed"


def enhanced(maker, order) -> pydicom.FileDataset:
    """The maker's slices as one enhanced multi-frame file."""
    ds = maker.dataset(0)
    is_ct = maker.modality == "CT"
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = (
        "1.2.840.10008.5.1.4.1.1.2.1" if is_ct else "1.2.840.10008.5.1.4.1.1.130"
    )
    frames, pixels = [], b""
    for i in order:
        flat = maker.dataset(i)
        position, orientation, measures, values, content = (Dataset() for _ in range(5))
        position.ImagePositionPatient = flat.ImagePositionPatient
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = (
            flat.RescaleSlope, flat.RescaleIntercept, "HU" if is_ct else "US",
        )  # fmt: skip
        content.FrameAcquisitionDateTime = "20200101100500"
        group = Dataset()
        group.PlanePositionSequence = Sequence([position])
        group.PixelValueTransformationSequence = Sequence([values])
        group.FrameContentSequence = Sequence([content])
        frames.append(group)
        pixels += flat.PixelData
        orientation.ImageOrientationPatient = flat.ImageOrientationPatient
        measures.PixelSpacing, measures.SliceThickness = flat.PixelSpacing, flat.SliceThickness
    shared = Dataset()
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelMeasuresSequence = Sequence([measures])
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope",
                 "RescaleIntercept", "SliceThickness"):  # fmt: skip
        delattr(ds, name)
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = (
        Sequence([shared]),
        Sequence(frames),
    )
    ds.NumberOfFrames, ds.PixelData = len(frames), pixels
    return ds


@pytest.mark.parametrize("packed", [False, True])
def test_enhanced_multi_frame_ct_and_pet_read_like_classic_ones(packed, tmp_path, ct_maker, pet_maker):
    rng = np.random.default_rng(0)
    classic, multi = tmp_path / "classic", tmp_path / "multi"
    multi.mkdir()
    for maker, name in ((ct_maker(), "ct"), (pet_maker(), "pet")):
        maker.write(classic / name)
        ds = enhanced(maker, rng.permutation(maker.slices))
        if name == "pet":
            del ds.CorrectedImage, ds.DecayCorrection
            ds.AttenuationCorrected = ds.DecayCorrected = "YES"
            ds.DecayCorrectionDateTime = "20200101090000"
            drug = ds.RadiopharmaceuticalInformationSequence[0]
            drug.RadiopharmaceuticalStartDateTime = "20200101090000"
        if packed:
            ds.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
        pydicom.dcmwrite(multi / name, ds, enforce_file_format=True)
    a, b = one(classic), one(multi)
    np.testing.assert_array_equal(a.ct.array, b.ct.array)
    np.testing.assert_allclose(a.pet.array, b.pet.array, rtol=1e-6)
    assert a.ct.same_grid(b.ct)
    assert a.pet.same_grid(b.pet)


BROKEN = {
    "no position": ("ImagePositionPatient", None, "dicom.missing-field"),
    "no spacing": ("PixelSpacing", None, "dicom.missing-field"),
    "zero spacing": ("PixelSpacing", [0, 1], "geometry.bad"),
    "no slope": ("RescaleSlope", None, "dicom.missing-field"),
    "not HU": ("RescaleType", "OD", "ct.not-hu"),
    "huge": ("Rows", 65000, "dicom.truncated"),
    "bad orientation": ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], "geometry.bad"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_series_that_lacks_something_is_refused_with_its_reason(name, tmp_path, ct_maker):
    field, value, code = BROKEN[name]

    def change(ds, i):
        setattr(ds, field, value) if value is not None else delattr(ds, field)

    assert rejected(ct_maker().write(tmp_path, change=change)) == code


def test_sizes_are_checked_before_memory_is_taken(tmp_path, ct_maker, monkeypatch):
    from scantwin.imaging import limits

    ct_maker().write(tmp_path)
    monkeypatch.setattr(limits, "MAX_VOXEL_BYTES", 1000)
    assert rejected(tmp_path) == "dicom.too-large"


def test_a_small_file_that_inflates_to_a_giant_is_not_inflated(tmp_path, ct_maker, monkeypatch):
    from scantwin.imaging import limits
    from scantwin.imaging.dicom_files import FileRef
    from scantwin.imaging.dicom_headers import read_header
    from scantwin.imaging.dicom_lesions import read_lesions
    from scantwin.imaging.dicom_series import index_file
    from scantwin.imaging.suv_series import find_pet_series

    def swell(ds, i):
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
        ds.PixelData = bytes(40 << 20)

    ct = Volume(np.zeros((1, 1, 1)), (1.0, 1.0, 1.0))
    path = next(ct_maker(slices=1).write(tmp_path, change=swell).iterdir())
    assert path.stat().st_size < 1 << 20
    assert index_file(FileRef(path)).readable, "within the limit"
    assert len(pydicom.dcmread(path).PixelData) == 40 << 20
    monkeypatch.setattr(limits, "MAX_INFLATED_BYTES", 20 << 20)
    with memory_traced():
        assert not index_file(FileRef(path)).readable
        assert [code_of(note) for note in read_lesions([FileRef(path)], ct)[1]] == ["lesions.unreadable"]
        for read in (read_header, lambda ref: find_pet_series(ref.path)):
            with pytest.raises(Rejection) as caught:
                read(FileRef(path))
            assert caught.value.code == "dicom.too-large"
        assert rejected(tmp_path) == "dicom.unreadable"  # as of all damaged files
        peak = tracemalloc.get_traced_memory()[1]
    assert peak < 20 << 20


def test_cut_short_files_are_refused_or_left_out(tmp_path, ct_maker):
    ct_maker(slices=30).write(tmp_path)
    files = sorted(tmp_path.iterdir())
    files[3].write_bytes(files[3].read_bytes()[:300])  # within the header
    study = one(tmp_path)
    assert "dicom.file-left-out" in codes(study)
    files[5].write_bytes(files[5].read_bytes()[:-100])  # within the pixels
    assert rejected(tmp_path) == "dicom.truncated"


@given(st.integers(3, 40), st.floats(0.5, 8.0), st.randoms(use_true_random=False), st.floats(-400, 400))
@settings(max_examples=60, deadline=None)
def test_planes_in_any_order_make_the_same_stack(count, step, random, start):
    planes = [
        Plane(i, (1.0, 2.0, start + i * step), (1, 0, 0, 0, 1, 0), (1.0, 1.0), (4, 4)) for i in range(count)
    ]
    random.shuffle(planes)
    stack = stack_planes(planes)
    assert list(stack.order) == sorted(stack.order)
    assert stack.slices == count
    assert stack.affine[2, 2] == pytest.approx(step, rel=1e-6)
    assert stack.affine[:3, 3] == pytest.approx((1.0, 2.0, start), abs=1e-6)


@given(data=st.data())
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
def test_mutated_files_give_a_study_or_a_rejection(data, tmp_path_factory, ct_maker, pet_maker):
    folder = tmp_path_factory.mktemp("fuzz")
    ct_maker(slices=4, shape=(5, 6)).write(folder)
    pet_maker(slices=4, shape=(4, 4)).write(folder)
    for path in sorted(folder.iterdir())[:: data.draw(st.integers(1, 4))]:
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 6))):
            at = data.draw(st.integers(128, len(content) - 1))
            content[at] = data.draw(st.integers(0, 255))
        cut = data.draw(st.one_of(st.none(), st.integers(0, len(content))))
        path.write_bytes(bytes(content[:cut]))
    try:
        for source in find_studies(folder):
            study = read_study(source)
            assert np.isfinite(study.ct.array).all()
    except Rejection as refusal:
        assert refusal.code
