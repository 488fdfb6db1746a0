"""Enhanced and legacy converted PET: where they keep units, scale, decay reference and classic fields."""

from __future__ import annotations

from copy import deepcopy
from datetime import datetime

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from scantwin.imaging.dicom_headers import frames_of
from scantwin.imaging.pet_header import header_of
from scantwin.imaging.reasons import code_of
from scantwin.imaging.suv import suv_factors
from scantwin.imaging.suv_times import acquisition_at
from scantwin.units import F18_HALF_LIFE_S

WEIGHT_G, DOSE = 70_000.0, 3.5e8


def item(**fields) -> Dataset:
    made = Dataset()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def enhanced_pet(**changes) -> Dataset:
    """Injected at 9:00, corrected to 10:00, two frames acquired at 10:00 and 10:03."""
    ds = item(
        SOPClassUID=pydicom.uid.EnhancedPETImageStorage, Modality="PT", PatientWeight=70, PatientSex="F",
        PatientSize=1.7, AttenuationCorrected="YES", DecayCorrected="YES",
        DecayCorrectionDateTime="20200101100000", Manufacturer="Philips",
    )  # fmt: skip
    ds.RadiopharmaceuticalInformationSequence = [
        item(
            RadionuclideTotalDose=DOSE, RadionuclideHalfLife=F18_HALF_LIFE_S,
            RadiopharmaceuticalStartDateTime="20200101090000",
        )
    ]  # fmt: skip
    ds.SharedFunctionalGroupsSequence = [Dataset()]
    frames = []
    for k, at in enumerate(("20200101100000", "20200101100300")):
        frames.append(
            item(
                FrameContentSequence=[item(FrameAcquisitionDateTime=at, FrameAcquisitionDuration=180000.0)],
                PixelValueTransformationSequence=[item(RescaleSlope=str(2 + k), RescaleIntercept="0")],
                RealWorldValueMappingSequence=[mapping("Bq/ml", 2.0 + k)],
            )
        )
    ds.PerFrameFunctionalGroupsSequence = frames
    for name, value in changes.items():
        setattr(ds, name, value)
    return ds


def mapping(unit: str, slope: float) -> Dataset:
    code = item(CodeValue=unit, CodingSchemeDesignator="UCUM", CodeMeaning=unit)
    return item(MeasurementUnitsCodeSequence=[code], RealWorldValueSlope=slope, RealWorldValueIntercept=0.0)


def factors(ds: Dataset):
    return suv_factors([header_of(frame) for frame in frames_of(ds)])


def expected(seconds: float = 3600.0) -> float:
    return WEIGHT_G / (DOSE * 2 ** (-seconds / F18_HALF_LIFE_S))


def test_units_come_from_the_real_world_value_mapping():
    result = factors(enhanced_pet())
    assert result.units == "BQML"
    assert result.factor == pytest.approx(expected(), rel=1e-9)
    assert result.reference_rule == "decay-correction-time"
    assert [float(f.RescaleSlope) for f in frames_of(enhanced_pet())] == [2.0, 3.0]


@pytest.mark.parametrize("unit", ["{SUVbw}g/ml", "g/ml{SUVbw}"])
def test_a_mapping_to_suv_is_suv_already_with_its_own_slope(unit):
    ds = enhanced_pet()
    for frame in ds.PerFrameFunctionalGroupsSequence:
        frame.RealWorldValueMappingSequence = [mapping(unit, 0.001)]
    result = factors(ds)
    assert (result.units, result.factor) == ("GML", 1.0)
    assert float(frames_of(ds)[1].RescaleSlope) == 0.001


def test_of_activity_and_suv_the_activity_is_taken():
    ds = enhanced_pet()
    for frame in ds.PerFrameFunctionalGroupsSequence:
        frame.RealWorldValueMappingSequence = [mapping("{SUVbw}g/ml", 0.001), mapping("Bq/ml", 5.0)]
    assert factors(ds).units == "BQML"
    assert float(frames_of(ds)[0].RescaleSlope) == 5.0


def test_lean_mass_in_a_mapping_is_converted():
    ds = enhanced_pet()
    for frame in ds.PerFrameFunctionalGroupsSequence:
        frame.RealWorldValueMappingSequence = [mapping("{SUVlbm}g/ml", 0.001)]
    lean = 1.07 * 70 - 148 * (70 / 170) ** 2
    assert factors(ds).factor == pytest.approx(70 / lean, rel=1e-9)


def test_the_stated_moment_holds_even_after_the_first_acquisition():
    """It is the definition; a series time that late would not be taken."""
    ds = enhanced_pet(DecayCorrectionDateTime="20200101100500")
    result = factors(ds)
    assert result.factor == pytest.approx(expected(3900), rel=1e-9)
    assert "suv.series-time-late" not in {code_of(w) for w in result.warnings}


def test_corrected_to_the_injection_is_not_decayed():
    result = factors(enhanced_pet(DecayCorrectionDateTime="20200101090000"))
    assert result.factor == pytest.approx(WEIGHT_G / DOSE, rel=1e-9)
    assert result.reference_rule == "administration"


def test_frames_in_another_zone_are_put_on_the_files_clock():
    ds = enhanced_pet(TimezoneOffsetFromUTC="+0100")
    first, second = (one.FrameContentSequence[0] for one in ds.PerFrameFunctionalGroupsSequence)
    first.FrameAcquisitionDateTime = "20200101090000+0000"
    second.FrameAcquisitionDateTime = "20191231233000.50+0000"
    headers = [header_of(frame) for frame in frames_of(ds)]
    assert [acquisition_at(header) for header in headers] == [
        datetime(2020, 1, 1, 10), datetime(2020, 1, 1, 0, 30, 0, 500_000)
    ]  # fmt: skip
    first.FrameAcquisitionDateTime = "20200101107500"
    assert acquisition_at(header_of(frames_of(ds)[0])) is None


@pytest.mark.parametrize(
    ("stated", "rule"),
    [("20200101080000+0000", "administration"), ("20200101090000+0000", "decay-correction-time")],
)
def test_corrected_to_the_injection_is_judged_on_one_clock(stated, rule):
    ds = enhanced_pet(TimezoneOffsetFromUTC="+0100", DecayCorrectionDateTime=stated)
    ds.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartDateTime = "20200101090000+0100"
    result = factors(ds)
    assert result.reference_rule == rule
    assert result.factor == pytest.approx(expected(0 if rule == "administration" else 3600), rel=1e-9)


def test_a_stated_moment_on_another_day_is_put_back_with_a_warning():
    result = factors(enhanced_pet(DecayCorrectionDateTime="20200102100000"))
    assert result.factor == pytest.approx(expected(), rel=1e-9)
    assert "suv.date-shifted" in {code_of(w) for w in result.warnings}


def test_a_legacy_converted_pet_keeps_its_fields_in_unassigned_groups():
    """Units, corrections and times as the classic image had them (Part 3, A.71)."""
    ds = enhanced_pet(SOPClassUID=pydicom.uid.LegacyConvertedEnhancedPETImageStorage)
    for name in ("AttenuationCorrected", "DecayCorrected", "DecayCorrectionDateTime"):
        delattr(ds, name)
    kept = item(
        Units="BQML", DecayCorrection="START", CorrectedImage=["ATTN", "DECY"], SeriesDate="20200101",
        SeriesTime="100000",
    )  # fmt: skip
    ds.SharedFunctionalGroupsSequence[0].UnassignedSharedConvertedAttributesSequence = [kept]
    for frame in ds.PerFrameFunctionalGroupsSequence:
        del frame.RealWorldValueMappingSequence
        frame.UnassignedPerFrameConvertedAttributesSequence = [item(FrameReferenceTime="90000")]
    result = factors(ds)
    assert result.reference_rule == "series-time"
    assert result.factor == pytest.approx(expected(), rel=1e-9)
    assert all(header_of(f).frame_reference_ms == 90000 for f in frames_of(ds))


def test_reading_frames_leaves_the_file_as_it_was():
    ds = enhanced_pet()
    before = deepcopy(ds)
    frames_of(ds)
    assert ds == before
    assert np.isfinite(factors(ds).factor)
