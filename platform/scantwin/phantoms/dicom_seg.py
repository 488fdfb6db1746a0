"""Lesions as a DICOM segmentation (PS3.3 A.51): one binary segment per lesion, on the PET's grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from scantwin.imaging.volume import Volume


def write_lesions(path: Path, lesions: Volume, common: Dataset, key: str) -> None:
    """Writes each label of `lesions` as the segment "Lesion LABEL"; only slices that hold one become frames.

    Segment numbers are consecutive, as DICOM wants them; labels, those of truth.json, may have gaps.
    """
    from scantwin.phantoms.dicom_out import save, uid

    labels = [int(v) for v in np.unique(lesions.array) if v]
    frames = [
        (label, k) for label in labels for k in np.flatnonzero((lesions.array == label).any(axis=(1, 2)))
    ]
    ds = common
    ds.SOPClassUID, ds.SOPInstanceUID = SegmentationStorage, uid(key, "seg", "instance")
    ds.Modality, ds.SeriesInstanceUID, ds.SeriesNumber = "SEG", uid(key, "seg"), 4
    ds.SeriesDescription, ds.ImageType = "Lesions", ["DERIVED", "PRIMARY"]
    ds.SeriesDate, ds.SeriesTime = ds.StudyDate, ds.StudyTime
    ds.ContentDate, ds.ContentTime = ds.StudyDate, ds.StudyTime
    ds.InstanceNumber, ds.ContentLabel, ds.ContentDescription, ds.ContentCreatorName = 1, "LESIONS", "", ""
    ds.ManufacturerModelName, ds.DeviceSerialNumber = "scantwin phantom", "0"
    ds.SegmentationType, ds.LossyImageCompression = "BINARY", "00"
    ds.Rows, ds.Columns, ds.NumberOfFrames = lesions.shape[1], lesions.shape[2], len(frames)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 1, 1, 0, 0
    ds.SegmentSequence = [_segment(n, label) for n, label in enumerate(labels, start=1)]
    organization = Dataset()
    organization.DimensionOrganizationUID = uid(key, "seg", "dimensions")
    ds.DimensionOrganizationSequence = [organization]
    ds.DimensionIndexSequence = [
        _dimension(organization.DimensionOrganizationUID, *pair) for pair in _DIMENSIONS
    ]
    ds.SharedFunctionalGroupsSequence = [_shared(lesions)]
    ds.PerFrameFunctionalGroupsSequence = [
        _frame(lesions, labels.index(label) + 1, int(k)) for label, k in frames
    ]
    bits = np.stack([(lesions.array[k] == label) for label, k in frames]).astype(np.uint8)
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    ds.PixelData = packed + b"\0" * (len(packed) % 2)
    save(ds, path)


_DIMENSIONS = ((0x0062000B, 0x0062000A), (0x00200032, 0x00209113))
"""Frames are ordered by segment, then by position."""


def _dimension(organization: str, pointer: int, group: int) -> Dataset:
    item = Dataset()
    item.DimensionOrganizationUID = organization
    item.DimensionIndexPointer, item.FunctionalGroupPointer = pointer, group
    return item


def _segment(number: int, label: int) -> Dataset:
    segment = Dataset()
    segment.SegmentNumber, segment.SegmentLabel = number, f"Lesion {label}"
    segment.SegmentAlgorithmType, segment.SegmentAlgorithmName = "AUTOMATIC", "phantom truth"
    category, kind = Dataset(), Dataset()
    category.CodeValue, category.CodingSchemeDesignator = "49755003", "SCT"
    category.CodeMeaning = "Morphologically Abnormal Structure"
    kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning = "52988006", "SCT", "Lesion"
    segment.SegmentedPropertyCategoryCodeSequence = [category]
    segment.SegmentedPropertyTypeCodeSequence = [kind]
    return segment


def _shared(lesions: Volume) -> Dataset:
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [round(lesions.spacing[1], 6), round(lesions.spacing[2], 6)]
    measures.SliceThickness = measures.SpacingBetweenSlices = round(lesions.spacing[0], 6)
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [orientation]
    return shared


def _frame(lesions: Volume, segment: int, k: int) -> Dataset:
    frame, content, position, identification = Dataset(), Dataset(), Dataset(), Dataset()
    content.DimensionIndexValues = [segment, k + 1]
    position.ImagePositionPatient = [round(float(v), 4) for v in lesions.world([k, 0, 0])]
    identification.ReferencedSegmentNumber = segment
    frame.FrameContentSequence = [content]
    frame.PlanePositionSequence = [position]
    frame.SegmentIdentificationSequence = [identification]
    return frame
