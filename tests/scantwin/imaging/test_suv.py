"""SUV factors: known answers and the traps of real files."""

from __future__ import annotations

import json
import math
import zipfile
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from scantwin.errors import Rejection
from scantwin.imaging.pet_header import PetHeader, header_of, headers_of_dump
from scantwin.imaging.reasons import code_of
from scantwin.imaging.suv import SuvFactors, activity_scales, suv_factors

HALF_LIFE = 6586.2
PET = PetHeader(
    manufacturer="SIEMENS", units="BQML", decay_correction="START",
    corrected=("NORM", "DTIM", "ATTN", "SCAT", "DECY", "RAN"),
    weight=70.0, height=1.75, sex="M", dose=368.08e6, half_life=HALF_LIFE, nuclide="C-111A1 ^18^Fluorine",
    start_time="100000", start_datetime="20250101100000.00",
    series_date="20250101", series_time="110000", acquisition_date="20250101", acquisition_time="110000",
    frame_reference_ms=0.0, frame_duration_ms=120000.0,
)  # fmt: skip
"""The digital reference object: 70 kg, 368.08 MBq at 10:00, scanned at 11:00."""
RIGHT = 70_000 / (368.08e6 * 2 ** (-3600 / HALF_LIFE))


def suv(header: PetHeader = PET, n: int = 3, **changes: object) -> SuvFactors:
    return suv_factors([replace(header, **changes)] * n)  # type: ignore[arg-type]


def refused(*headers: PetHeader, **changes: object) -> str:
    with pytest.raises(Rejection) as caught:
        suv_factors(list(headers)) if headers else suv(**changes)
    return caught.value.code


def codes(result: SuvFactors) -> set[str]:
    return {code_of(w) for w in result.warnings}


# --- known answers


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "answer", "rule"),
    [
        ("SIEMENS", 0.00042748316187, "series-time"),
        ("GE_MEDICAL_AND_BQML", 0.00053673876818, "series-time"),
        ("PHILIPS_CNTS_AND_BQML_SUV", 0.000551, "vendor-factor"),
    ],
)
def test_headers_of_three_vendors(shared_data: Path, name: str, answer: float, rule: str) -> None:
    dump = json.loads((shared_data / "suv/headers" / f"{name}.json").read_text())
    result = suv_factors(headers_of_dump(dump))
    assert result.factors == pytest.approx([answer] * len(dump), rel=1e-6)
    assert isinstance(result.factor, float)
    assert result.reference_rule == rule
    assert result.warnings == ()


@pytest.mark.data
@pytest.mark.parametrize("name", ["DRO_0_0", "DRO_1_0", "DRO_2_0", "DRO_3_1", "DRO_4_1"])
def test_digital_reference_objects(shared_data: Path, name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared_data / f"suv/dro/{name}.zip") as archive:
        archive.extractall(tmp_path)

    pet = [pydicom.dcmread(p) for p in (tmp_path / name / "PT").iterdir()]
    pet.sort(key=lambda s: float(s.ImagePositionPatient[2]))
    mask = np.asarray(nibabel.load(tmp_path / name / "mask/DRO_mask.nii.gz").dataobj).T
    result = suv_factors([header_of(s) for s in pet])
    image = np.stack(
        [s.pixel_array * float(s.RescaleSlope) * f for s, f in zip(pet, result.factors, strict=True)]
    )
    inside = image[mask > 0]
    assert (inside.min(), np.median(inside), inside.max()) == pytest.approx((0.20, 1.00, 4.00), abs=0.005)


@pytest.mark.data
@pytest.mark.parametrize("name", ["STS_002", "STS_008", "STS_028"])
def test_sarcoma_series_are_suv_already(shared_data: Path, name: str) -> None:
    with zipfile.ZipFile(shared_data / f"sts/dicom/{name}.zip") as archive:
        members = [m for m in archive.namelist() if "/PET/image/" in m or "/PT/" in m or "/PET/" in m]
        headers = []
        for member in members[:60]:
            with archive.open(member) as file:
                dataset = pydicom.dcmread(file, stop_before_pixels=True)
            if dataset.Modality == "PT":
                headers.append(header_of(dataset))
    assert headers
    result = suv_factors(headers)
    assert (result.units, result.factor, result.reference_rule) == ("GML", 1.0, "already-suv")


# --- reference time of START


def test_rule_2_series_time() -> None:
    result = suv(acquisition_time="110300")
    assert result.factor == pytest.approx(RIGHT, rel=1e-12)
    assert result.reference_rule == "series-time"
    assert result.dose_at_reference_bq == pytest.approx(368.08e6 * 2 ** (-3600 / HALF_LIFE), rel=1e-12)


@pytest.mark.parametrize("maker", ["GE MEDICAL SYSTEMS", "SIEMENS"])
def test_rule_1_a_private_time_wins_over_the_series_time(maker: str) -> None:
    """GE's xx0D differs from SeriesTime in a quarter of series; SeriesTime may be of a reprocessing."""
    result = suv(manufacturer=maker, vendor_reference="20250101110000.00", series_time="105500")
    assert (result.factor, result.reference_rule) == (pytest.approx(RIGHT, rel=1e-12), "vendor-private")


@pytest.mark.parametrize("day", ["20241231", "20250102", "20190707"])
def test_a_private_time_on_a_shifted_date_keeps_its_clock(day: str) -> None:
    result = suv(vendor_reference=f"{day}110000.00", series_time="114500", acquisition_time="110030")
    assert result.factor == pytest.approx(RIGHT, rel=1e-12)
    assert codes(result) == {"suv.date-shifted"}


@pytest.mark.parametrize("written", ["20250101113000", "20250101030000", "garbage", "20250101"])
def test_a_private_time_that_does_not_fit_is_not_used(written: str) -> None:
    result = suv(vendor_reference=written)
    assert (result.factor, result.reference_rule) == (pytest.approx(RIGHT, rel=1e-12), "series-time")
    assert codes(result) == {"suv.private-time-unusable"}


def test_a_private_time_that_differs_between_slices_is_not_used() -> None:
    slices = [replace(PET, vendor_reference=f"202501011100{s:02}") for s in (0, 10, 20)]
    assert codes(suv_factors(slices)) == {"suv.private-time-unusable"}


def test_rule_3_of_a_late_series_time_with_siemens_frame_reference() -> None:
    """Siemens' FrameReferenceTime runs to the average activity in the frame, a little before its middle."""
    rate = math.log(2) / HALF_LIFE
    average = -math.log((1 - math.exp(-rate * 120)) / (rate * 120)) / rate
    assert 59.9 < average < 60
    beds = [
        replace(
            PET, series_time="114500", acquisition_time=clock, frame_reference_ms=1000 * (start + average)
        )
        for clock, start in (("110000", 0.0), ("110200", 120.0), ("110400", 240.0))
    ]
    result = suv_factors(beds)
    assert result.reference_rule == "frame-reference-time"
    assert result.factor == pytest.approx(RIGHT, rel=1e-9)
    assert codes(result) == {"suv.series-time-late"}


def test_rule_3_on_ge_leaves_the_average_out() -> None:
    beds = [
        replace(
            PET, manufacturer="GE MEDICAL SYSTEMS", series_time="114500",
            acquisition_time=clock, frame_reference_ms=ms,
        )
        for clock, ms in (("110000", 0.0), ("110200", 120e3), ("110400", 240e3))
    ]  # fmt: skip
    result = suv_factors(beds)
    assert (result.factor, result.reference_rule) == (pytest.approx(RIGHT, rel=1e-12), "frame-reference-time")


@pytest.mark.parametrize("offsets", [(0.0, 240e3, 480e3, 1200e3), (0.0, 240e3)])
def test_a_constant_acquisition_time_with_bed_offsets_is_not_back_computed(offsets: tuple[float]) -> None:
    """GE Discovery ST: back-computing would be -11 to +8 % wrong; the first bed's offset is 0."""
    beds = [
        replace(PET, manufacturer="GE MEDICAL SYSTEMS", series_time="114500", frame_reference_ms=ms)
        for ms in offsets
    ]
    result = suv_factors(beds)
    assert (result.factor, result.reference_rule) == (pytest.approx(RIGHT, rel=1e-12), "earliest-acquisition")
    assert "suv.frame-reference-unusable" in codes(result)


def test_a_frame_reference_that_does_not_fit_the_times_does_not_count() -> None:
    """One Philips series: 1,328,700 ms although AcquisitionTime is SeriesTime + 1 s: 12.5 % off."""
    result = suv(manufacturer="Philips", acquisition_time="110001", frame_reference_ms=1328700.0)
    assert (result.factor, result.reference_rule) == (pytest.approx(RIGHT, rel=1e-12), "series-time")


def test_rule_4_of_a_reprocessed_series() -> None:
    """CPS: SeriesTime 45 min after AcquisitionTime, FrameReferenceTime 0."""
    result = suv(series_time="114500")
    assert (result.factor, result.reference_rule) == (pytest.approx(RIGHT, rel=1e-12), "earliest-acquisition")
    assert codes(result) == {"suv.series-time-late"}


def test_the_earliest_of_several_acquisition_times() -> None:
    beds = [replace(PET, series_time="", acquisition_time=f"11{m:02}00") for m in (6, 6, 3, 3, 0, 0)]
    result = suv_factors(beds)
    assert result.factor == pytest.approx(RIGHT, rel=1e-12)
    assert codes(result) == {"suv.acquisition-times"}


def test_a_fraction_of_a_second_lost_in_one_field() -> None:
    assert suv(series_time="110000.700", acquisition_time="110000").reference_rule == "series-time"


def test_a_series_dated_long_before_the_acquisition_is_no_reference() -> None:
    result = suv(series_date="20241220")
    assert result.factor == pytest.approx(RIGHT, rel=1e-12)
    assert codes(result) == {"suv.series-time-early"}


def test_without_acquisition_times_nothing_but_a_private_time_helps() -> None:
    assert refused(acquisition_time="") == "suv.no-time"
    assert refused(acquisition_time="eleven") == "suv.no-time"
    assert suv(acquisition_time="", vendor_reference="20250101110000").factor == pytest.approx(RIGHT)


# --- the injection


def test_either_start_field_is_enough() -> None:
    assert suv(start_time="").factor == pytest.approx(RIGHT, rel=1e-12)
    assert suv(start_datetime="").factor == pytest.approx(RIGHT, rel=1e-12)
    assert refused(start_time="", start_datetime="") == "suv.no-time"
    assert refused(start_time="25:99", start_datetime="20251341") == "suv.no-time"


def test_only_a_leap_second_is_a_second_beyond_59() -> None:
    leap = suv(start_time="095960", start_datetime="")
    assert leap.factor == pytest.approx(suv(start_time="095959", start_datetime="").factor, rel=1e-12)
    assert refused(start_time="100075", start_datetime="") == "suv.no-time"
    assert refused(start_time="", start_datetime="20250101100099") == "suv.no-time"


def test_the_private_start_of_ge_helps_when_both_are_missing() -> None:
    result = suv(start_time="", start_datetime="", vendor_start="20250101100000.00")
    assert result.factor == pytest.approx(RIGHT, rel=1e-12)


def test_midnight() -> None:
    scan = {"series_time": "003000", "acquisition_time": "003000"}
    for start in ({"start_datetime": "", "start_time": "233000"}, {"start_datetime": "20250101233000"}):
        result = suv(**scan, **({"start_time": "233000"} | start))
        assert result.factor == pytest.approx(RIGHT, rel=1e-12)
        assert codes(result) == {"suv.midnight"}
    right_date = suv(**scan, start_time="", start_datetime="20241231233000")
    assert (right_date.factor, codes(right_date)) == (pytest.approx(RIGHT, rel=1e-12), set())


def test_a_scan_over_midnight() -> None:
    beds = [
        replace(
            PET,
            start_time="225900",
            start_datetime="",
            series_time="235900",
            acquisition_date=d,
            acquisition_time=t,
        )
        for d, t in (("20250101", "235900"), ("20250102", "000200"))
    ]
    assert suv_factors(beds).factor == pytest.approx(RIGHT, rel=1e-12)
    undated = [replace(b, acquisition_date="", series_date="") for b in beds]
    assert suv_factors(undated).factor == pytest.approx(RIGHT, rel=1e-12)


@pytest.mark.parametrize(
    ("day", "code"),
    [
        ("20250102", "suv.midnight"),  # a day late, as when the scan ran over midnight
        ("20250108", "suv.start-date-off"),
        ("20241231", "suv.start-date-off"),  # 25 h before the scan: longer than anybody waits
        ("20241220", "suv.start-date-off"),
    ],
)
def test_an_injection_date_shifted_on_its_own(day: str, code: str) -> None:
    """The sarcoma data: (0018,1078) lies a day after the scan, (0018,1072) is right."""
    result = suv(start_datetime=f"{day}100000")
    assert result.factor == pytest.approx(RIGHT, rel=1e-12)
    assert codes(result) == {code}


def test_time_zones() -> None:
    assert suv(start_datetime="20250101090000+0000", zone="+0100").factor == pytest.approx(RIGHT, rel=1e-12)
    assert suv(start_datetime="20250101100000+0100", zone="+0100").factor == pytest.approx(RIGHT, rel=1e-12)
    # The zone of the scan is not known: the time on the scan's own clock is the safe one.
    assert suv(start_datetime="20250101090000+0000").factor == pytest.approx(RIGHT, rel=1e-12)
    alone = suv(start_time="", start_datetime="20250101100000+0100")
    assert (alone.factor, codes(alone)) == (pytest.approx(RIGHT, rel=1e-12), {"suv.zone-unknown"})


def test_no_dates_at_all_still_gives_intervals() -> None:
    stripped = suv(series_date="", acquisition_date="", start_datetime="")
    assert stripped.factor == pytest.approx(RIGHT, rel=1e-12)


def test_the_last_day_of_the_calendar_is_a_day_like_others() -> None:
    """Some programs put 9999-12-31 in place of a date that they remove; no later one can be computed."""
    last = {"series_date": "99991231", "acquisition_date": "99991231"}
    for start, scan in (("220000", "230000"), ("225959", "235959.500")):
        result = suv(**last, series_time=scan[:6], acquisition_time=scan, start_time=start,
                     start_datetime=f"99991231{start}")  # fmt: skip
        assert (result.factor, codes(result)) == (pytest.approx(RIGHT, rel=1e-12), set())


def test_two_start_fields_that_differ_are_reported() -> None:
    assert codes(suv(start_time="093000")) == {"suv.start-times-differ"}


@pytest.mark.parametrize("scan", ["110000", "103000"])
@pytest.mark.parametrize("zeroed", ["20250101000000", "20250101000000.00+0000", "202501010000"])
def test_a_date_time_whose_time_was_taken_away_is_a_date(scan: str, zeroed: str) -> None:
    """At 10:30 it would pass for an injection 10.5 h ago: an SUV 44 times too high."""
    for zone in ("", "+0100"):
        result = suv(start_datetime=zeroed, series_time=scan, acquisition_time=scan, zone=zone)
        right = suv(start_datetime="", series_time=scan, acquisition_time=scan)
        assert (result.factor, codes(result)) == (pytest.approx(right.factor, rel=1e-12), set())
    # It does give the day, and alone it is what it says.
    over = {"start_time": "233000", "series_time": "003000", "acquisition_time": "003000"}
    assert codes(suv(**over, start_datetime="20241231000000")) == set()
    assert codes(suv(start_time="", start_datetime="20250101000000", series_time="010000",
                     acquisition_time="010000")) == set()  # fmt: skip


def test_of_two_start_fields_the_one_that_fits_the_scan_is_taken() -> None:
    mistyped = suv(start_datetime="20250101030000")
    assert mistyped.factor == pytest.approx(RIGHT, rel=1e-12)
    assert codes(mistyped) == {"suv.start-datetime-off"}
    over = suv(series_time="003000", acquisition_time="003000", start_time="233000",
               start_datetime="20241231150000")  # fmt: skip
    assert over.factor == pytest.approx(RIGHT, rel=1e-12)
    assert codes(over) == {"suv.start-datetime-off", "suv.midnight"}
    # The date-time goes before where it fits as well, or both do not.
    assert suv(start_time="030000").factor == pytest.approx(RIGHT, rel=1e-12)
    assert codes(suv(start_time="030000")) == {"suv.start-times-differ"}
    neither = suv(start_datetime="20250101040000", start_time="030000")
    assert neither.factor == pytest.approx(suv(start_datetime="20250101040000", start_time="").factor)
    assert codes(neither) == {"suv.start-times-differ", "suv.uptake-unusual"}
    # Only FDG's uptake is known to be usual.
    gallium = replace(PET, half_life=4062.6, nuclide="", start_datetime="20250101070000")
    other = suv_factors([gallium], any_nuclide=True)
    assert "suv.start-times-differ" in codes(other)


def test_an_injection_shortly_after_the_scan_began_is_not_taken_as_yesterday() -> None:
    assert refused(start_time="110500", start_datetime="") == "suv.implausible-uptake-time"


def test_unusual_uptake_is_reported() -> None:
    assert codes(suv(start_time="104500", start_datetime="")) == {"suv.uptake-unusual"}


# --- ADMIN, NONE


def test_admin_is_not_decayed_again() -> None:
    result = suv(decay_correction="ADMIN")
    assert result.factor == pytest.approx(70_000 / 368.08e6, rel=1e-12)
    assert (result.reference_rule, result.dose_at_reference_bq) == ("administration", 368.08e6)
    assert suv(decay_correction="ADMIN", start_time="", start_datetime="").factor == result.factor


def test_none_is_corrected_slice_by_slice() -> None:
    uncorrected = tuple(c for c in PET.corrected if c != "DECY")
    beds = [
        replace(PET, decay_correction="NONE", corrected=uncorrected, acquisition_time=t, frame_duration_ms=d)
        for t, d in (("110000", 120e3), ("110200", 120e3), ("110400", 180e3))
    ]
    result = suv_factors(beds)
    rate = math.log(2) / HALF_LIFE
    expected = [
        70_000 / 368.08e6 * (rate * T / (1 - math.exp(-rate * T))) * math.exp(rate * (3600 + dt))
        for T, dt in ((120, 0), (120, 120), (180, 240))
    ]
    assert result.factors == pytest.approx(expected, rel=1e-12)
    assert isinstance(result.factor, tuple)
    assert codes(suv(decay_correction="NONE")) == {"suv.decay-contradiction"}
    assert refused(decay_correction="NONE", frame_duration_ms=None) == "suv.no-frame-duration"
    late = [replace(bed, start_time="104500", start_datetime="") for bed in beds]
    assert codes(suv_factors(late)) == {"suv.uptake-unusual"}
    assert refused(decay_correction="NONE", acquisition_time="") == "suv.no-time"


# --- units


def test_gml_without_a_type_is_body_weight() -> None:
    for suv_type in ("", "BW"):
        assert suv(units="GML", suv_type=suv_type, weight=None, dose=None).factor == 1.0


def test_gml_of_another_type_is_converted() -> None:
    lbm = 1.10 * 70 - 120 * (70 / 175) ** 2
    assert suv(units="GML", suv_type="LBM").factor == pytest.approx(70 / lbm, rel=1e-12)
    assert suv_factors([replace(PET, units="GML")], "lbm").factor == pytest.approx(lbm / 70, rel=1e-12)
    assert suv_factors([replace(PET, units="GML", suv_type="LBM")], "lbm").factor == 1.0
    assert refused(units="GML", suv_type="NONSENSE") == "suv.suv-type-unknown"
    assert refused(units="GML", suv_type="BSA") == "suv.suv-type-unknown"


def test_cm2ml_goes_through_the_body_surface() -> None:
    surface = 0.007184 * 70**0.425 * 175**0.725 * 1e4
    for suv_type in ("", "BSA"):
        assert suv(units="CM2ML", suv_type=suv_type).factor == pytest.approx(70_000 / surface, rel=1e-12)
    assert suv_factors([PET], "bsa").factor == pytest.approx(RIGHT / 70_000 * surface, rel=1e-12)


def test_philips_counts() -> None:
    assert suv(units="CNTS", philips_suv=0.000551, weight=None, dose=None).factor == 0.000551
    by_activity = suv(units="CNTS", philips_suv=0.0, philips_activity=1.6)
    assert by_activity.factor == pytest.approx(1.6 * RIGHT, rel=1e-12)
    assert refused(units="CNTS") == "suv.counts-without-scale"
    assert refused(units="CNTS", philips_suv=math.nan, philips_activity=-1.0) == "suv.counts-without-scale"


def test_philips_factor_per_slice_and_in_doubt() -> None:
    slices = [
        replace(PET, units="CNTS", philips_suv=f, philips_activity=1.6) for f in (1.6 * RIGHT, 2 * RIGHT)
    ]
    result = suv_factors(slices)
    assert result.factors == (1.6 * RIGHT, 2 * RIGHT)
    assert codes(result) == {"suv.philips-factor-differs"}


@pytest.mark.parametrize("units", ["PROPCNTS", "CPS", "", "BQ/CC"])
def test_other_units_are_refused(units: str) -> None:
    assert refused(units=units) == "suv.units-unknown"


def test_what_cannot_be_suv_is_still_an_activity() -> None:
    assert refused(dose=None) == "suv.no-dose"
    assert activity_scales([replace(PET, dose=None)]) == (1.0,)
    assert activity_scales([replace(PET, units="CNTS", philips_activity=1.6)]) == (1.6,)


# --- refusals and judgements


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"corrected": ("DECY", "NORM")}, "pet.no-attenuation-correction"),
        ({"corrected": ()}, "pet.no-attenuation-correction"),
        ({"corrected": ("ATTN", "NORM")}, "pet.no-decay-correction"),
        ({"corrected": ("ATTN",), "units": "GML", "decay_correction": "NONE"}, "pet.no-decay-correction"),
        ({"modality": "CT"}, "pet.not-pet"),
        ({"half_life": 4069.0}, "pet.not-fdg"),
        ({"half_life": 109.77}, "pet.not-fdg"),
        ({"half_life": 0.0}, "suv.no-half-life"),
        ({"half_life": None, "nuclide": ""}, "suv.no-half-life"),
        ({"weight": None}, "suv.no-weight"),
        ({"weight": 0.0}, "suv.no-weight"),
        ({"weight": math.nan}, "suv.no-weight"),
        ({"weight": 800.0}, "suv.implausible-weight"),
        ({"dose": None}, "suv.no-dose"),
        ({"dose": 0.0}, "suv.no-dose"),
        ({"dose": 0.37}, "suv.implausible-dose"),
        ({"dose": 3.7e11}, "suv.implausible-dose"),
        ({"decay_correction": ""}, "suv.no-decay-rule"),
        ({"slope": 0.0}, "suv.bad-slope"),
        ({"slope": -1.0}, "suv.bad-slope"),
        ({"slope": math.nan}, "suv.bad-slope"),
        ({"intercept": -1024.0}, "suv.intercept"),
        ({"intercept": math.nan}, "suv.intercept"),
        ({"administrations": 2}, "suv.several-doses"),
        ({"frame_reference_ms": 60e3, "frame_duration_ms": None, "series_time": ""}, "suv.no-frame-duration"),
        ({"frame_reference_ms": math.nan, "series_time": ""}, "suv.no-time"),
    ],
)
def test_refusals(changes: dict[str, object], code: str) -> None:
    assert refused(**changes) == code


def test_no_headers() -> None:
    with pytest.raises(Rejection, match="no PET"):
        suv_factors([])


def test_slices_of_two_series_are_refused() -> None:
    assert refused(PET, replace(PET, units="GML")) == "suv.mixed-series"
    assert refused(PET, replace(PET, weight=71.0)) == "suv.mixed-series"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"dose": 368.08}, "suv.dose-in-mbq"),
        ({"weight": 70_000.0}, "suv.weight-in-grams"),
        ({"half_life": None}, "suv.half-life-assumed"),
    ],
)
def test_units_that_are_put_right(changes: dict[str, object], code: str) -> None:
    result = suv(**changes)
    assert result.factor == pytest.approx(RIGHT, rel=1e-12)
    assert code in codes(result)


def test_height_in_centimetres() -> None:
    right = suv_factors([PET], "lbm")
    result = suv_factors([replace(PET, height=175.0)], "lbm")
    assert (result.factor, codes(result)) == (pytest.approx(right.factor, rel=1e-12), {"suv.height-in-cm"})


def test_types_that_need_more_than_the_weight() -> None:
    for change, code in (
        ({"height": None}, "suv.no-height"), ({"height": 17.5}, "suv.no-height"), ({"sex": ""}, "suv.no-sex"),
        ({"weight": 300.0, "height": 1.5}, "suv.body-size"),
    ):  # fmt: skip
        with pytest.raises(Rejection) as caught:
            suv_factors([replace(PET, **change)], "lbm")  # type: ignore[arg-type]
        assert caught.value.code == code


def test_other_nuclides_only_when_asked_for() -> None:
    gallium = replace(PET, half_life=4069.0, nuclide="C-131A3 ^68^Gallium")
    result = suv_factors([gallium], any_nuclide=True)
    assert result.factor == pytest.approx(70_000 / (368.08e6 * 2 ** (-3600 / 4069)), rel=1e-12)
    assert codes(result) == {"pet.other-nuclide"}


def test_a_nuclide_code_counts_where_the_half_life_is_missing() -> None:
    gallium = {"units": "GML", "half_life": None, "nuclide": "C-131A3 ^68^Gallium"}
    with pytest.raises(Rejection) as caught:
        suv(**gallium)
    assert caught.value.code == "pet.not-fdg"
    assert "Gallium" in caught.value.message
    assert codes(suv_factors([replace(PET, **gallium)], any_nuclide=True)) == {"pet.other-nuclide"}
    assert codes(suv(**gallium | {"nuclide": "C-111A1 ^18^Fluorine"})) == set()


def test_another_f18_tracer_is_reported() -> None:
    for name in ("PSMA-1007", "F18-PSMA-1007", "Sodium fluoride F^18^", "Fluorocholine", "[18F]DOPA",
                 "Fluoroestradiol", "Fluoride"):  # fmt: skip
        assert codes(suv(tracer=name)) == {"pet.other-tracer"}, name
    for name in ("", "FDG -- fluorodeoxyglucose", "Fludeoxyglucose F^18^", "2-fluoro-2-deoxy-D-glucose",
                 "18F", "F-18", "F^18^", "^18^Fluorine", "Fluor 18", "18F-Fluoro", "Fluordesoxyglukose",
                 "fluorodesoxiglucosa (18F)"):  # fmt: skip
        assert codes(suv(tracer=name)) == set(), name


def test_unusual_doses_and_weights_are_reported() -> None:
    assert codes(suv(dose=5e6)) == {"suv.dose-unusual"}
    assert codes(suv(weight=2.0)) == {"suv.weight-unusual"}


def test_ge_decay_factor_checks_the_reference() -> None:
    """DecayFactor = 2^(FRT / T_half) lT / (1 - e^-lT); 1.01268 for 240 s is of a real Discovery ST."""
    ge = {"manufacturer": "GE MEDICAL SYSTEMS", "frame_duration_ms": 240e3}
    assert codes(suv(**ge, decay_factor=1.01268)) == set()
    assert codes(suv(**ge, decay_factor=1.01268, frame_reference_ms=600e3)) == {"suv.decay-factor-differs"}


def test_the_derivation_can_be_followed() -> None:
    text = "\n".join(suv().derivation)
    for part in (
        "rule 2",
        "2025-01-01 11:00:00",
        "10:00:00",
        "6586.2",
        "3.6808e+08",
        "70000",
        f"{RIGHT:.6g}"[:8],
    ):
        assert part in text
