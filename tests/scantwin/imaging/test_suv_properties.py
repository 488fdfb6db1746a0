"""SUV: what must hold for all numbers, and for all garbage."""

from __future__ import annotations

import math
import re
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scantwin.errors import Rejection
from scantwin.imaging.pet_header import PetHeader, header_of, headers_of_dump
from scantwin.imaging.reasons import REASONS, code_of
from scantwin.imaging.suv import activity_scales, suv_factors
from scantwin.imaging.suv_body import SUV_TYPES, SuvType, body_measure
from scantwin.imaging.suv_reference_time import average_activity_s, frame_decay
from scantwin.imaging.suv_times import parse_date, parse_datetime, parse_time, parse_zone

HALF_LIFE = 6586.2
PET = PetHeader(
    units="BQML", decay_correction="START", corrected=("ATTN", "DECY"), weight=70.0, height=1.75, sex="F",
    dose=368.08e6, half_life=HALF_LIFE, start_time="100000", series_date="20250101", series_time="110000",
    acquisition_date="20250101", acquisition_time="110000", frame_duration_ms=120e3,
)  # fmt: skip

doses = st.floats(2e7, 1e9)
weights = st.floats(3, 300)


def factor(header: PetHeader, suv_type: SuvType = "bw") -> float:
    result = suv_factors([header], suv_type)
    return result.factors[0]


@given(weights, weights)
def test_the_factor_is_linear_in_the_weight(a: float, b: float) -> None:
    first, second = factor(replace(PET, weight=a)), factor(replace(PET, weight=b))
    assert first / second == pytest.approx(a / b, rel=1e-12)


@given(doses, doses)
def test_the_factor_is_inverse_in_the_dose(a: float, b: float) -> None:
    first, second = factor(replace(PET, dose=a)), factor(replace(PET, dose=b))
    assert first / second == pytest.approx(b / a, rel=1e-12)


@given(st.floats(1e6, 9e4 * 1e6))
def test_a_dose_in_mbq_is_the_same_dose(dose: float) -> None:
    dose = min(dose, 1e10)
    assert factor(replace(PET, dose=dose)) == pytest.approx(factor(replace(PET, dose=dose / 1e6)), rel=1e-12)


@given(st.integers(0, 10 * 3600), st.integers(0, 86399))
def test_start_is_admin_with_the_decayed_dose_at_any_time_of_day(uptake: int, scan_second: int) -> None:
    """The scan may lie before or after midnight; only the clock of the injection is known."""
    scan = datetime(2025, 1, 1) + timedelta(seconds=scan_second)
    clock = scan.strftime("%H%M%S")
    injected = (scan - timedelta(seconds=uptake)).strftime("%H%M%S")
    started = replace(PET, series_time=clock, acquisition_time=clock, start_time=injected)
    left = PET.dose * 2 ** (-uptake / HALF_LIFE) if PET.dose else 0.0
    admin = replace(PET, decay_correction="ADMIN", dose=left)
    assert factor(started) == pytest.approx(factor(admin), rel=1e-9)


@given(st.integers(1, 5 * 3600))
def test_none_is_start_of_the_frame_with_the_decay_within_it(uptake: int) -> None:
    scan = datetime(2025, 1, 1, 11)
    injected = (scan - timedelta(seconds=uptake)).strftime("%H%M%S")
    start = replace(PET, start_time=injected)
    none = replace(start, decay_correction="NONE")
    assert factor(none) == pytest.approx(factor(start) * frame_decay(120, HALF_LIFE), rel=1e-9)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=5))
def test_slopes_differ_slice_by_slice_and_leave_the_factor_alone(slopes: list[float]) -> None:
    result = suv_factors([replace(PET, slope=s) for s in slopes])
    assert result.factor == factor(PET)


@given(st.permutations(range(6)))
def test_the_order_of_slices_does_not_matter(order: list[int]) -> None:
    beds = [replace(PET, series_time="", acquisition_time=f"11{2 * k:02}00") for k in order]
    assert suv_factors(beds).factor == factor(PET)


@given(weights, st.floats(0.5, 2.5), st.sampled_from(["M", "F", "O"]), st.sampled_from(SUV_TYPES))
def test_types_differ_by_their_body_measure(W: float, H: float, sex: Any, suv_type: SuvType) -> None:
    header = replace(PET, weight=W, height=H, sex=sex)
    expected = body_measure(suv_type, W, H * 100, sex) / (W * 1000)
    if expected <= 0:
        with pytest.raises(Rejection):
            factor(header, suv_type)
    else:
        assert factor(header, suv_type) / factor(header) == pytest.approx(expected, rel=1e-9)


@given(st.floats(1e-3, 3600), st.floats(60, 1e6))
def test_the_moment_of_average_activity_lies_before_the_middle(duration: float, half_life: float) -> None:
    average = average_activity_s(duration, half_life)
    assert 0 < average <= duration / 2 * (1 + 1e-6)
    rate = math.log(2) / half_life
    assert math.exp(-rate * average) == pytest.approx(1 / frame_decay(duration, half_life), rel=1e-9)


# --- garbage

numbers = st.one_of(st.none(), st.floats(), st.sampled_from([0.0, -1.0, 1e-300, 1e300, math.nan, math.inf]))
texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["BQML", "GML", "CM2ML", "CNTS", "START", "ADMIN", "NONE", "M", "F", "O", "PT", "BW", "LBM", "IBW"]
    ),
    st.from_regex(r"[0-9]{4,14}(\.[0-9]{1,6})?([+-][0-9]{4})?", fullmatch=True),
)


def one_field() -> st.SearchStrategy[dict[str, Any]]:
    def value_of(name: str) -> st.SearchStrategy[Any]:
        if name == "corrected":
            return st.lists(texts, max_size=3).map(tuple)
        if name == "administrations":
            return st.integers(-1, 3)
        default = getattr(PetHeader(), name)
        return texts if isinstance(default, str) else numbers

    def some(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries({name: value_of(name) for name in names})

    return st.lists(
        st.sampled_from([f.name for f in fields(PetHeader)]), min_size=1, max_size=4, unique=True
    ).flatmap(some)


def judge(headers: list[PetHeader], suv_type: SuvType) -> None:
    """A positive factor with coded warnings, or a coded refusal; nothing else."""
    for any_nuclide in (False, True):
        try:
            result = suv_factors(headers, suv_type, any_nuclide=any_nuclide)
        except Rejection as refusal:
            assert refusal.code in REASONS
            continue
        assert all(math.isfinite(f) and f > 0 for f in result.factors)
        assert all(code_of(w) for w in result.warnings)
        assert result.derivation
    try:
        assert all(s > 0 for s in activity_scales(headers))
    except Rejection as refusal:
        assert refusal.code in REASONS


@settings(max_examples=400)
@given(st.lists(one_field(), min_size=1, max_size=3), one_field(), st.sampled_from(SUV_TYPES))
def test_any_header_gives_factors_or_a_refusal(
    per_slice: list[dict[str, Any]], shared: dict[str, Any], suv_type: SuvType
) -> None:
    judge([replace(PET, **(shared | own)) for own in per_slice], suv_type)
    judge([replace(PET, **shared)] * 2, suv_type)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
keywords = (
    "Units", "SUVType", "DecayCorrection", "CorrectedImage", "PatientWeight", "PatientSize", "PatientSex",
    "Modality", "RadionuclideTotalDose", "RadionuclideHalfLife", "RadiopharmaceuticalStartTime", "SeriesTime",
    "SeriesDate", "RadiopharmaceuticalStartDateTime", "AcquisitionTime", "FrameReferenceTime",
    "ActualFrameDuration",
    "PhilipsPETPrivateGroup", "RadiopharmaceuticalInformationSequence", "GEPrivatePostInjectionDateTime",
)  # fmt: skip


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(keywords), json_values))
def test_any_dump_gives_factors_or_a_refusal(changes: dict[str, Any]) -> None:
    good = {
        "Units": "BQML", "DecayCorrection": "START", "CorrectedImage": ["ATTN", "DECY"], "PatientWeight": 70,
        "RadionuclideTotalDose": 368080000, "RadionuclideHalfLife": 6586.2, "SeriesTime": "110000",
        "SeriesDate": "20250101", "AcquisitionTime": "110000", "RadiopharmaceuticalStartTime": "100000",
    }  # fmt: skip
    judge(headers_of_dump([good | changes]), "lbm")


FIELD_OF = {
    "PatientWeight": "weight", "PatientSize": "height", "FrameReferenceTime": "frame_reference_ms",
    "RescaleSlope": "slope", "DecayFactor": "decay_factor",
}  # fmt: skip
DECIMAL = r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?"
"""DICOM's decimal string (PS3.5, table 6.2-1)."""


def number_in(written: str) -> float | None:
    """What a field's text says: nothing, exactly one finite number, or no number."""
    told = written.strip(" \0")  # how DICOM pads
    if not told:
        return None
    said = float(told) if re.fullmatch(DECIMAL, told.strip(), re.ASCII) else math.nan
    return said if math.isfinite(said) else math.nan


@pytest.mark.filterwarnings("ignore:Found unknown escape sequence")
@given(
    st.dictionaries(
        st.sampled_from([*FIELD_OF]),
        st.one_of(
            st.text(st.characters(codec="ascii"), max_size=16),
            st.from_regex(rf" ?{DECIMAL}[ \0]?", fullmatch=True, alphabet=st.characters(codec="ascii")),
            st.sampled_from(["", " ", "nan", "-inf", "1e999", "0x10", "1,5", "1\\2", "70 kg", "7_0"]),
        ),
    )
)
def test_a_number_of_a_dataset_is_read_as_it_is_written_or_as_not_a_number(values: dict[str, str]) -> None:
    dataset = pydicom.Dataset()
    dataset.Modality = "PT"
    with pydicom.config.disable_value_validation():
        for keyword, value in values.items():
            # As a file gives it: raw bytes, decoded when they are first asked for.
            tag = pydicom.tag.Tag(keyword)
            dataset._dict[tag] = pydicom.dataelem.RawDataElement(
                tag, "DS", len(value), value.encode(), 0, False, True
            )
        header = header_of(dataset)
    for keyword, field in FIELD_OF.items():
        read, right = getattr(header, field), number_in(values.get(keyword, ""))
        assert str(read) == str(right), f"{keyword} {values.get(keyword)!r}"  # as NaN is not itself


@given(st.text(max_size=30), st.text(max_size=6))
def test_time_parsers_take_any_text(value: str, zone: str) -> None:
    parse_time(value), parse_date(value), parse_datetime(value, zone), parse_zone(zone)


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2999, 1, 1)))
def test_times_are_read_back(at: datetime) -> None:
    text = at.strftime("%Y%m%d%H%M%S.%f").rjust(21, "0")
    assert parse_datetime(text) == at
    assert parse_datetime(text + "+0200", "+0200") == at
    assert parse_time(text[8:]) == at.time()
    assert parse_date(text[:8]) == at.date()
