"""Mutations of what SUV depends on, each with the answer that `suv_oracle` gives for it."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pydicom
from benchmarks.fuzz_bases import PACKED, VENDORS, Bases
from benchmarks.fuzz_values import DATES, MAPPED, NUMBERS, POOLS, TIMES, ZONES
from benchmarks.suv_oracle import Answer, Fields, answer, number
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
Rng = np.random.Generator

WHOLE = {
    "weight": "PatientWeight", "units": "Units", "suv_type": "SUVType", "decay": "DecayCorrection",
    "corrected": "CorrectedImage", "series_date": "SeriesDate", "series_time": "SeriesTime",
}  # fmt: skip
DRUG = {
    "dose": "RadionuclideTotalDose", "half_life": "RadionuclideHalfLife",
    "start_time": "RadiopharmaceuticalStartTime", "start_datetime": "RadiopharmaceuticalStartDateTime",
}  # fmt: skip
SLICE = {
    "slope": "RescaleSlope", "intercept": "RescaleIntercept", "acq_date": "AcquisitionDate",
    "acq_time": "AcquisitionTime", "frame_reference": "FrameReferenceTime", "duration": "ActualFrameDuration",
}  # fmt: skip
PRIVATE: dict[str, dict[str, tuple[int, str, int]]] = {
    "gml": {},
    "siemens": {"private_time": (0x0071, "SIEMENS MED PT", 0x22)},
    "ge": {"private_time": (0x0009, "GEMS_PETD_01", 0x0D), "ge_start": (0x0009, "GEMS_PETD_01", 0x3B)},
    "philips": {
        "philips_suv": (0x7053, "Philips PET Private Group", 0x00),
        "philips_bq": (0x7053, "Philips PET Private Group", 0x09),
    },
}
PER_SLICE = {"private_time", "ge_start", "series_date", "series_time", "philips_bq"}
"""What one slice may have otherwise without making the series a mixture, if the others agree."""
ENHANCED = {
    "weight": "PatientWeight", "units": "Units", "suv_type": "SUVType", "attenuation": "AttenuationCorrected",
    "decayed": "DecayCorrected", "corrected_to": "DecayCorrectionDateTime",
}  # fmt: skip
FRAME = {
    "slope": ("PixelValueTransformationSequence", "RescaleSlope"),
    "intercept": ("PixelValueTransformationSequence", "RescaleIntercept"),
    "acquired": ("FrameContentSequence", "FrameAcquisitionDateTime"),
}
MAPPING = "mapping"
"""Stands for: no Units, but a real world value mapping with a unit, as enhanced PET has it."""


@dataclass(frozen=True)
class Input:
    """One mutated study on disk."""

    kind: str
    what: str
    expected: Answer | None = None
    rescaled: tuple[float, ...] = ()
    """Sum over each slice of stored value times slope, where the SUV is to be compared."""


def link(base: Path, place: Path) -> list[Path]:
    """The study in `place`, without copying: who writes a file there takes it away first."""
    made = []
    for path in sorted(base.rglob("*")):
        if path.is_file():
            target = place / path.relative_to(base)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)
            made.append(target)
    return made


def pick(rng: Rng, items: Any) -> Any:
    """One of `items`."""
    return items[int(rng.integers(len(items)))]


def suv_mutation(bases: Bases, place: Path, rng: Rng) -> Input:
    """A study whose PET has one to three fields changed, in any of the forms."""
    form = rng.random()
    if form < 0.2:
        return _enhanced(bases, place, rng)
    if form < 0.35:
        # Old JPEG is decoded by a process that takes half a second to start: seldom.
        name = "jpeg" if rng.random() < 0.1 else pick(rng, sorted(PACKED))
        return _classic(bases, place, rng, "siemens", f"packed-{name}")
    vendor = pick(rng, (*VENDORS, "gml"))
    made = _classic(bases, place, rng, vendor, f"dicom-{vendor}")
    if form > 0.95:
        _into_zip(place)
    return made


def _classic(bases: Bases, place: Path, rng: Rng, vendor: str, form: str) -> Input:
    files = [p for p in link(bases.folder / form, place) if p.parent.name == "PET"]
    slices = [pydicom.dcmread(p) for p in files]
    names = [*WHOLE, *DRUG, *SLICE, *PRIVATE[vendor]]
    if vendor == "gml":  # what matters there, more often
        names += ["units", "suv_type", "weight"] * 3
    chosen = [pick(rng, names) for _ in range(int(rng.integers(1, 4)))]
    alone = int(rng.integers(len(slices))) if rng.random() < 0.1 else None
    for name in chosen:
        value = _value(name, rng)
        for k, ds in enumerate(slices):
            if alone is None or k == alone:
                _set(ds, name, vendor, value)
    implicit = rng.random() < 0.7
    for path, ds in zip(files, slices, strict=True):
        path.unlink()
        _save(ds, path, implicit)
    plain = sorted((bases.folder / f"dicom-{vendor}" / "PET").iterdir())
    fields, each = _fields(slices[0], vendor), [_slice_fields(ds) for ds in slices]
    others = {k for ds in slices for k, v in _fields(ds, vendor).items() if _plain(v) != _plain(fields[k])}
    texts = [str(_fields(ds, vendor)["corrected"]).upper().split("\\") for ds in slices]
    all_corrected = all("ATTN" in codes and "DECY" in codes for codes in texts)
    usual = _fields(slices[(alone or 0) - 1], vendor)
    odd = number(_fields(slices[alone or 0], vendor)["philips_suv"]) if "philips_suv" in others else None
    others.discard("philips_suv")
    if "philips_suv" in chosen and alone is not None and not (odd is not None and odd > 0):
        usual["philips_suv"] = None  # one slice has lost it: the activity factor is there for all
    if others <= (PER_SLICE | {"corrected"} if all_corrected else PER_SLICE):  # as the other slices have it
        expected = answer(usual, each)
        if odd is not None and odd > 0 and alone is not None and _plain(usual["units"]) == "CNTS":
            # The factor of a slice is that slice's.
            expected = Answer(*(
                tuple((*one[:alone], odd, *one[alone + 1 :]) for one in made)
                for made in (expected.literal, expected.with_warning)
            ))  # fmt: skip
    else:
        expected = Answer((), ())
    stored = [np.frombuffer(pydicom.dcmread(p).PixelData, "<i2") for p in plain]
    what = f"{form} {'one slice' if alone is not None else 'all'}: {', '.join(chosen)}"
    return Input("suv", what, expected, _sums(stored, each))


def _save(ds: Dataset, path: Path, implicit: bool) -> None:
    syntax = ds.file_meta.TransferSyntaxUID
    if syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian:
        ds.save_as(path)
    elif syntax == DeflatedExplicitVRLittleEndian:
        ds.save_as(path, implicit_vr=False, little_endian=True)
    else:
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        ds.save_as(path, implicit_vr=implicit, little_endian=True)


def _sums(stored: list[Any], each: list[Fields]) -> tuple[float, ...]:
    sums = []
    for values, one in zip(stored, each, strict=True):
        try:
            sums.append(float(values.astype(float).sum()) * float(one["slope"] or "nan"))
        except ValueError:
            sums.append(float("nan"))
    return tuple(sums)


def _enhanced(bases: Bases, place: Path, rng: Rng) -> Input:
    """The multi-frame PET; what it says is put into the oracle's words by `_enhanced_fields`."""
    (path,) = (p for p in link(bases.folder / "enhanced", place) if p.parent.name == "PET")
    ds = pydicom.dcmread(path)
    stored = np.frombuffer(ds.PixelData, "<i2").reshape(int(ds.NumberOfFrames), -1)
    frames = ds.PerFrameFunctionalGroupsSequence
    names = [*ENHANCED, *DRUG, *FRAME, MAPPING]
    chosen = [pick(rng, names) for _ in range(int(rng.integers(1, 4)))]
    alone = int(rng.integers(len(frames))) if rng.random() < 0.1 else None
    mapped: str | None = None
    for name in chosen:
        value = _value(name, rng)
        if name == MAPPING:
            mapped = pick(rng, MAPPED)
        elif name in FRAME:
            sequence, keyword = FRAME[name]
            for k, frame in enumerate(frames):
                if alone is None or k == alone:
                    _put(frame[sequence].value[0], keyword, value)
        else:
            _put(ds.RadiopharmaceuticalInformationSequence[0] if name in DRUG else ds,
                 {**ENHANCED, **DRUG}[name], value)  # fmt: skip
    if mapped is not None:
        _map(ds, mapped)
    fields, each = _enhanced_fields(ds, mapped), [_frame_fields(f) for f in frames]
    implicit = rng.random() < 0.7
    path.unlink()
    _save(ds, path, implicit)
    what = f"enhanced {'one frame' if alone is not None else 'all'}: {', '.join(chosen)}"
    return Input("suv", what, answer(fields, each), _sums(list(stored), each))


def _map(ds: Dataset, unit: str) -> None:
    """Takes Units away and says `unit` in a real world value mapping with the slope of each frame."""
    if "Units" in ds:
        del ds.Units
    for frame in ds.PerFrameFunctionalGroupsSequence:
        values = frame.PixelValueTransformationSequence[0]
        code, item = Dataset(), Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = unit, "UCUM", unit
        item.MeasurementUnitsCodeSequence = [code]
        try:
            item.RealWorldValueSlope = float(_text(values, "RescaleSlope") or "nan")
            item.RealWorldValueIntercept = float(_text(values, "RescaleIntercept") or "0")
        except ValueError:
            continue
        frame.RealWorldValueMappingSequence = [item]


def _enhanced_fields(ds: Dataset, mapped: str | None) -> Fields:
    """The fields of the oracle: corrected to a stated moment is START with that reference."""
    drug = ds.RadiopharmaceuticalInformationSequence[0]
    fields: Fields = dict.fromkeys(("ge_start", "philips_suv", "philips_bq", "series_date", "series_time"))
    fields |= {name: _text(drug, keyword) for name, keyword in DRUG.items()}
    fields |= {name: _text(ds, ENHANCED[name]) for name in ("weight", "units", "suv_type")}
    yes = {name: _text(ds, ENHANCED[name]) == "YES" for name in ("attenuation", "decayed")}
    fields["corrected"] = "\\".join(
        code for name, code in (("attenuation", "ATTN"), ("decayed", "DECY")) if yes[name]
    )
    said = _text(ds, "DecayCorrectionDateTime") or ""
    fields["private_time"], fields["decay"] = said, "START" if len(said) >= 14 else ""
    if mapped is not None:
        fields["units"] = {"Bq/ml": "BQML", "{SUVbw}g/ml": "GML", "g/ml{SUVbw}": "GML"}.get(mapped, "")
        fields["suv_type"] = "BW" if fields["units"] == "GML" else fields["suv_type"]
    return fields


def _frame_fields(frame: Dataset) -> Fields:
    values, content = frame.PixelValueTransformationSequence[0], frame.FrameContentSequence[0]
    at = (_text(content, "FrameAcquisitionDateTime") or "").strip()
    fields: Fields = dict.fromkeys(SLICE)
    fields |= {"slope": _text(values, "RescaleSlope"), "intercept": _text(values, "RescaleIntercept")}
    return fields | {"acq_date": at[:8], "acq_time": at[8:].split("+")[0].split("-")[0]}


def _into_zip(place: Path) -> None:
    target = place / "export.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(place.rglob("*.dcm")):
            archive.write(path, str(path.relative_to(place)))
            path.unlink()


def _value(name: str, rng: Rng) -> str | None:
    if name in POOLS:
        return cast("str | None", pick(rng, POOLS[name]))
    if name in ("start_datetime", "private_time", "ge_start", "corrected_to", "acquired"):
        day, clock = pick(rng, DATES), pick(rng, TIMES)
        return None if rng.random() < 0.2 else f"{day or ''}{clock or ''}{pick(rng, ZONES)}"
    if name.endswith("date"):
        return cast("str | None", pick(rng, DATES))
    if name.endswith("time"):
        return cast("str | None", pick(rng, TIMES))
    return (
        f"{10 ** rng.uniform(-3, 10):.6g}" if rng.random() < 0.3 else cast("str | None", pick(rng, NUMBERS))
    )


def _set(ds: Dataset, name: str, vendor: str, value: str | None) -> None:
    if name in PRIVATE[vendor]:
        group, creator, offset = PRIVATE[vendor][name]
        block = ds.private_block(group, creator, create=True)
        if offset in block:
            del block[offset]
        if value is not None:
            block.add_new(offset, "LO", value)
        return
    target = ds.RadiopharmaceuticalInformationSequence[0] if name in DRUG else ds
    _put(target, {**WHOLE, **DRUG, **SLICE}[name], value)


def _put(target: Dataset, keyword: str, value: str | None) -> None:
    """Puts a raw text into an element; as LO, which no library touches (implicit VR files carry no VR)."""
    tag = pydicom.datadict.tag_for_keyword(keyword)
    assert tag is not None
    if tag in target:
        del target[tag]
    if value is not None:
        target.add_new(tag, "LO", value)


def _text(ds: Dataset, tag: Any) -> str | None:
    if tag not in ds:
        return None
    value = ds[tag].value
    return (
        "\\".join(map(str, value)) if isinstance(value, (list, pydicom.multival.MultiValue)) else str(value)
    )


def _plain(text: str | None) -> str:
    """What is the same code or number to a reader."""
    plain = (text or "").strip().upper()
    value = number(plain)
    return plain if value is None else repr(value)


def _fields(ds: Dataset, vendor: str) -> Fields:
    drug = ds.RadiopharmaceuticalInformationSequence[0]
    fields: Fields = dict.fromkeys(("private_time", "ge_start", "philips_suv", "philips_bq"))
    fields["maker"] = vendor
    fields |= {name: _text(ds, keyword) for name, keyword in WHOLE.items()}
    fields |= {name: _text(drug, keyword) for name, keyword in DRUG.items()}
    for name, (group, creator, offset) in PRIVATE[vendor].items():
        fields[name] = _text(ds, ds.private_block(group, creator).get_tag(offset))
    return fields


def _slice_fields(ds: Dataset) -> Fields:
    return {name: _text(ds, keyword) for name, keyword in SLICE.items()}
