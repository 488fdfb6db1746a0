"""PET headers as files carry them: private blocks anywhere, encodings, broken values."""

from __future__ import annotations

import io
from typing import Any

import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from scantwin.imaging.pet_header import (
    GE_CREATOR,
    PHILIPS_CREATOR,
    SIEMENS_CREATOR,
    PetHeader,
    header_of,
    headers_of_dump,
    number,
)
from scantwin.imaging.suv import suv_factors

RIGHT = 70_000 / (368.08e6 * 2 ** (-3600 / 6586.2))


def dataset(**changes: Any) -> Dataset:
    drug = Dataset()
    drug.RadiopharmaceuticalStartTime = "100000"
    drug.RadionuclideTotalDose = "368080000"
    drug.RadionuclideHalfLife = "6586.2"
    ds = Dataset()
    ds.Modality = "PT"
    ds.Manufacturer = "SCANNER"
    ds.Units, ds.DecayCorrection, ds.CorrectedImage = "BQML", "START", ["ATTN", "DECY"]
    ds.PatientWeight = "70"
    ds.SeriesDate = ds.AcquisitionDate = "20250101"
    ds.SeriesTime = ds.AcquisitionTime = "110000"
    ds.RescaleSlope, ds.RescaleIntercept = "1.5", "0"
    ds.RadiopharmaceuticalInformationSequence = [drug]
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return ds


def through_a_file(ds: Dataset, syntax: str) -> PetHeader:
    """The header after writing and reading, which changes how private values are typed."""
    file = io.BytesIO()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.128"
    ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.128", "1.2.3"
    ds.save_as(file, enforce_file_format=True)
    file.seek(0)
    return header_of(pydicom.dcmread(file))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("taken", [0, 3])
def test_private_fields_are_found_at_any_block(syntax: str, taken: int) -> None:
    """Another vendor's block may have been there first; then the elements are not (0009,10xx)."""
    ds = dataset(Units="CNTS")
    for group in (0x0009, 0x0071, 0x7053):
        for k in range(taken):
            ds.private_block(group, f"SOMEBODY {k}", create=True).add_new(0x0D, "LO", "20250101050000")
    ds.private_block(0x0009, GE_CREATOR, create=True).add_new(0x0D, "DT", "20250101105500.00")
    ds.private_block(0x0009, GE_CREATOR).add_new(0x3B, "DT", "20250101100000.00")
    ds.private_block(0x7053, PHILIPS_CREATOR, create=True).add_new(0x00, "DS", "0.000551")
    ds.private_block(0x7053, PHILIPS_CREATOR).add_new(0x09, "DS", "1.602563")
    header = through_a_file(ds, syntax)
    assert (header.vendor_reference, header.vendor_start) == ("20250101105500.00", "20250101100000.00")
    assert (header.philips_suv, header.philips_activity) == (0.000551, 1.602563)


@pytest.mark.parametrize("vr", ["DT", "UN"])
def test_siemens_reference(vr: str) -> None:
    ds = dataset(SeriesTime="114500", AcquisitionTime="110030")
    value: Any = "20250101110000.000000 " if vr == "DT" else b"20250101110000.000000 "
    ds.private_block(0x0071, SIEMENS_CREATOR, create=True).add_new(0x22, vr, value)
    result = suv_factors([header_of(ds)])
    assert (result.factor, result.reference_rule) == (pytest.approx(RIGHT, rel=1e-12), "vendor-private")


def test_private_values_without_their_creator_are_not_believed() -> None:
    """De-identification that removes creators leaves elements that could be anybody's."""
    ds = dataset(Units="CNTS")
    ds.add_new(0x70531000, "DS", "0.000551")
    ds.add_new(0x0009100D, "DT", "20250101105500")
    header = header_of(ds)
    assert (header.philips_suv, header.vendor_reference) == (None, "")


def test_an_empty_manufacturer_with_ges_block_is_ge() -> None:
    ds = dataset(Manufacturer="")
    assert not header_of(ds).is_ge
    ds.private_block(0x0009, GE_CREATOR, create=True).add_new(0x0D, "DT", "20250101110000")
    assert header_of(ds).is_ge


def test_two_administrations_are_refused() -> None:
    ds = dataset()
    ds.RadiopharmaceuticalInformationSequence = [*ds.RadiopharmaceuticalInformationSequence, Dataset()]
    assert header_of(ds).administrations == 2


def test_a_missing_slope_is_told_from_a_broken_one() -> None:
    ds = dataset()
    assert header_of(ds).slope == 1.5
    del ds.RescaleSlope
    assert header_of(ds).slope is None
    result = suv_factors([header_of(ds)])
    assert result.factor == pytest.approx(RIGHT)
    assert result.warnings[0].startswith("suv.no-slope")


def test_an_empty_dataset_is_read() -> None:
    header = header_of(Dataset())
    assert (header.weight, header.units, header.corrected) == (None, "", ())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("70", 70.0),
        (" 70 ", 70.0),
        (b"70\0", 70.0),
        (["70"], 70.0),
        (70, 70.0),
        ("", None),
        (None, None),
        ([], None),
    ],
)
def test_numbers(value: object, expected: float | None) -> None:
    assert number(value) == expected


@pytest.mark.parametrize(
    "value", ["70,5", "seventy", "1_000", "nan", "inf", "1e999", ["70", "71"], True, {"a": 1}, "70kg"]
)
def test_what_is_no_number(value: object) -> None:
    found = number(value)
    assert found is not None and found != found  # noqa: PLR0124 - NaN


def test_dumps_carry_private_fields_by_name() -> None:
    base = {"Units": "BQML", "SeriesTime": "114500"}
    for key in ("GEPrivatePostInjectionDateTime", "SiemensDecayCorrectionDateTime"):
        (header,) = headers_of_dump([base | {key: "20250101110000"}])
        assert header.vendor_reference == "20250101110000"
    with pytest.raises(ValueError, match="object of DICOM keywords"):
        headers_of_dump([1])
