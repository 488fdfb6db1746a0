"""A picture as DICOM Secondary Capture (PS3.3 A.8.1) in the study of the synthetic PET."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from PIL import Image
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from scantwin import NOTICE
from scantwin.files import whole_file
from scantwin.imaging.dicom_beside import beside, with_meta

SERIES_NUMBER: Final = 9003
"""After the synthetic PET (9001) and its standard deviation (9002)."""


def write_capture(image: Image.Image, path: Path, *, pet: Dataset, description: str, number: int = 1) -> Path:
    """Writes `image` (8 bit RGB) as a Secondary Capture; `pet` is a slice of the synthetic PET series.

    All captures of one scan form one series; `number` is the position of this one in it. The picture itself
    must bear the notice (`picture_marks.with_notice`); the header repeats it.
    """
    rgb = image.convert("RGB")
    pixels = rgb.tobytes()
    ds = beside(pet, SecondaryCaptureImageStorage, "OT", SERIES_NUMBER, "SYNTHETIC pictures", pixels)
    ds.InstanceNumber = number
    ds.ConversionType = "WSD"  # workstation
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.ImageComments = f"{description}. {NOTICE}"[:10240]
    ds.DerivationDescription = f"Picture of a SYNTHETIC PET: {description}. {NOTICE}"[:1024]
    ds.PatientOrientation = []
    ds.BurnedInAnnotation = "NO"  # nothing in the pixels identifies the patient
    ds.LossyImageCompression = "00"
    ds.SamplesPerPixel = 3
    ds.PhotometricInterpretation = "RGB"
    ds.PlanarConfiguration = 0
    ds.Columns, ds.Rows = rgb.size
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.PixelData = pixels + b"\0" * (len(pixels) % 2)
    ds["PixelData"].VR = "OB"
    with whole_file(path) as aside:
        with_meta(ds).save_as(aside, enforce_file_format=True)
    return path
