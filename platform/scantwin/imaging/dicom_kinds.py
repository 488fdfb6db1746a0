"""What a DICOM object is, by its header: the modality of an image, and whether a model made it."""

from __future__ import annotations

from typing import Final

from pydicom.dataset import Dataset

from scantwin.imaging.dicom_headers import BROKEN
from scantwin.imaging.pet_header import text

_IMAGE_CLASSES: Final = {
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "CT",
    "1.2.840.10008.5.1.4.1.1.128": "PT",
    "1.2.840.10008.5.1.4.1.1.128.1": "PT",
    "1.2.840.10008.5.1.4.1.1.130": "PT",
}
"""SOP classes of CT and PET images: classic, enhanced, legacy converted (Part 4, B.5)."""

MACHINE: Final = "ScanTwin virtual scanner"
"""ManufacturerModelName of everything that a scan of ours writes: PET, standard deviation, SEG."""
METHOD: Final = "SYNTHETIC"
"""ReconstructionMethod of a PET that a model made."""


def image_modality(header: Dataset) -> str:
    """`CT` or `PT` if it is an image of that kind, else "".

    The SOP class decides: a raw data object says PT too. Some exports have lost it; then Modality decides.
    """
    kind = text(header.get("SOPClassUID"))
    if kind:
        return _IMAGE_CLASSES.get(kind, "")
    said = text(header.get("Modality"))
    return said if said in _IMAGE_CLASSES.values() else ""


def is_made(header: Dataset) -> bool:
    """Whether a model made it: then it is no measured truth, whatever lies beside it."""
    try:
        return text(header.get("ReconstructionMethod")) == METHOD or (
            text(header.get("ManufacturerModelName")) == MACHINE
        )
    except BROKEN:
        return False
