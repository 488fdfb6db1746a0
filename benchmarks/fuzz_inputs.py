"""Small studies and their mutations: what `fuzz_imaging` reads. Seed and number give the input."""

from __future__ import annotations

import gzip
import os
import struct
import zipfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from benchmarks.fuzz_values import DATES, EXTREMES, NUMBERS, POOLS, TIMES, ZONES
from benchmarks.suv_oracle import Answer, Fields, answer
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.volume import Volume
from scantwin.phantoms.dicom_out import Subject, write_dicom

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
PRIVATE = {
    "siemens": {"private_time": (0x0071, "SIEMENS MED PT", 0x22)},
    "ge": {"private_time": (0x0009, "GEMS_PETD_01", 0x0D), "ge_start": (0x0009, "GEMS_PETD_01", 0x3B)},
    "philips": {
        "philips_suv": (0x7053, "Philips PET Private Group", 0x00),
        "philips_bq": (0x7053, "Philips PET Private Group", 0x09),
    },
}
PER_SLICE = {"private_time", "ge_start", "series_date", "series_time", "philips_bq"}
"""What one slice may have otherwise without making the series a mixture, if the others agree."""


@dataclass(frozen=True)
class Input:
    """One mutated study on disk."""

    kind: str
    what: str
    expected: Answer | None = None
    rescaled: tuple[float, ...] = ()
    """Sum over each slice of stored value times slope, where the SUV is to be compared."""


@dataclass(frozen=True)
class Bases:
    """Where the unmutated studies lie."""

    folder: Path

    def studies(self, form: str) -> list[Path]:
        """Those of one form: dicom-<vendor>, nifti."""
        return sorted(p for p in self.folder.iterdir() if p.name.startswith(form))


def write_bases(folder: Path) -> Bases:
    """A block of warm tissue in air, as three vendors write it, once more compressed, and as NIfTI."""
    random = np.random.default_rng(0)
    z, y, x = np.ogrid[:6, :16, :18]
    body = ((y - 8) / 6.0) ** 2 + ((x - 9) / 7.0) ** 2 < 1 + 0 * z
    hu = np.where(body, random.normal(30, 40, body.shape), -1000).astype(np.float32)
    suv = np.where(body, random.gamma(3.0, 0.7, body.shape), 0.01).astype(np.float32)
    ct = Volume(hu, (60.0, 20.0, 20.0), (-180.0, -160.0, 0.0), unit="HU")
    pet = Volume(suv, (60.0, 20.0, 20.0), (-180.0, -160.0, 0.0), unit="SUV")
    for k, vendor in enumerate(PRIVATE):
        subject = Subject(f"fuzz-{vendor}", "F", 60, 1.7, 70.0)
        write_dicom(folder / f"dicom-{vendor}", ct, pet, subject, vendor, seed=k, when=date(2026, 3, 2))  # type: ignore[arg-type]
    packed = folder / "dicom-rle"
    for path in sorted((folder / "dicom-siemens").rglob("*.dcm")):
        ds = pydicom.dcmread(path)
        ds.compress(RLELossless, generate_instance_uid=False)
        target = packed / path.relative_to(folder / "dicom-siemens")
        target.parent.mkdir(parents=True, exist_ok=True)
        ds.save_as(target)
    for name, volume in (("CTres", ct), ("SUV", pet)):
        write_nifti(volume, folder / "nifti" / f"{name}.nii.gz")
    return Bases(folder)


def make(bases: Bases, place: Path, rng: Rng, number: int) -> Input:
    """Writes input `number` to `place`; the even ones mutate what SUV depends on."""
    if number % 2 == 0:
        return _suv_mutation(bases, place, rng)
    kinds = (_bytes, _bytes, _truncated, _tag, _geometry, _vr, _nifti, _nifti, _zip)
    return kinds[int(rng.integers(len(kinds)))](bases, place, rng)


def _link(base: Path, place: Path) -> list[Path]:
    """The study in `place`, without copying: who writes a file there takes it away first."""
    made = []
    for path in sorted(base.rglob("*")):
        if path.is_file():
            target = place / path.relative_to(base)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)
            made.append(target)
    return made


def _rewrite(path: Path, data: bytes) -> None:
    path.unlink()  # it is a link to the unmutated file
    path.write_bytes(data)


def _pick(rng: Rng, items: Any) -> Any:
    return items[int(rng.integers(len(items)))]


def _suv_mutation(bases: Bases, place: Path, rng: Rng) -> Input:
    vendor = _pick(rng, sorted(PRIVATE))
    files = [p for p in _link(bases.folder / f"dicom-{vendor}", place) if p.parent.name == "PET"]
    slices = [pydicom.dcmread(p) for p in files]
    names = [*WHOLE, *DRUG, *SLICE, *PRIVATE[vendor]]
    chosen = [_pick(rng, names) for _ in range(int(rng.integers(1, 4)))]
    alone = int(rng.integers(len(slices))) if rng.random() < 0.1 else None
    for name in chosen:
        value = _value(name, rng)
        for k, ds in enumerate(slices):
            if alone is None or k == alone:
                _set(ds, name, vendor, value)
    implicit = rng.random() < 0.7
    for path, ds in zip(files, slices, strict=True):
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        path.unlink()
        ds.save_as(path, implicit_vr=implicit, little_endian=True)
    fields, each = _fields(slices[0], vendor), [_slice_fields(ds) for ds in slices]
    others = {k for ds in slices for k, v in _fields(ds, vendor).items() if _plain(v) != _plain(fields[k])}
    texts = [str(_fields(ds, vendor)["corrected"]).upper().split("\\") for ds in slices]
    all_corrected = all("ATTN" in codes and "DECY" in codes for codes in texts)
    if others <= (PER_SLICE | {"corrected"} if all_corrected else PER_SLICE):  # as the other slices have it
        expected = answer(_fields(slices[(alone or 0) - 1], vendor), each)
    else:
        expected = Answer((), ())
    sums = []
    for ds, one in zip(slices, each, strict=True):
        stored = np.frombuffer(ds.PixelData, "<i2").astype(float)
        try:
            sums.append(float(stored.sum()) * float(one["slope"] or "nan"))
        except ValueError:
            sums.append(float("nan"))
    what = f"{vendor} {'one slice' if alone is not None else 'all'}: {', '.join(chosen)}"
    return Input("suv", what, expected, tuple(sums))


def _value(name: str, rng: Rng) -> str | None:
    if name in POOLS:
        return _pick(rng, POOLS[name])
    if name in ("start_datetime", "private_time", "ge_start"):
        day, clock = _pick(rng, DATES), _pick(rng, TIMES)
        return None if rng.random() < 0.2 else f"{day or ''}{clock or ''}{_pick(rng, ZONES)}"
    if name.endswith("date"):
        return _pick(rng, DATES)
    if name.endswith("time"):
        return _pick(rng, TIMES)
    return f"{10 ** rng.uniform(-3, 10):.6g}" if rng.random() < 0.3 else _pick(rng, NUMBERS)


def _set(ds: Dataset, name: str, vendor: str, value: str | None) -> None:
    """Puts a raw text into an element; as LO, which no library touches (implicit VR files carry no VR)."""
    if name in PRIVATE[vendor]:
        group, creator, offset = PRIVATE[vendor][name]
        block = ds.private_block(group, creator, create=True)
        if offset in block:
            del block[offset]
        if value is not None:
            block.add_new(offset, "LO", value)
        return
    target = ds.RadiopharmaceuticalInformationSequence[0] if name in DRUG else ds
    tag = pydicom.datadict.tag_for_keyword({**WHOLE, **DRUG, **SLICE}[name])
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
    """What is the same code to a reader."""
    return (text or "").strip().upper()


def _fields(ds: Dataset, vendor: str) -> Fields:
    drug = ds.RadiopharmaceuticalInformationSequence[0]
    fields: Fields = dict.fromkeys(("private_time", "ge_start", "philips_suv", "philips_bq"))
    fields |= {name: _text(ds, keyword) for name, keyword in WHOLE.items()}
    fields |= {name: _text(drug, keyword) for name, keyword in DRUG.items()}
    for name, (group, creator, offset) in PRIVATE[vendor].items():
        fields[name] = _text(ds, ds.private_block(group, creator).get_tag(offset))
    return fields


def _slice_fields(ds: Dataset) -> Fields:
    return {name: _text(ds, keyword) for name, keyword in SLICE.items()}


def _some_dicom(bases: Bases, place: Path, rng: Rng) -> list[Path]:
    return _link(_pick(rng, bases.studies("dicom")), place)


def _chosen(files: list[Path], rng: Rng) -> list[Path]:
    return files if rng.random() < 0.3 else [_pick(rng, files)]


def _bytes(bases: Bases, place: Path, rng: Rng) -> Input:
    for path in _chosen(_some_dicom(bases, place, rng), rng):
        data = bytearray(path.read_bytes())
        end = len(data) if rng.random() < 0.3 else 2000  # most of what can break lies in the header
        for _ in range(int(rng.integers(1, 12))):
            data[int(rng.integers(min(end, len(data))))] = int(rng.integers(256))
        _rewrite(path, bytes(data))
    return Input("bytes", "")


def _truncated(bases: Bases, place: Path, rng: Rng) -> Input:
    for path in _chosen(_some_dicom(bases, place, rng), rng):
        data = path.read_bytes()
        _rewrite(path, data[: int(rng.integers(len(data)))])
    return Input("truncated", "")


def _tag(bases: Bases, place: Path, rng: Rng) -> Input:
    """Elements taken away, emptied, or put in the place of others."""
    files = _chosen(_some_dicom(bases, place, rng), rng)
    tags = list(pydicom.dcmread(files[0]).keys())
    gone = [_pick(rng, tags) for _ in range(int(rng.integers(1, 4)))]
    empty = rng.random() < 0.4
    for path in files:
        ds = pydicom.dcmread(path)
        for tag in gone:
            if tag in ds:
                if empty and ds[tag].VR != "SQ" and tag != 0x7FE00010:
                    ds[tag].value = None
                else:
                    del ds[tag]
        path.unlink()
        ds.save_as(path)
    return Input("tag", str(gone))


def _geometry(bases: Bases, place: Path, rng: Rng) -> Input:
    files = _some_dicom(bases, place, rng)
    series = _pick(rng, ("CT", "PET"))
    files = _chosen([p for p in files if p.parent.name == series], rng)
    name = _pick(rng, sorted(EXTREMES))
    value = _pick(rng, EXTREMES[name])
    for path in files:
        ds = pydicom.dcmread(path)
        where = ds.file_meta if name == "TransferSyntaxUID" else ds
        tag = pydicom.datadict.tag_for_keyword(name)
        if tag in where:
            del where[tag]
        vr = "US" if isinstance(value, int) else "UI" if name.endswith("UID") else "LO"
        where.add_new(tag, vr, value)
        path.unlink()
        implicit = (
            name != "TransferSyntaxUID" and "rle" not in str(ds.file_meta.TransferSyntaxUID.name).lower()
        )
        if implicit:
            ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        if value in ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"):
            ds.PixelData = pydicom.encaps.encapsulate([bytes(ds.PixelData)])
        elif ds["PixelData"].is_undefined_length and name == "TransferSyntaxUID":
            ds.file_meta.TransferSyntaxUID = RLELossless
        ds.save_as(path, implicit_vr=implicit, little_endian=True)
    return Input("numbers", f"{name}={value}")


def _vr(bases: Bases, place: Path, rng: Rng) -> Input:
    """Another VR, or another length, written over an element's head."""
    for path in _chosen(_some_dicom(bases, place, rng), rng):
        data = bytearray(path.read_bytes())
        heads = [
            k for k in range(132, min(len(data) - 8, 3000)) if data[k : k + 2].isalpha() and data[k] < 91
        ]
        for _ in range(int(rng.integers(1, 4)) if heads else 0):
            at = _pick(rng, heads)
            if rng.random() < 0.5:
                data[at : at + 2] = _pick(
                    rng, (b"SQ", b"UN", b"OB", b"FD", b"US", b"DS", b"PN", b"UT", b"AT", b"ZZ")
                )
            else:
                data[at + 2 : at + 4] = struct.pack("<H", int(_pick(rng, (0, 1, 3, 255, 65534, 65535))))
        _rewrite(path, bytes(data))
    return Input("vr", "")


def _nifti(bases: Bases, place: Path, rng: Rng) -> Input:
    path = _pick(rng, _link(bases.folder / "nifti", place))
    packed = path.read_bytes()
    how = _pick(rng, ("header", "dims", "floats", "gz", "short", "short-gz"))
    data = bytearray(gzip.decompress(packed))
    if how == "header":
        for _ in range(int(rng.integers(1, 8))):
            data[int(rng.integers(352))] = int(rng.integers(256))
    elif how == "dims":
        for _ in range(int(rng.integers(1, 3))):
            value = int(_pick(rng, (0, 1, -1, 32767, -32768, 7, 5000)))
            struct.pack_into("<h", data, 40 + 2 * int(rng.integers(8)), value)
    elif how == "floats":
        at = int(_pick(rng, (76, 80, 84, 88, 108, 112, 116, 256, 268, 280, 296, 312, 328)))
        struct.pack_into(
            "<f", data, at, float(_pick(rng, (0, -1, float("nan"), float("inf"), 1e30, 1e-30, 3)))
        )
    elif how == "short":
        data = data[: int(rng.integers(len(data)))]
    out = gzip.compress(bytes(data), 1)
    if how == "gz":
        spoilt = bytearray(out)
        for _ in range(int(rng.integers(1, 6))):
            spoilt[int(rng.integers(len(spoilt)))] = int(rng.integers(256))
        out = bytes(spoilt)
    elif how == "short-gz":
        out = out[: int(rng.integers(len(out)))]
    if rng.random() < 0.3 and how in ("header", "dims", "floats", "short"):
        path.unlink()
        path.with_suffix("").write_bytes(bytes(data))
    else:
        _rewrite(path, out)
    return Input("nifti", how)


def _zip(bases: Bases, place: Path, rng: Rng) -> Input:
    base = _pick(rng, [*bases.studies("dicom"), *bases.studies("nifti")])
    target = place / "export.zip"
    place.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(base.rglob("*")):
            if path.is_file():
                archive.write(path, str(path.relative_to(base)))
    data = bytearray(target.read_bytes())
    start = 0 if rng.random() < 0.5 else max(0, len(data) - 1500)
    for _ in range(int(rng.integers(1, 8))):
        data[int(rng.integers(start, len(data)))] = int(rng.integers(256))
    target.write_bytes(bytes(data[: int(rng.integers(len(data)))] if rng.random() < 0.2 else data))
    return Input("zip", "")
