"""The header of a CT, so that what is made from it joins the patient's study."""

from __future__ import annotations

from pathlib import Path

import pydicom

from scantwin.imaging.dicom_headers import read_header
from scantwin.imaging.reading import find_studies


def ct_header(path: Path) -> pydicom.Dataset | None:
    """The header of the first CT slice found under `path` (folder, zip, file); None where it is no DICOM."""
    for source in find_studies(path):
        if source.kind == "dicom":
            for reference in source.files:
                header = read_header(reference)
                if header is not None and header.get("Modality") == "CT":
                    return header
    return None
