"""Small studies and their mutations: what `fuzz_imaging` reads. Seed and number give the input."""

from __future__ import annotations

import gzip
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pydicom
from benchmarks.fuzz_bases import DRAWINGS, Bases
from benchmarks.fuzz_suv import Input, Rng, link, pick, suv_mutation
from benchmarks.fuzz_values import EXTREMES
from benchmarks.suv_oracle import Answer
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

FORMS = ("dicom", "packed", "enhanced", "drawn")


def make(bases: Bases, place: Path, rng: Rng, number: int) -> Input:
    """Writes input `number` to `place`; the even ones mutate what SUV depends on."""
    if number % 2 == 0:
        return suv_mutation(bases, place, rng)
    kinds = (_bytes, _bytes, _truncated, _tag, _geometry, _vr, _nifti, _nifti, _scale, _image, _zip, _mixed)
    return kinds[int(rng.integers(len(kinds)))](bases, place, rng)


def _rewrite(path: Path, data: bytes) -> None:
    path.unlink()  # it is a link to the unmutated file
    path.write_bytes(data)


def _some_dicom(bases: Bases, place: Path, rng: Rng) -> list[Path]:
    # Old JPEG is decoded by a process that takes half a second to start: seldom.
    there = [b for b in bases.studies(*FORMS) if b.name != "packed-jpeg" or rng.random() < 0.15]
    files = link(pick(rng, there), place)
    # Beside drawn lesions CT and PET stay as they are: the other bases spoil those.
    return [p for p in files if p.parent.name == DRAWINGS] or files


def _chosen(files: list[Path], rng: Rng) -> list[Path]:
    return files if rng.random() < 0.3 else [pick(rng, files)]


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
    gone = [pick(rng, tags) for _ in range(int(rng.integers(1, 4)))]
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
    series = pick(rng, ("CT", "PET"))
    of_images = [p for p in files if p.parent.name == series]
    files = _chosen(of_images or [p for p in files if p.name == "SEG.dcm"], rng)
    name = pick(rng, sorted(EXTREMES))
    value = pick(rng, EXTREMES[name])
    for path in files:
        ds = pydicom.dcmread(path)
        where = ds.file_meta if name == "TransferSyntaxUID" else ds
        tag = pydicom.datadict.tag_for_keyword(name)
        assert tag is not None
        if tag in where:
            del where[tag]
        vr = "US" if isinstance(value, int) else "UI" if name.endswith("UID") else "LO"
        where.add_new(tag, vr, value)
        path.unlink()
        packed = ds.file_meta.get("TransferSyntaxUID", "") not in ("1.2.840.10008.1.2.1", "")
        implicit = name != "TransferSyntaxUID" and not packed
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
            at = pick(rng, heads)
            if rng.random() < 0.5:
                data[at : at + 2] = pick(
                    rng, (b"SQ", b"UN", b"OB", b"FD", b"US", b"DS", b"PN", b"UT", b"AT", b"ZZ")
                )
            else:
                data[at + 2 : at + 4] = struct.pack("<H", int(pick(rng, (0, 1, 3, 255, 65534, 65535))))
        _rewrite(path, bytes(data))
    return Input("vr", "")


def _nifti(bases: Bases, place: Path, rng: Rng) -> Input:
    path = pick(rng, link(bases.folder / "nifti", place))
    packed = path.read_bytes()
    how = pick(rng, ("header", "dims", "floats", "gz", "short", "short-gz"))
    data = bytearray(gzip.decompress(packed))
    if how == "header":
        for _ in range(int(rng.integers(1, 8))):
            data[int(rng.integers(352))] = int(rng.integers(256))
    elif how == "dims":
        for _ in range(int(rng.integers(1, 3))):
            value = int(pick(rng, (0, 1, -1, 32767, -32768, 7, 5000)))
            struct.pack_into("<h", data, 40 + 2 * int(rng.integers(8)), value)
    elif how == "floats":
        at = int(pick(rng, (76, 80, 84, 88, 108, 112, 116, 256, 268, 280, 296, 312, 328)))
        struct.pack_into(
            "<f", data, at, float(pick(rng, (0, -1, float("nan"), float("inf"), 1e30, 1e-30, 3)))
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


def _scale(bases: Bases, place: Path, rng: Rng) -> Input:
    """Slope and intercept of a NIfTI in SUV: the values follow them, or the study is refused."""
    link(bases.folder / "nifti", place)
    path = place / "SUV.nii.gz"
    data = bytearray(gzip.decompress(path.read_bytes()))
    slope = float(pick(rng, (0.0, 1.0, 2.5, 1e-3, -1.0, float("nan"), float("inf"), 1e30, 7.0)))
    inter = float(pick(rng, (0.0, 0.0, 0.5, -0.5, float("nan"), 1e30)))
    struct.pack_into("<ff", data, 112, slope, inter)
    _rewrite(path, gzip.compress(bytes(data), 1))
    shape = struct.unpack_from("<3h", data, 42)
    stored = np.frombuffer(bytes(data[352:]), "<f4").reshape(shape[::-1]).astype(float)
    # NIfTI-1: a slope of 0 (or none) means that the values are not scaled; SUV below 0 is set to 0.
    if slope == 0 or not np.isfinite(slope):
        slope, inter = 1.0, 0.0
    values = np.maximum(stored * slope + (inter if np.isfinite(inter) else 0.0), 0.0)
    one = ((1.0,) * len(values),)
    return Input("scale", f"{slope} {inter}", Answer(one, one), tuple(values.sum(axis=(1, 2)).tolist()))


def _image(bases: Bases, place: Path, rng: Rng) -> Input:
    """MetaImage or NRRD: its header's lines, its bytes, its end."""
    path = pick(rng, link(pick(rng, bases.studies("image", "nrrd")), place))
    data = path.read_bytes()
    how = pick(rng, ("line", "line", "bytes", "short"))
    if how == "line":
        head, end, rest = data.partition(b"\n\n" if path.suffix == ".nrrd" else b"\nElementDataFile")
        lines = head.decode().splitlines()
        at = int(rng.integers(len(lines)))
        if rng.random() < 0.3:
            lines[at] = ""
        else:
            odd = pick(rng, ("0", "-1", "nan", "1e30", "999999999", "x", "", "1 1", "32767"))
            lines[at] = re.sub(r"[-.\d]+(?!.*[-.\d])|True|False|MET_\w+", odd, lines[at], count=1)
        data = "\n".join(lines).encode() + end + rest
    elif how == "bytes":
        spoilt = bytearray(data)
        for _ in range(int(rng.integers(1, 8))):
            spoilt[int(rng.integers(min(len(spoilt), 600)))] = int(rng.integers(256))
        data = bytes(spoilt)
    else:
        data = data[: int(rng.integers(len(data)))]
    _rewrite(path, data)
    return Input("image", how)


def _mixed(bases: Bases, place: Path, rng: Rng) -> Input:
    """Two studies in one folder, with slices missing, files doubled, strangers between, a false DICOMDIR."""
    files = link(pick(rng, bases.studies("dicom", "enhanced", "drawn")), place / "a")
    files += link(pick(rng, bases.studies("dicom", "nifti", "image", "nrrd")), place / "b")
    for path in files:
        if rng.random() < 0.1:
            path.unlink()
        elif rng.random() < 0.1:
            path.rename(pick(rng, files).parent / f"{path.stem}-{int(rng.integers(99))}")
    for name in ("DICOMDIR", "README", "x.json", "study.json", "a.zip", "CT.nii.gz"):
        if rng.random() < 0.15:
            (place / name).write_bytes(rng.bytes(int(rng.integers(600))))
    return Input("mixed", "")


def _zip(bases: Bases, place: Path, rng: Rng) -> Input:
    base = pick(rng, bases.studies("dicom", "nifti", "image", "nrrd", "enhanced", "drawn"))
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
