"""A cohort on disk: one folder per patient, in the layout of FDG-PET-CT-Lesions, with the truth beside it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

from scantwin import NOTICE
from scantwin.errors import InputError
from scantwin.files import read_json, require_ours, require_ours_to_fill, whole_folder, write_json
from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.study import Condition
from scantwin.interrupts import end_workers, starting_workers, tie_worker
from scantwin.phantoms.dicom_out import Subject, write_dicom
from scantwin.phantoms.patient import build_patient
from scantwin.phantoms.scanner import ImagedPatient, ScannerSpec, image_patient
from scantwin.phantoms.spec import PatientSpec, random_patient
from scantwin.phantoms.tissues import ORGANS
from scantwin.terminal import Advance, silent

Form = Literal["nifti", "dicom"]


@dataclass(frozen=True)
class _Work:
    """What all patients of a cohort share; sent to the worker processes."""

    target: Path
    scanner: ScannerSpec
    form: Form
    when: date | None
    voxel_mm: float


def write_cohort(
    folder: Path | str, specs: Sequence[PatientSpec] | int, scanner: ScannerSpec, *, seed: int = 0,
    form: Form = "nifti", workers: int = 1, when: date | None = None, condition: Condition | None = None,
    voxel_mm: float | None = None, advance: Advance = silent,
) -> Path:  # fmt: skip
    """Writes `specs` (or that many random patients) as `scanner` shows them; existing studies are kept.

    The files depend on `seed`, the scanner and a patient's place in the list, never on `workers`. Bodies are
    painted on voxels of `voxel_mm`, by default a size that suits the scanner. Raises `InputError` if the
    folder holds another cohort, or something else.
    """
    target = Path(folder)
    # Two sites with the same seed must not have the same patients.
    start = (seed * 1_000_003 + crc32(scanner.name.encode())) % 2**31
    if isinstance(specs, int):
        fixed = {"condition": condition} if condition else {}
        specs = [random_patient(start + k, **fixed) for k in range(specs)]
    jobs = [(f"{scanner.name}-{k:04d}", spec, start + k) for k, spec in enumerate(specs)]
    work = _Work(target, scanner, form, when, voxel_mm or build_spacing(scanner))
    _claim(work, seed, jobs)
    todo = [job for job in jobs if not (target / job[0] / "study.json").exists()]
    for name, *_ in todo:
        require_ours(target / name, "truth/truth.json")
    done = len(jobs) - len(todo)
    if workers > 1 and len(todo) > 1:
        with ProcessPoolExecutor(
            min(workers, len(todo)), get_context("spawn"), tie_worker, (os.getpid(),)
        ) as pool:
            try:
                with starting_workers():
                    # Not `map`: it cancels the rest when interrupted, which clashes with killing the workers.
                    written = [pool.submit(_write_one, work, job) for job in todo]
                for future in written:
                    done += 1
                    advance(done, len(jobs), future.result())
            except BaseException:
                end_workers()
                for left in target.glob(".part-*"):
                    shutil.rmtree(left, ignore_errors=True)
                raise
    else:
        for job in todo:
            done += 1
            advance(done, len(jobs), _write_one(work, job))
    return target


def build_spacing(scanner: ScannerSpec) -> float:
    """Size of the voxels to paint a patient with [mm]: as fine as the CT, but within 2 to 4 mm."""
    return min(max(min(*scanner.ct_spacing_mm, *scanner.pet_spacing_mm), 2.0), 4.0)


def _claim(work: _Work, seed: int, jobs: Sequence[tuple[str, PatientSpec, int]]) -> None:
    """Writes cohort.json; refuses a folder whose cohort.json describes another cohort."""
    manifest: dict[str, Any] = {
        "notice": NOTICE,
        "seed": seed,
        "form": work.form,
        "scanner": work.scanner.model_dump(mode="json"),
        "when": work.when.isoformat() if work.when else None,
        "voxel_mm": work.voxel_mm,
        "studies": [{"study": name, **spec.model_dump(mode="json")} for name, spec, _ in jobs],
    }
    path = work.target / "cohort.json"
    require_ours_to_fill(work.target, path.name)
    if path.exists():
        before = read_json(path)
        told = before.get("studies")
        known = told if isinstance(told, list) else []
        same = known is told and all(
            before.get(key) == manifest[key] for key in ("seed", "form", "scanner", "when", "voxel_mm")
        )
        shared = min(len(known), len(jobs))
        if not same or known[:shared] != manifest["studies"][:shared]:
            raise InputError(
                f"{work.target} holds another cohort.",
                hint="Choose another folder, or take the old one away.",
            )
        if len(known) > len(jobs):
            return
    write_json(path, manifest)


def _write_one(work: _Work, job: tuple[str, PatientSpec, int]) -> str:
    name, spec, seed = job
    phantom = build_patient(spec, (work.voxel_mm,) * 3)
    imaged = image_patient(phantom, work.scanner, seed=seed, when=work.when)
    with whole_folder(work.target / name) as aside:
        if work.form == "dicom":
            subject = Subject(name, spec.sex, spec.age, spec.height_cm / 100, spec.weight_kg)
            write_dicom(
                aside, imaged.ct, imaged.pet, subject, work.scanner.vendor, seed=seed, when=work.when,
                lesions=imaged.lesions,
            )  # fmt: skip
        else:
            _write_nifti(aside, imaged)
        _write_truth(aside / "truth", imaged)
        write_json(aside / "study.json", _study(name, spec, work.scanner, imaged))
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
        # The seed identifies the patient, who stays the same when scanned again or elsewhere.
        "patient": f"phantom-{spec.seed}",
        "condition": spec.condition,
        "synthetic": True,
        "notice": NOTICE,
        "scanner": scanner.name,
        "lesions": sum(lesion["labelled_ml"] > 0 for lesion in imaged.truth["lesions"]),
    }
