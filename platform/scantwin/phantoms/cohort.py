"""A cohort on disk: one folder a patient, in the layout of FDG-PET-CT-Lesions, with the truth beside it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

from scantwin import NOTICE
from scantwin.files import whole_folder, write_json
from scantwin.imaging.nifti import write_nifti
from scantwin.phantoms.dicom_out import Subject, write_dicom
from scantwin.phantoms.patient import build_patient
from scantwin.phantoms.scanner import ImagedPatient, ScannerSpec, image_patient
from scantwin.phantoms.spec import PatientSpec, random_patient
from scantwin.phantoms.tissues import ORGANS
from scantwin.terminal import Advance, silent

Form = Literal["nifti", "dicom"]


def write_cohort(
    folder: Path | str, specs: Sequence[PatientSpec] | int, scanner: ScannerSpec, *, seed: int = 0,
    form: Form = "nifti", workers: int = 1, when: date | None = None, advance: Advance = silent,
    condition: str | None = None,
) -> Path:  # fmt: skip
    """Writes `specs` (or that many random patients) as `scanner` shows them; studies that exist are kept.

    The images depend on `seed` and a patient's place in the list only, not on `workers`.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    # Two sites with the same seed must not have the same patients.
    start = (seed * 1_000_003 + crc32(scanner.name.encode())) % 2**31
    if isinstance(specs, int):
        fixed = {"condition": condition} if condition else {}
        specs = [random_patient(start + k, **fixed) for k in range(specs)]
    jobs = [(f"{scanner.name}-{k:04d}", spec, start + k) for k, spec in enumerate(specs)]
    todo = [job for job in jobs if not (target / job[0] / "study.json").exists()]
    work = partial(_write_one, target, scanner, form, when)
    done = len(jobs) - len(todo)
    if workers > 1 and len(todo) > 1:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for name in pool.map(work, todo):
                done += 1
                advance(done, len(jobs), name)
    else:
        for job in todo:
            done += 1
            advance(done, len(jobs), work(job))
    manifest = {
        "notice": NOTICE,
        "seed": seed,
        "form": form,
        "scanner": scanner.model_dump(mode="json"),
        "when": when.isoformat() if when else None,
        "studies": [{"study": name, **spec.model_dump(mode="json")} for name, spec, _ in jobs],
    }
    write_json(target / "cohort.json", manifest)
    return target


def build_spacing(scanner: ScannerSpec) -> tuple[float, float, float]:
    """Voxels to paint a patient with [mm]: as fine as the CT, but not finer than 2 mm nor coarser than 4."""
    fine = min(*scanner.ct_spacing_mm, *scanner.pet_spacing_mm)
    side = min(max(fine, 2.0), 4.0)
    return side, side, side


def _write_one(
    target: Path, scanner: ScannerSpec, form: Form, when: date | None, job: tuple[str, PatientSpec, int]
) -> str:
    name, spec, seed = job
    phantom = build_patient(spec, build_spacing(scanner))
    imaged = image_patient(phantom, scanner, seed=seed, when=when)
    with whole_folder(target / name) as aside:
        if form == "dicom":
            subject = Subject(name, spec.sex, spec.age, spec.height_cm / 100, spec.weight_kg)
            write_dicom(
                aside,
                imaged.ct,
                imaged.pet,
                subject,
                scanner.vendor,
                seed=seed,
                when=when,
                lesions=imaged.lesions,
            )
        else:
            _write_nifti(aside, imaged)
        _write_truth(aside / "truth", imaged)
        write_json(aside / "study.json", _study(name, spec, scanner, imaged))
    return name


def _write_nifti(folder: Path, imaged: ImagedPatient) -> None:
    write_nifti(imaged.ct, folder / "CT.nii.gz")
    write_nifti(imaged.pet, folder / "SUV.nii.gz")
    write_nifti(imaged.lesions, folder / "SEG.nii.gz")


def _write_truth(folder: Path, imaged: ImagedPatient) -> None:
    folder.mkdir()
    write_nifti(imaged.organs, folder / "organs.nii.gz")
    write_nifti(imaged.suv_true, folder / "suv_true.nii.gz")
    write_nifti(imaged.districts, folder / "districts.nii.gz")
    write_nifti(imaged.lesions, folder / "lesions.nii.gz")
    write_json(folder / "truth.json", {**imaged.truth, "organ_labels": ORGANS, "notice": NOTICE})


def _study(name: str, spec: PatientSpec, scanner: ScannerSpec, imaged: ImagedPatient) -> dict[str, Any]:
    return {
        "name": name,
        "condition": spec.condition,
        "synthetic": True,
        "notice": NOTICE,
        "scanner": scanner.name,
        "lesions": int(imaged.lesions.array.max()),
    }
