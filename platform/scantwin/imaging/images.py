"""One CT or PET in a single file: NIfTI, MetaImage (.mha, .mhd) or NRRD."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import SimpleITK as sitk

from scantwin.imaging.limits import check_bytes
from scantwin.imaging.nifti import is_nifti, read_nifti
from scantwin.imaging.reasons import reject
from scantwin.imaging.volume import Volume
from scantwin.imaging.world import volume_from_affine
from scantwin.units import Unit

_ITK_FORMATS: Final = {".mha": "MetaImageIO", ".mhd": "MetaImageIO", ".nrrd": "NrrdImageIO"}


def is_image(path: Path | str) -> bool:
    """Whether the name is that of a file that `read_image` reads."""
    return is_nifti(path) or Path(path).suffix.lower() in _ITK_FORMATS


def read_image(path: Path | str, unit: Unit) -> Volume:
    """The volume of one file, as it lies in the file. Values in `unit`."""
    path = Path(path)
    if is_nifti(path):
        return read_nifti(path, unit)
    if not path.is_file():
        raise reject("study.not-found", path=path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.SetImageIO(_ITK_FORMATS[path.suffix.lower()])
        reader.ReadImageInformation()
        size = [int(n) for n in reader.GetSize()]
        if reader.GetDimension() != 3 or reader.GetNumberOfComponents() != 1:
            raise reject("image.dims", path=path, found=f"{reader.GetDimension()} dimensions")
        check_bytes(int(np.prod(size, dtype=np.int64)) * 4, str(path))
        image = reader.Execute()
        array = sitk.GetArrayFromImage(image)
    except (RuntimeError, KeyError, OverflowError, ValueError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise reject("image.unreadable", path=path, found=(lines[-1:] or ["damaged"])[0][-120:]) from None
    if array.dtype.kind not in "iuf":
        raise reject("image.dims", path=path, found=f"values of type {array.dtype}")
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(image.GetDirection()).reshape(3, 3) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return volume_from_affine(array, affine, unit, str(path))
