"""What accompanies the PET series of a scan: candidates as SEG, the pictures and the report as DICOM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image
from pydicom import dcmread

from scantwin.imaging.dicom_capture import write_capture
from scantwin.imaging.dicom_pdf import ScanPage, write_encapsulated_pdf, write_pdf
from scantwin.imaging.dicom_seg import write_seg
from scantwin.translation.candidates import Candidates

if TYPE_CHECKING:
    from scantwin.translation.virtual_scanner import ScanResult

FOLDER: Final = "dicom-extra"
REPORT: Final = "report.pdf"
SEG: Final = f"{FOLDER}/seg.dcm"
MEANT_BY_SD: Final = (
    "SD: half-width of the 80 % interval / 1.28; errors have heavier tails than a normal distribution, so 2 "
    "SD are not 95 %."
)
"""What the error bar is (`translation.uncertainty`), for the page that shows it as a standard deviation."""


def scan_page(
    result: ScanResult, candidates: Candidates, model_version: str, seed: int, pictures: Sequence[Path]
) -> ScanPage:
    """The contents of the one-page report of a scan."""
    inside = np.asarray(result.pet.array)[result.body]
    known = np.asarray(result.std.array)[result.body]
    known = known[np.isfinite(known)]
    spacing = " x ".join(f"{s:.3g}" for s in reversed(result.pet.spacing))
    figures = [
        ("SUV, mean in the body", f"{inside.mean():.2f}" if inside.size else "-"),
        ("SUV, largest", f"{inside.max():.1f}" if inside.size else "-"),
        (
            "Standard deviation (SD), mean in body",
            f"{known.mean():.2f} SUV" if known.size else "not measured",
        ),
        ("Candidates", f"{len(candidates.found)}"),
        ("Volume of the candidates", f"{sum(c.volume_ml for c in candidates.found):.1f} ml"),
        ("Voxel (x, y, z)", f"{spacing} mm"),
        ("Seed", str(seed)),
        ("Time", f"{sum(result.seconds.values()):.1f} s"),
    ]
    litre = result.pet.voxel_ml / 1000
    districts: list[tuple[str, str]] = [
        (name, f"{count * litre:.1f} l") for name, count in result.present.items()
    ]
    districts.append(("confidence of the division", f"{100 * result.confidence:.0f} %"))
    remark = f"{candidates.rule} {MEANT_BY_SD}"
    return ScanPage(model_version, figures, districts, list(result.warnings), pictures, remark)


def write_extra(folder: Path, series: Sequence[Path], candidates: Candidates, page: ScanPage) -> list[str]:
    """Writes report.pdf and the folder dicom-extra; returns the DICOM files' names relative to `folder`.

    `series` are the files of the synthetic PET, whose study all of them join. No candidates, no SEG.
    """
    # The slices' pixels are not needed: a SEG refers to them and takes its geometry from their headers.
    slices = [dcmread(path, stop_before_pixels=True) for path in series]
    names = []
    labels = [f"Candidate {one.label}, SUVmax {one.suv_max:.1f}" for one in candidates.found]
    if write_seg(candidates.labels, folder / SEG, series=slices, rule=candidates.rule, names=labels):
        names.append(SEG)
    pdf = write_pdf(page, folder / REPORT)
    write_encapsulated_pdf(pdf, folder / FOLDER / "report.dcm", pet=slices[0])
    names.append(f"{FOLDER}/report.dcm")
    for number, picture in enumerate(page.pictures, 1):
        name = f"{FOLDER}/capture-{picture.stem}.dcm"
        with Image.open(picture) as image:
            write_capture(image, folder / name, pet=slices[0], description=picture.stem, number=number)
        names.append(name)
    return names
