"""A scan's folder: NIfTI, a DICOM PET series, pictures and a manifest from which it can be repeated.

ct.nii.gz pet.nii.gz std.nii.gz districts.nii.gz   on one grid
dicom/      the PET as a series of the patient's study
dicom-extra/   in the same study: seg.dcm (lesion candidates), report.dcm, capture-*.dcm (the pictures)
pictures/   coronal.png, mip.png, uncertainty.png
report.pdf  one page
manifest.json
"""

from __future__ import annotations

import platform
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scantwin import NOTICE, __version__
from scantwin.files import whole_folder, write_json
from scantwin.imaging.dicom_pet import write_pet_series
from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.pictures import study_pictures
from scantwin.imaging.resampling import resample_like
from scantwin.imaging.volume import Volume
from scantwin.learning.machine import device
from scantwin.translation.candidates import lesion_candidates
from scantwin.translation.outputs_extra import REPORT, SEG, scan_page, write_extra
from scantwin.translation.starter import warning_of

if TYPE_CHECKING:
    import pydicom

    from scantwin.learning.weights import Model
    from scantwin.translation.virtual_scanner import ScanResult


def write_scan(
    result: ScanResult,
    ct: Volume,
    model: Model,
    model_version: str,
    out: Path,
    *,
    seed: int = 0,
    like: pydicom.Dataset | None = None,
) -> dict[str, Any]:
    """Writes everything about one scan into `out`, as a whole, and returns the dict of the JSON contract.

    `ct` [HU] is the CT that was scanned; `like` is one of its DICOM headers, whose study the PET joins.
    """
    began = time.monotonic()
    with whole_folder(out) as aside:
        write_nifti(result.pet, aside / "pet.nii.gz")
        write_nifti(result.std, aside / "std.nii.gz")
        write_nifti(result.ct, aside / "ct.nii.gz")
        write_nifti(result.districts, aside / "districts.nii.gz")
        series = write_pet_series(
            result.pet, aside / "dicom", like=like, model_version=model_version, seed=seed,
            remark=warning_of(model) or "",
        )  # fmt: skip
        # Pictures sample the original CT to keep its sharpness; the rest is on the working grid.
        shown = resample_like(ct.canonical(), result.pet, how="linear", outside=-1000.0)
        pictures = study_pictures(
            shown, result.pet, aside / "pictures", std=result.std, title=f"{model_version}"
        )
        names = [f"pictures/{path.name}" for path in pictures]
        candidates = lesion_candidates(result.pet)
        page = scan_page(result, candidates, model_version, seed, pictures)
        extra = write_extra(aside, series, candidates, page)
        manifest = _manifest(result, ct, model, model_version, seed, names)
        manifest |= {"candidates": {"rule": candidates.rule, "left_out": candidates.left_out,
                                    "found": [one.as_json() for one in candidates.found]}}  # fmt: skip
        manifest |= {"report_pdf": REPORT, "dicom_extra": extra}
        write_json(aside / "manifest.json", manifest)
    seconds = {**result.seconds, "write": time.monotonic() - began}
    return {
        "notice": NOTICE,
        "pet_nifti": str(out / "pet.nii.gz"),
        "std_nifti": str(out / "std.nii.gz"),
        "pet_dicom": str(out / "dicom"),
        "pictures": [str(out / name) for name in names],
        "manifest": str(out / "manifest.json"),
        "report_pdf": str(out / REPORT),
        "lesions_dicom": str(out / SEG) if SEG in extra else None,
        "dicom_extra": [str(out / name) for name in extra],
        "candidates": len(candidates.found),
        "model_version": model_version,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "districts": dict(result.present),
        "confidence": round(result.confidence, 3),
        "warnings": result.warnings,
    }


def _manifest(
    result: ScanResult, ct: Volume, model: Model, model_version: str, seed: int, pictures: list[str]
) -> dict[str, Any]:
    inside = np.asarray(result.pet.array)[result.body]
    return {
        "notice": NOTICE,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "model_version": model_version,
        "trained_on": model.record.get("trained_on", "not recorded"),
        "recipe": model.recipe.model_dump(mode="json"),
        "seed": seed,
        "ct": {"shape_zyx": ct.shape, "spacing_zyx_mm": ct.spacing},
        "pet": {
            "shape_zyx": result.pet.shape,
            "spacing_zyx_mm": result.pet.spacing,
            "suv_mean_in_body": float(inside.mean()),
            "suv_max": float(inside.max()),
        },
        "districts": dict(result.present),
        "confidence": result.confidence,
        "warnings": result.warnings,
        "seconds": result.seconds,
        "device": str(device()),
        "pictures": pictures,
        "versions": {
            "scantwin": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "SimpleITK", "pydicom")},
        },
    }
