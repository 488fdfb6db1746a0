"""Makers of DICOM series whose voxel values are a known function of the world: any error of place shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"
PET_CLASS = "1.2.840.10008.5.1.4.1.1.128"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def hu_at(points: np.ndarray) -> np.ndarray:
    """HU at world points (.., xyz) [mm]: linear, so that linear interpolation is exact."""
    return 2.0 * points[..., 0] - 3.0 * points[..., 1] + 1.5 * points[..., 2] - 20.0


def suv_at(points: np.ndarray) -> np.ndarray:
    """SUV at world points (.., xyz) [mm]: linear and positive over the test volumes."""
    return 5.0 + 0.02 * points[..., 0] + 0.01 * points[..., 1] - 0.015 * points[..., 2]


@dataclass
class SeriesMaker:
    """Builds one series; `change(dataset, i)` may spoil each slice before it is written."""

    modality: str = "CT"
    slices: int = 12
    shape: tuple[int, int] = (14, 17)
    """Rows, columns."""
    spacing: tuple[float, float, float] = (3.0, 2.0, 1.5)
    """Slices, rows, columns [mm]."""
    origin: tuple[float, float, float] = (-15.0, -10.0, -20.0)
    orientation: tuple[float, ...] = AXIAL
    step: tuple[float, float, float] | None = None
    """World step between slices; along the normal if not given."""
    values: Callable[[np.ndarray], np.ndarray] | None = None
    study: str = "1.2.826.0.1.77.1"
    series: str | None = None
    frame: str = "1.2.826.0.1.77.9"
    fields: dict[str, Any] = field(default_factory=dict)

    def axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """World steps of columns, rows, slices."""
        x, y = np.asarray(self.orientation[:3], float), np.asarray(self.orientation[3:], float)
        step = np.asarray(self.step) if self.step is not None else np.cross(x, y) * self.spacing[0]
        return x * self.spacing[2], y * self.spacing[1], step

    def points(self, i: float) -> np.ndarray:
        """World points (rows, columns, xyz) of slice `i`."""
        x, y, z = self.axes()
        r, c = np.meshgrid(np.arange(self.shape[0]), np.arange(self.shape[1]), indexing="ij")
        return np.asarray(self.origin) + i * z + r[..., None] * y + c[..., None] * x

    def stored(self, i: float) -> tuple[np.ndarray, float, float]:
        """Stored values of slice `i`, slope, intercept."""
        if self.modality == "CT":
            hu = (self.values or hu_at)(self.points(i))
            return np.rint(hu + 1024).astype(np.int16), 1.0, -1024.0
        suv = (self.values or suv_at)(self.points(i))
        slope = float(suv.max()) / (20000 + 10 * round(i))  # another slope on every slice
        return np.rint(suv / slope).astype(np.int16), slope, 0.0

    def dataset(self, i: int) -> FileDataset:
        """Slice `i` as a dataset."""
        is_ct = self.modality == "CT"
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = UID(CT_CLASS if is_ct else PET_CLASS)
        series = self.series or f"{self.study}.{2 if is_ct else 3}"
        meta.MediaStorageSOPInstanceUID = UID(f"{series}.{i + 1}")
        ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = self.study, series, self.frame
        ds.Modality, ds.Manufacturer = self.modality, "SIEMENS"
        ds.PatientID, ds.PatientName, ds.StudyID = "P1", "Test^One", "1"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"] if is_ct else ["ORIGINAL", "PRIMARY"]
        ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = "20200101"
        ds.StudyTime = ds.SeriesTime = "100000"
        ds.AcquisitionTime = "100000" if is_ct else "100500"
        ds.InstanceNumber, ds.SeriesNumber = i + 1, 1
        ds.ImageOrientationPatient = [float(v) for v in self.orientation]
        ds.ImagePositionPatient = [float(v) for v in np.asarray(self.origin) + i * self.axes()[2]]
        ds.PixelSpacing = [self.spacing[1], self.spacing[2]]
        ds.SliceThickness = self.spacing[0]
        ds.Rows, ds.Columns = self.shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        array, slope, inter = self.stored(i)
        ds.RescaleSlope, ds.RescaleIntercept = f"{slope:.10g}", f"{inter:.10g}"
        if not is_ct:
            ds.Units, ds.SUVType, ds.DecayCorrection = "GML", "BW", "ADMIN"
            ds.CorrectedImage = ["DECY", "ATTN", "SCAT"]
            ds.SeriesType = ["WHOLE BODY", "IMAGE"]
            ds.PatientWeight, ds.PatientSize, ds.PatientSex = 70, 1.75, "F"
            drug = Dataset()
            drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = 3.5e8, 6586.2
            drug.RadiopharmaceuticalStartTime = "090000"
            ds.RadiopharmaceuticalInformationSequence = Sequence([drug])
        for name, value in self.fields.items():
            setattr(ds, name, value)
        ds.PixelData = array.astype("<i2").tobytes()
        return ds

    def write(
        self,
        folder: Path,
        *,
        keep: Callable[[int], bool] = lambda i: True,
        change: Callable[[FileDataset, int], None] | None = None,
        name: Callable[[int], str] | None = None,
    ) -> Path:
        """Writes the slices for which `keep(i)`; files have names without order unless `name` is given."""
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(self.slices):
            if not keep(i):
                continue
            ds = self.dataset(i)
            if change is not None:
                change(ds, i)
            file = name(i) if name else f"{self.modality}{(i * 7919 + 13) % 1009:04d}"
            pydicom.dcmwrite(folder / file, ds, enforce_file_format=True)
        return folder


@pytest.fixture
def ct_maker() -> Callable[..., SeriesMaker]:
    """A maker of CT series with any field changed."""
    return lambda **changes: SeriesMaker(**{"modality": "CT", **changes})


@pytest.fixture
def pet_maker() -> Callable[..., SeriesMaker]:
    """A maker of PET series: 8 slices of 4 mm on coarser voxels over the same place."""
    wide = {
        "modality": "PT", "slices": 9, "shape": (8, 9), "spacing": (4.0, 3.5, 3.0),
        "origin": (-14.0, -9.0, -19.0),
    }  # fmt: skip
    return lambda **changes: SeriesMaker(**{**wide, **changes})


@pytest.fixture
def pair(tmp_path, ct_maker, pet_maker) -> Path:
    """A folder with a CT and a PET of one study."""
    ct_maker().write(tmp_path / "export" / "DICOM" / "A1")
    pet_maker().write(tmp_path / "export" / "DICOM" / "A2")
    return tmp_path / "export"
