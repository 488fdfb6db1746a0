"""Pictures of the report: projections and slices side by side."""

from __future__ import annotations

import numpy as np
from benchmarks.evidence.findings import Picture, Workshop
from benchmarks.evidence.measuring import Measurer, Scan
from scipy import ndimage

from scantwin.imaging.picture_marks import panel, scale_bar
from scantwin.imaging.pictures import (
    PET_TOP,
    best_coronal_mm,
    mip_image,
    pet_slice_image,
    save_png,
    slice_frame,
)


def projections(
    workshop: Workshop, measurer: Measurer, file: str, who: dict[str, list[Scan]], title: str
) -> Picture:
    """Projections of the held-out patient with the most lesions: the true PET, then that of each model."""
    number = most_lesions(measurer)
    study = measurer.studies[number]
    assert study.suv is not None
    true = study.grid.with_array(study.suv, "SUV")
    images = [mip_image(true, synthetic=False)]
    images += [mip_image(study.grid.with_array(scans[number].pet, "SUV")) for scans in who.values()]
    bar = scale_bar(images[0].height, PET_TOP, "inverse-grey", "SUV")
    picture = panel([[*images, bar]], columns=("phantom's PET", *who, ""), title=f"{title}: {study.name}")
    save_png(picture, workshop.pictures / file)
    return Picture(file, f"{title}: projections of held-out patient {study.name}, SUV 0-{PET_TOP:g}.")


def slices(
    workshop: Workshop, measurer: Measurer, file: str, who: dict[str, list[Scan]], title: str
) -> Picture:
    """Coronal slices through the lesions of the same patient."""
    number = most_lesions(measurer)
    study = measurer.studies[number]
    assert study.suv is not None and study.lesions is not None
    place = study.grid.with_array
    hu, true = place(study.hu, "HU"), place(study.suv, "SUV")
    frame = slice_frame(hu, "coronal", best_coronal_mm(hu, place(study.lesions, "label")))
    images = [pet_slice_image(true, frame=frame, synthetic=False)]
    images += [pet_slice_image(place(scans[number].pet, "SUV"), frame=frame) for scans in who.values()]
    bar = scale_bar(images[0].height, PET_TOP, "inverse-grey", "SUV")
    picture = panel([[*images, bar]], columns=("phantom's PET", *who, ""), title=f"{title}: {study.name}")
    save_png(picture, workshop.pictures / file)
    return Picture(file, f"{title}: coronal slices through lesions of held-out patient {study.name}.")


def most_lesions(measurer: Measurer) -> int:
    """Index of the held-out patient with the most lesions."""
    marked = [s.pet_lesions for s in measurer.studies]
    touching = ndimage.generate_binary_structure(3, 2)  # lesions are 18-connected, as in the figures
    counts = [0 if one is None else ndimage.label(one, touching)[1] for one in marked]
    return int(np.argmax(counts))
