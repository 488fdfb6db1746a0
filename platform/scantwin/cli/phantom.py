"""`scantwin phantom`: cohorts of made-up patients, QC objects, and a picture to check them by eye."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scantwin import NOTICE
from scantwin.errors import InputError
from scantwin.files import require_ours
from scantwin.terminal import LARGEST_SEED, Json, emit, finite, out, progress_bar

if TYPE_CHECKING:
    from scantwin.phantoms.scanner import ScannerSpec

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Make phantom patients and QC objects with known truth."
)

SITES = ("university", "regional", "rural")
CONDITIONS = ("negative", "melanoma", "lymphoma", "lung-cancer", "sarcoma")
VENDORS = ("siemens", "ge", "philips")
FORMS = ("nifti", "dicom")
_FIRST_DAY = date(1990, 1, 1)
"""Earlier days are typing errors, and `scantwin.imaging.suv_times` takes them for dummies: whole-body PET
came into the clinics in the 1990s."""
_LEAST_SCALE = 0.01
"""Below it, the image shows nothing that could be measured."""

Site = Annotated[str, typer.Option("--site", help="Whose scanner: " + ", ".join(SITES))]
Form = Annotated[str, typer.Option("--form", help="nifti or dicom")]
VendorName = Annotated[str | None, typer.Option("--vendor", help="Whose DICOM habits: " + ", ".join(VENDORS))]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="The same seed makes the same files.")
]
When = Annotated[
    str | None,
    typer.Option("--when", help="Day of the scan, YYYY-MM-DD; the rural site's calibration drifts with it."),
]
VoxelSize = Annotated[
    str, typer.Option("--voxels", help="coarse (4 mm and more), quick, or full: the vendor's own.")
]
Scale = Annotated[
    float | None,
    typer.Option("--suv-scale", callback=finite, help="Shown SUV over true SUV, instead of the site's."),
]


@app.command()
def cohort(
    out_dir: Annotated[Path, typer.Option("--out", help="Folder to write; studies already there are kept.")],
    n: Annotated[int, typer.Option("--n", min=1, help="How many patients.")] = 8,
    site: Site = "university",
    seed: Seed = 0,
    form: Form = "nifti",
    vendor: VendorName = None,
    condition: Annotated[
        str | None, typer.Option("--condition", help=", ".join(CONDITIONS) + " (default: mixed)")
    ] = None,
    when: When = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes.")] = 1,
    voxels: VoxelSize = "quick",
    suv_scale: Scale = None,
    as_json: Json = False,
) -> None:
    """Write a site's cohort: CT, PET and lesions of phantom patients, with the truth beside them.

    \b
    scantwin phantom cohort --out data/uni --n 8
    scantwin phantom cohort --out data/rural --site rural --condition lymphoma --workers 2
    scantwin phantom cohort --out data/ge --form dicom --vendor ge --n 2
    """
    from scantwin.phantoms.cohort import write_cohort

    scanner = _scanner(site, vendor, voxels=voxels, suv_scale=suv_scale)
    _known(form, FORMS, "form")
    _known(condition or "negative", CONDITIONS, "condition")
    with progress_bar("patients", quiet=as_json) as advance:
        folder = write_cohort(
            out_dir, n, scanner, seed=seed, form=form, workers=workers, when=_day(when), condition=condition,  # type: ignore[arg-type]
            advance=advance,
        )  # fmt: skip
    found = (path.parent.name for path in folder.glob("*/study.json"))
    studies = sorted(name for name in found if not name.startswith("."))
    result: dict[str, Any] = {
        "notice": NOTICE, "folder": str(folder), "site": site, "form": form, "seed": seed, "studies": studies,
        "scanner": scanner.model_dump(mode="json"),
    }  # fmt: skip
    emit(
        result,
        as_json,
        lambda: out.print(f"Patients of the site {site} in {folder}: {len(studies)}. {NOTICE}"),
    )


@app.command()
def qc(
    out_dir: Annotated[Path, typer.Option("--out", help="Folder to write; an earlier one is replaced.")],
    kind: Annotated[str, typer.Option("--kind", help="cylinder or spheres")] = "cylinder",
    site: Site = "university",
    seed: Seed = 0,
    form: Form = "nifti",
    vendor: VendorName = None,
    when: When = None,
    voxels: VoxelSize = "quick",
    suv_scale: Scale = None,
    as_json: Json = False,
) -> None:
    """Write a QC scan with exactly known activity, and print what is measured in it.

    \b
    scantwin phantom qc --out qc/today --site rural --when 2026-06-01
    scantwin phantom qc --out qc/iq --kind spheres --form dicom --vendor siemens
    """
    from scantwin.calibration.measure import measure_cylinder, measure_spheres
    from scantwin.phantoms.qc import sphere_phantom, uniform_cylinder, write_qc

    scanner = _scanner(site, vendor, voxels=voxels, suv_scale=suv_scale)
    _known(form, FORMS, "form")
    _known(kind, ("cylinder", "spheres"), "kind")
    day = _day(when)
    require_ours(out_dir, "truth.json")
    if kind == "cylinder":
        scan = uniform_cylinder(scanner, seed=seed, when=day)
        measured = measure_cylinder(scan.pet, scan.ct)
    else:
        scan = sphere_phantom(scanner, seed=seed, when=day)
        measured, _ = measure_spheres(scan.pet, ratio=scan.ratio)
    folder = write_qc(out_dir, scan, scanner, form=form, seed=seed)  # type: ignore[arg-type]
    result: dict[str, Any] = {
        "notice": NOTICE, "folder": str(folder), "kind": kind, "true_bias": scan.suv_factor - 1,
        "measured_bias": measured.bias, "sd": measured.sd, "n_voxels": measured.n_voxels,
        "accepted": measured.accepted,
        "detail": measured.detail,
    }  # fmt: skip

    def people() -> None:
        verdict = "within" if measured.accepted else "OUTSIDE"
        reads = f"reads {measured.bias:+.1%} ({verdict} EARL's 10 %); true {scan.suv_factor - 1:+.1%}"
        out.print(f"The {kind} in {folder} {reads}.")

    emit(result, as_json, people)


@app.command()
def picture(
    out_file: Annotated[Path, typer.Option("--out", help="PNG file to write.")],
    site: Site = "university",
    seed: Seed = 0,
    condition: Annotated[str | None, typer.Option("--condition", help=", ".join(CONDITIONS))] = None,
    arms: Annotated[str | None, typer.Option("--arms", help="up, down or one-up")] = None,
    as_json: Json = False,
) -> None:
    """Draw one phantom patient: coronal CT and PET, and the PET from the front.

    \b
    scantwin phantom picture --out patient.png --seed 3 --condition lymphoma
    """
    from scantwin.phantoms.cohort import build_spacing
    from scantwin.phantoms.patient import build_patient
    from scantwin.phantoms.pictures import patient_picture
    from scantwin.phantoms.scanner import image_patient
    from scantwin.phantoms.spec import random_patient

    _known(condition or "negative", CONDITIONS, "condition")
    _known(arms or "up", ("up", "down", "one-up"), "position of the arms")
    scanner = _scanner(site, None, voxels="quick", suv_scale=None)
    fixed = {key: value for key, value in {"condition": condition, "arms": arms}.items() if value}
    spec = random_patient(seed, **fixed)
    imaged = image_patient(build_patient(spec, (build_spacing(scanner),) * 3), scanner, seed=seed)
    path = patient_picture(imaged, out_file)
    result = {"notice": NOTICE, "picture": str(path), "patient": spec.model_dump(mode="json")}
    emit(
        result,
        as_json,
        lambda: out.print(f"{path}: {spec.sex}, {spec.age} years, {spec.condition}. {NOTICE}"),
    )


def _scanner(site: str, vendor: str | None, *, voxels: str, suv_scale: float | None) -> ScannerSpec:
    from scantwin.phantoms.sites import PRESETS

    _known(site, SITES, "site")
    _known(voxels, tuple(PRESETS), "size of voxels")
    changes: dict[str, Any] = {}
    if vendor is not None:
        _known(vendor, VENDORS, "vendor")
        changes["vendor"] = vendor
    if suv_scale is not None:
        if not _LEAST_SCALE <= suv_scale <= 10:
            raise InputError(
                f"An SUV scale of {suv_scale} is not possible: it is {_LEAST_SCALE} to 10.",
                hint="1 is right, 0.85 reads 15 % low.",
            )
        changes["suv_scale"] = suv_scale
    return PRESETS[voxels][site].model_copy(update=changes)


def _known(value: str, among: tuple[str, ...], what: str) -> None:
    if value not in among:
        raise InputError(f"{value!r} is not a {what}.", hint=f"One of: {', '.join(among)}.")


def _day(text: str | None) -> Any:
    if text is None:
        return None
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise InputError(f"{text!r} is not a day.", hint="Write it like 2026-06-01.") from None
    if day < _FIRST_DAY:
        raise InputError(f"Nobody scanned on {text}.", hint=f"The first day is {_FIRST_DAY}.")
    return day
