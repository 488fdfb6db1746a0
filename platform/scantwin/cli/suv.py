"""`scantwin suv`: SUV factors of PET series from their headers, and how each was derived."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from scantwin import NOTICE
from scantwin.errors import InputError
from scantwin.imaging.reasons import code_of
from scantwin.imaging.suv_body import SUV_TYPES, SuvType
from scantwin.terminal import Json, emit, out, progress_bar

if TYPE_CHECKING:
    from scantwin.imaging.suv_series import Found, PetSeries


def suv(
    path: Annotated[Path, typer.Argument(help="Folder, DICOM file, zip, or header dump (.json).")],
    suv_type: Annotated[str, typer.Option("--type", help=", ".join(SUV_TYPES))] = "bw",
    out_file: Annotated[Path | None, typer.Option("--out", help="Write the PET as NIfTI, SUVbw.")] = None,
    any_nuclide: Annotated[bool, typer.Option(help="Also convert tracers other than F-18.")] = False,
    as_json: Json = False,
) -> None:
    """Show how each PET series becomes SUV: the factor, the decay reference, and every doubt.

    \b
    scantwin suv /data/patient-1             # all PET series below a folder
    scantwin suv export.zip --type lbm       # lean mass instead of weight
    scantwin suv series/ --out SUV.nii.gz    # the image in SUV
    scantwin suv headers.json --json         # a dump of headers, no pixels

    A series that cannot become SUV stays in Bq/ml; the reason is given. Exit 2 if there is no PET series.
    """
    # Importing pydicom takes 0.3 s; `scantwin --help`, which loads this module, does without it.
    from scantwin.imaging.suv_series import find_pet_series

    wanted = _type(suv_type)
    if out_file is not None:
        _check_out(out_file, wanted)
    with progress_bar("headers", quiet=as_json) as advance:
        found = find_pet_series(path, advance)
    reports = [series.report(wanted, any_nuclide=any_nuclide) for series in found.series]
    result: dict[str, Any] = {"notice": NOTICE, "series": reports}
    if found.unreadable:
        result["unreadable"] = [refusal.as_json() for refusal in found.unreadable]
    if out_file is not None:
        result["out"] = str(_write(found, reports, out_file))
    emit(result, as_json, lambda: _people(result))


def _type(text: str) -> SuvType:
    for known in SUV_TYPES:
        if text.lower() == known:
            return known
    raise InputError(f"{text!r} is not an SUV type.", hint=f"One of: {', '.join(SUV_TYPES)}.")


def _check_out(out_file: Path, wanted: SuvType) -> None:
    if not out_file.name.lower().endswith((".nii", ".nii.gz")):
        raise InputError(f"{out_file} is not a NIfTI name.", hint="Name it like SUV.nii.gz.")
    if wanted != "bw":
        raise InputError(
            "--out writes SUVbw, the SUV of every model and metric here.", hint="Leave --type out."
        )


def _write(found: Found, reports: list[dict[str, Any]], out_file: Path) -> Path:
    """Writes the one series with a factor as NIfTI in SUV."""
    usable = [s for s, r in zip(found.series, reports, strict=True) if r["factor"] is not None]
    if not usable:
        error = reports[0]["error"]
        raise InputError(error["message"], hint=error["hint"], code=error["code"])
    if any(code_of(w) == "pet.other-nuclide" for r in reports for w in r["warnings"]):
        raise InputError("--out writes FDG only.", hint="Use the factor of the report for other tracers.")
    return _image(usable, out_file)


def _image(usable: list[PetSeries], out_file: Path) -> Path:
    refs = [ref for series in usable for ref in series.refs]
    if not refs:
        raise InputError("A header dump holds no pixels.", hint="Leave --out out, or give the DICOM series.")
    from scantwin.imaging.beds import join_beds
    from scantwin.imaging.dicom_series import list_series
    from scantwin.imaging.nifti import write_nifti
    from scantwin.imaging.study_dicom import read_pet

    joined = join_beds(list_series(refs)[0])
    if len(joined) != 1:
        paths = ", ".join(series.path for series in usable[:3])
        raise InputError(
            f"There are {len(joined)} PET series ({paths}), --out takes one.", hint="Give one series' folder."
        )
    return write_nifti(read_pet(joined[0])[0], out_file)


def _people(result: dict[str, Any]) -> None:
    table = Table("", "units", "slices", "factor", "reference of decay", "dose then")
    for number, entry in enumerate(result["series"], 1):
        units = escape(entry["units"] or "none")
        table.add_row(str(number), units, str(entry["instances"]), *_cells(entry))
    out.print(table)
    for number, entry in enumerate(result["series"], 1):
        out.print(f"\n[bold]{number}  {escape(entry['path'])}[/bold]")
        if entry["error"]:
            out.print(f"  [red]no SUV:[/red] {escape(entry['error']['message'])}")
            out.print(f"  [bold]hint:[/bold] {escape(entry['error']['hint'])} ({entry['error']['code']})")
        for line in entry["derivation"]:
            out.print(f"  {escape(line)}")
        for line in entry["warnings"]:
            out.print(f"  [yellow]{escape(line)}[/yellow]")
    for refusal in result.get("unreadable", []):
        out.print(f"[yellow]{escape(refusal['message'])}[/yellow]")
    if "out" in result:
        out.print(f"\nWritten: {escape(result['out'])} (SUVbw, g/ml)")


def _cells(entry: dict[str, Any]) -> tuple[str, str, str]:
    factor, dose = entry["factor"], entry["dose_at_reference_bq"]
    if factor is None:
        return f"[red]none[/red] ({entry['error']['code']})", "", ""
    shown = f"{factor:.8g}" if isinstance(factor, float) else f"{min(factor):.6g} .. {max(factor):.6g}"
    return shown, entry["reference_rule"], "" if dose is None else f"{dose / 1e6:.3f} MBq"
