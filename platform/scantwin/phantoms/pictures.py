"""A picture of one phantom: coronal CT, coronal PET and the projection from the front, side by side."""

from __future__ import annotations

from pathlib import Path

from scantwin.imaging.picture_marks import panel, scale_bar
from scantwin.imaging.pictures import ct_slice_image, mip_image, pet_slice_image, save_png, slice_frame
from scantwin.phantoms.scanner import ImagedPatient

PET_TOP = 6.0
"""SUV shown as black [g/ml]: the liver appears grey, brain and bladder black."""


def patient_picture(imaged: ImagedPatient, path: Path, *, y_mm: float = 22.0) -> Path:
    """Writes the picture; `y_mm` is the position of the coronal slices (world y [mm])."""
    frame = slice_frame(imaged.ct, "coronal", y_mm)
    ct = ct_slice_image(imaged.ct, frame=frame)
    pet = pet_slice_image(imaged.pet, frame=frame, top=PET_TOP)
    mip = mip_image(imaged.pet, top=PET_TOP)
    bar = scale_bar(pet.height, PET_TOP, "inverse-grey", "SUV")
    spec = imaged.truth["spec"]
    title = f"Phantom: {spec['sex']}, {spec['age']} years, BMI {spec['bmi']}, {spec['condition']}"
    picture = panel([[ct, pet, mip, bar]], columns=("CT", "PET", "PET, from the front", ""), title=title)
    return save_png(picture, path)
