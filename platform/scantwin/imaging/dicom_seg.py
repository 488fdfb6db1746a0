"""Lesion candidates as a DICOM Segmentation (PS3.3 A.51) on the grid of the synthetic PET series.

highdicom writes it: one binary segment per candidate, with references to the PET's slices. Whatever would
depend on the date or on chance is replaced afterwards, so that the same scan gives the same file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pydicom import Dataset
from pydicom.uid import SegmentationStorage, generate_uid

from scantwin import NOTICE, __version__
from scantwin.files import whole_file
from scantwin.imaging.dicom_beside import beside, with_meta
from scantwin.imaging.dicom_kinds import MACHINE
from scantwin.imaging.volume import Volume

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription

SERIES_NUMBER: Final = 9005
"""After the report (9004)."""
ALGORITHM: Final = "ScanTwin"


def write_seg(
    labels: Volume, path: Path, *, series: Sequence[Dataset], rule: str, names: Sequence[str] = ()
) -> Path | None:
    """Writes `labels` (1.. candidates) as segments; gives None and writes no file if there is no candidate.

    `series` are all slices of the synthetic PET series, as written, on the same grid as `labels`. `rule` says
    how the candidates were found; `names` are the segments' labels (default "Candidate 1", ..). Raises
    `ValueError` if the grids differ.
    """
    from highdicom.seg import Segmentation, SegmentationTypeValues

    upright = labels.canonical()
    array = np.asarray(upright.array)
    numbers = [int(n) for n in np.unique(array) if n]
    if not numbers:
        return None
    slices = sorted(series, key=lambda ds: int(ds.InstanceNumber))
    _check_grid(upright, slices)
    masks = np.stack([array == n for n in numbers], axis=-1).astype(np.uint8)
    base = beside(
        slices[0], SegmentationStorage, "SEG", SERIES_NUMBER, "SYNTHETIC candidates",
        masks.tobytes() + rule.encode(),
    )  # fmt: skip
    said = [
        _segment(k + 1, names[k] if k < len(names) else f"Candidate {n}", rule) for k, n in enumerate(numbers)
    ]
    seg = Segmentation(
        source_images=slices, pixel_array=masks, segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=said, series_instance_uid=base.SeriesInstanceUID, series_number=SERIES_NUMBER,
        sop_instance_uid=base.SOPInstanceUID, instance_number=1, manufacturer="ScanTwin",
        manufacturer_model_name=MACHINE, software_versions=f"scantwin {__version__}",
        device_serial_number="0", content_label="CANDIDATES", content_description=NOTICE,
        series_description=str(base.SeriesDescription), omit_empty_frames=True,
    )  # fmt: skip
    _settle(seg, base)
    with whole_file(path) as aside:
        with_meta(seg).save_as(aside, enforce_file_format=True)
    return path


def _segment(number: int, label: str, rule: str) -> SegmentDescription:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
    from pydicom.sr.codedict import codes

    description = SegmentDescription(
        segment_number=number, segment_label=label[:64],
        # Brain and bladder are among them: machines read these codes, not the notice, so no code says lesion.
        segmented_property_category=codes.SCT.Function,
        segmented_property_type=codes.DCM.StandardizedUptakeValue,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=ALGORITHM, version=__version__, family=codes.DCM.ArtificialIntelligence,
            parameters={"rule": rule},
        ),
    )  # fmt: skip
    description.SegmentDescription = NOTICE
    return description


def _settle(seg: Any, base: Dataset) -> None:
    """Replaces dates, times, character set and random identifiers; highdicom has set the patient already."""
    for keyword in ("ContentDate", "ContentTime", "SeriesDate", "SeriesTime", "SpecificCharacterSet"):
        if keyword in base:
            setattr(seg, keyword, base.get(keyword))
    for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
        if keyword in seg:
            delattr(seg, keyword)
    for equipment in seg.get("ContributingEquipmentSequence", []):
        if "ContributionDateTime" in equipment:
            del equipment.ContributionDateTime
    dimensions = generate_uid(entropy_srcs=[str(base.SOPInstanceUID), "dimensions"])
    for item in [*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence]:
        item.DimensionOrganizationUID = dimensions


def _check_grid(labels: Volume, slices: Sequence[Dataset]) -> None:
    first = slices[0]
    shape = (len(slices), int(first.Rows), int(first.Columns))
    places = labels.world([(k, 0, 0) for k in range(labels.shape[0])])
    if (
        shape != labels.shape
        or not np.allclose([np.asarray(ds.ImagePositionPatient, float) for ds in slices], places, atol=1e-3)
        or not np.allclose(np.asarray(first.PixelSpacing, float), labels.spacing[1:], atol=1e-3)
        # DICOM names the direction of a row (array axis x) first, then that of a column (array axis y).
        or not np.allclose(
            np.asarray(first.ImageOrientationPatient, float), labels.direction[:, [2, 1]].T.ravel(), atol=1e-4
        )
    ):
        raise ValueError(f"labels of {labels.shape} do not lie on the series of {shape}")
