"""The new patient's synthetic PET beside the real one, which neither site nor twin has seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from scantwin.imaging.nifti import read_nifti
from scantwin.imaging.picture_marks import panel, scale_bar
from scantwin.imaging.pictures import (
    SOFT_TISSUE,
    best_coronal_mm,
    ct_slice_image,
    mip_image,
    pet_slice_image,
    save_png,
    slice_frame,
)
from scantwin.imaging.resampling import resample_like
from scantwin.imaging.volume import Volume
from scantwin.units import Unit

_TOP: Final = 6.0
"""SUV shown as black [g/ml]: liver in the middle greys, brain and tumour black."""


def compare(scan: dict[str, Any], study: Path, picture: Path) -> dict[str, Any]:
    """Writes the picture; returns the error over the body [g/ml], or nothing if there is no real PET."""
    real_file = study / "SUV.nii.gz"
    if not real_file.is_file():
        return {}
    folder = Path(scan["pet_nifti"]).parent
    pet, std, ct = (read_nifti(folder / f"{name}.nii.gz", unit).canonical() for name, unit in _VOLUMES)
    real = read_nifti(real_file, "SUV").canonical()
    save_png(_panel(ct, real, pet, std), picture)
    districts = read_nifti(folder / "districts.nii.gz", "label").canonical()
    body = np.asarray(districts.array) > 0
    # On the synthetic PET's grid; the figures of the rounds are computed on each patient's own grid.
    error = np.asarray(pet.array)[body] - np.asarray(resample_like(real, pet, how="area").array)[body]
    return {
        "picture": str(picture),
        "mae": round(float(np.abs(error).mean()), 4),
        "bias": round(float(error.mean()), 4),
    }


_CT: Final = "CT, {:g} to {:g} HU".format(*SOFT_TISSUE)
_VOLUMES: Final[tuple[tuple[str, Unit], ...]] = (("pet", "SUV"), ("std", "SUV"), ("ct", "HU"))


def _panel(ct: Volume, real: Volume, pet: Volume, std: Volume) -> Any:
    frame = slice_frame(ct, "coronal", best_coronal_mm(ct))
    spread = std.with_array(np.nan_to_num(np.asarray(std.array)).astype(np.float32))
    row = [
        ct_slice_image(ct, frame=frame),
        pet_slice_image(real, frame=frame, top=_TOP, synthetic=False),
        pet_slice_image(pet, frame=frame, top=_TOP),
        mip_image(real, top=_TOP, synthetic=False),
        mip_image(pet, top=_TOP),
    ]
    row.append(scale_bar(row[0].height, _TOP, "inverse-grey", "SUV"))
    top = max(0.5, float(np.ceil(2 * np.percentile(np.asarray(spread.array), 99.9)) / 2))
    row += [pet_slice_image(spread, frame=frame, top=top, palette="spread")]
    row.append(scale_bar(row[0].height, top, "spread", "SD [SUV]"))
    names = (
        _CT,
        "real PET",
        "synthetic PET",
        "real, from the front",
        "synthetic, from the front",
        "",
        "error bar",
        "",
    )
    return panel([row], columns=names)
