"""The unmutated studies of `fuzz_imaging`: a block of warm tissue in air, in every form that is read.

dicom-siemens, dicom-ge, dicom-philips    as the three vendors write it, uncompressed, a slope per slice
dicom-gml                                 the first as a workstation saves it: in SUV already
packed-rle, packed-jpegls, ..             the first, compressed
enhanced                                  a multi-frame file of CT, and one of PET that states its reference
drawn                                     the first, with a lesion in a RTSTRUCT and in a SEG
nifti, image, nrrd                        CTres and SUV as .nii.gz, as .mha, as .nrrd
"""

from __future__ import annotations

import shutil
from copy import deepcopy
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    EnhancedPETImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    RTStructureSetStorage,
    generate_uid,
)

from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.volume import Volume
from scantwin.phantoms.dicom_out import Subject, write_dicom

VENDORS = ("siemens", "ge", "philips")
PACKED = {"rle": RLELossless, "jpegls": JPEGLSLossless, "jpeg2000": JPEG2000Lossless, "deflated": None}
DRAWINGS = "LESIONS"
"""Folder of the drawn lesions in a base that has some."""
SHAPE, SPACING = (6, 32, 34), (60.0, 11.0, 11.0)
"""The JPEG 2000 encoder wants 32 voxels; 360 mm are two bed positions."""


@dataclass(frozen=True)
class Bases:
    """Where the unmutated studies lie."""

    folder: Path

    def studies(self, *forms: str) -> list[Path]:
        """Those whose names begin with one of `forms`."""
        return sorted(p for p in self.folder.iterdir() if p.name.startswith(forms))


def write_bases(folder: Path) -> Bases:
    """Writes all of them below `folder`."""
    random = np.random.default_rng(0)
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    body = ((y - 16) / 12.0) ** 2 + ((x - 17) / 14.0) ** 2 < 1 + 0 * z
    hu = np.where(body, random.normal(30, 40, body.shape), -1000).astype(np.float32)
    suv = np.where(body, random.gamma(3.0, 0.7, body.shape), 0.01).astype(np.float32)
    ct = Volume(hu, SPACING, (-180.0, -160.0, 0.0), unit="HU")
    pet = Volume(suv, SPACING, (-180.0, -160.0, 0.0), unit="SUV")
    for k, vendor in enumerate(VENDORS):
        subject = Subject(f"fuzz-{vendor}", "F", 60, 1.7, 70.0)
        write_dicom(folder / f"dicom-{vendor}", ct, pet, subject, vendor, seed=k, when=date(2026, 3, 2))  # type: ignore[arg-type]
    plain = folder / "dicom-siemens"
    _in_suv(plain, folder / "dicom-gml", suv)
    for name, syntax in PACKED.items():
        _pack(plain, folder / f"packed-{name}", syntax)
    _old_jpeg(plain, folder / "packed-jpeg")
    for name, kind in (("CT", EnhancedCTImageStorage), ("PET", EnhancedPETImageStorage)):
        _enhance(plain / name, folder / "enhanced" / name / f"{name}.dcm", kind)
    _draw(plain, folder / "drawn")
    for name, volume in (("CTres", ct), ("SUV", pet)):
        write_nifti(volume, folder / "nifti" / f"{name}.nii.gz")
        for form, end in (("image", "mha"), ("nrrd", "nrrd")):
            (folder / form).mkdir(exist_ok=True)
            sitk.WriteImage(volume.to_sitk(), str(folder / form / f"{name}.{end}"), name == "CTres")
    return Bases(folder)


def _in_suv(source: Path, folder: Path, suv: np.ndarray) -> None:
    """Units GML, SUVType BW, corrected to the injection, as the sarcoma data are."""
    for path in sorted(source.rglob("*.dcm")):
        ds = pydicom.dcmread(path)
        if ds.Modality == "PT":
            stored = np.frombuffer(ds.PixelData, "<i2").astype(float).sum()
            ds.Units, ds.SUVType, ds.DecayCorrection = "GML", "BW", "ADMIN"
            ds.RescaleSlope = f"{float(suv[int(ds.InstanceNumber) - 1].sum()) / stored:.9g}"
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        ds.save_as(target)


def _draw(source: Path, folder: Path) -> None:
    """A lesion on two slices of the CT, by its contours and by its voxels."""
    shutil.copytree(source, folder)
    slices = [pydicom.dcmread(p) for p in sorted((folder / "CT").glob("*.dcm"))]
    slices.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    (folder / DRAWINGS).mkdir()
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:4, 12:18, 12:18] = 1
    lesion = codes.SCT.Lesion
    segment = SegmentDescription(1, "GTV", codes.SCT.MorphologicallyAbnormalStructure, lesion, "MANUAL")
    seg = Segmentation(
        slices, mask, "BINARY", [segment], generate_uid(), 9, generate_uid(), 1, "fuzz", "fuzz", "1", "1"
    )
    seg.save_as(folder / DRAWINGS / "SEG.dcm")
    _structure_set(slices).save_as(folder / DRAWINGS / "RS.dcm")


def _structure_set(slices: list[Dataset]) -> Dataset:
    ds = Dataset()
    for name in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
        setattr(ds, name, slices[0].get(name))
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = (
        RTStructureSetStorage,
        generate_uid(),
        generate_uid(),
    )
    ds.Modality = "RTSTRUCT"
    contours = []
    for one in slices[2:4]:
        x, y, z = (float(v) for v in one.ImagePositionPatient)
        first, last = 12 * SPACING[1] - 5, 17 * SPACING[1] + 5
        corners = [(first, first), (first, last), (last, last), (last, first)]
        contour = Dataset()
        contour.ContourGeometricType = "CLOSED_PLANAR"
        contour.NumberOfContourPoints = len(corners)
        contour.ContourData = [f"{v:.2f}" for dx, dy in corners for v in (x + dx, y + dy, z)]
        contours.append(contour)
    region, drawn, seen = Dataset(), Dataset(), Dataset()
    region.ROINumber, region.ROIName = 1, "GTV"
    drawn.ReferencedROINumber, drawn.ContourSequence = 1, contours
    seen.ReferencedROINumber, seen.RTROIInterpretedType = 1, "GTV"
    ds.StructureSetROISequence, ds.ROIContourSequence, ds.RTROIObservationsSequence = (
        [region],
        [drawn],
        [seen],
    )
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.preamble = bytes(128)
    return ds


def _pack(source: Path, folder: Path, syntax: pydicom.uid.UID | None) -> None:
    for path in sorted(source.rglob("*.dcm")):
        ds = pydicom.dcmread(path)
        if syntax is None:
            ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        else:
            ds.compress(syntax, generate_instance_uid=False)
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        ds.save_as(target)


def _old_jpeg(source: Path, folder: Path) -> None:
    """Lossless JPEG, by GDCM, as old archives have it."""
    import gdcm  # type: ignore[import-untyped]

    for path in sorted(source.rglob("*.dcm")):
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        reader.SetFileName(str(path))
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        read = reader.Read()
        change.SetInput(reader.GetImage())
        changed = change.Change()
        writer.SetFile(reader.GetFile())
        writer.SetFileName(str(target))
        writer.SetImage(change.GetOutput())
        if not (read and changed and writer.Write()):
            raise RuntimeError(f"GDCM could not write {target}")


def _enhance(source: Path, target: Path, kind: pydicom.uid.UID) -> None:
    """A series as one enhanced multi-frame file (Part 3, A.38 and A.56)."""
    slices = [pydicom.dcmread(p) for p in sorted(source.glob("*.dcm"))]
    ds = deepcopy(slices[0])
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = kind
    frames = []
    for one in slices:
        frame = Dataset()
        frame.PlanePositionSequence = [_item(one, "ImagePositionPatient")]
        frame.PixelValueTransformationSequence = [_item(one, "RescaleSlope", "RescaleIntercept")]
        content = Dataset()
        content.FrameAcquisitionDateTime = one.AcquisitionDate + one.AcquisitionTime
        if "ActualFrameDuration" in one:
            content.FrameAcquisitionDuration = float(one.ActualFrameDuration)
        frame.FrameContentSequence = [content]
        frames.append(frame)
    shared = Dataset()
    shared.PlaneOrientationSequence = [_item(slices[0], "ImageOrientationPatient")]
    shared.PixelMeasuresSequence = [_item(slices[0], "PixelSpacing", "SliceThickness")]
    if kind == EnhancedPETImageStorage:
        ds.DecayCorrectionDateTime = ds.SeriesDate + ds.SeriesTime
        ds.AttenuationCorrected = ds.DecayCorrected = "YES"
        drug = ds.RadiopharmaceuticalInformationSequence[0]
        drug.RadiopharmaceuticalStartDateTime = ds.SeriesDate + drug.RadiopharmaceuticalStartTime
        del drug.RadiopharmaceuticalStartTime
        for name in (
            "CorrectedImage", "DecayCorrection", "FrameReferenceTime", "ActualFrameDuration", "DecayFactor",
            "SeriesDate", "SeriesTime",
        ):  # fmt: skip
            delattr(ds, name)
        ds.private_block(0x0071, "SIEMENS MED PT").__delitem__(0x22)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
                 "RescaleSlope", "RescaleIntercept", "AcquisitionDate", "AcquisitionTime"):  # fmt: skip
        delattr(ds, name)
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [shared], frames
    ds.NumberOfFrames = len(slices)
    ds.PixelData = b"".join(one.PixelData for one in slices)
    target.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(target)


def _item(source: Dataset, *names: str) -> Dataset:
    item = Dataset()
    for name in names:
        setattr(item, name, source.get(name))
    return item
