"""`scantwin scan`: the synthetic PET of one CT, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from scantwin import NOTICE
from scantwin.cli.machine_options import Device, Threads, use_machine
from scantwin.files import require_ours
from scantwin.terminal import LARGEST_SEED, Json, emit, err, out, progress_bar

Steps = Annotated[
    int | None,
    typer.Option(
        min=2,
        help="Network evaluations per sample: 2 up to the training's noise levels (default: the recipe's).",
    ),
]
Samples = Annotated[int | None, typer.Option(min=1, max=32, help="Samples to draw (default: the recipe's).")]
"""For models that draw samples; `scantwin evaluate` has both options, too."""


def scan(
    ct: Annotated[Path, typer.Argument(help="A CT: NIfTI file, DICOM folder or zip.")],
    model: Annotated[
        str,
        typer.Option(
            help="Model folder, or a version or name of the registry. The starter models that come with "
            "ScanTwin (starter, starter-diffusion) have learnt from phantoms only."
        ),
    ] = "starter",
    out_dir: Annotated[
        Path, typer.Option("--out", help="Folder for the results; an earlier one is replaced.")
    ] = Path("scantwin-scan"),
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="The same seed gives the same scan.")
    ] = 0,
    steps: Steps = None,
    samples: Samples = None,
    threads: Threads = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Scan a CT with a virtual PET scanner. SYNTHETIC, NOT FOR DIAGNOSIS.

    \b
    scantwin scan ct.nii.gz
    scantwin scan ct.nii.gz --model model/ --out scan/
    scantwin scan ct.nii.gz --model starter-diffusion --steps 2 --samples 1 --out scan/
    """
    from scantwin.imaging.reading import read_ct_and_header
    from scantwin.systems import scanner_for
    from scantwin.translation.choosing import choose_model
    from scantwin.translation.outputs import write_scan
    from scantwin.translation.variants import as_asked, sampling_of, sampling_warning

    require_ours(out_dir, "pet.nii.gz", ct, *([Path(model)] if Path(model).is_dir() else []))
    chosen, version = choose_model(model)
    used = as_asked(chosen, steps=steps, samples=samples)
    use_machine(threads, device)
    volume, header = read_ct_and_header(ct)
    with progress_bar("scanning", quiet=as_json) as advance:
        result = scanner_for(used).scan(volume, seed=seed, advance=advance)
    if (warning := sampling_warning(chosen, used)) is not None:
        result.warnings.append(warning)
    said = write_scan(result, volume, used, version, out_dir, seed=seed, like=header)
    said["sampling"] = sampling_of(used.recipe)
    emit(said, as_json, lambda: _people(said))


def _people(said: dict[str, Any]) -> None:
    table = Table("what", "where", title=NOTICE, title_style="bold red")
    for name in ("pet_nifti", "std_nifti", "pet_dicom", "manifest"):
        table.add_row(name.replace("_", " "), said[name])
    for picture in said["pictures"]:
        table.add_row("picture", picture)
    out.print(table)
    out.print(f"{sum(said['seconds'].values()):.1f} s with {said['model_version']}")
    for warning in said["warnings"]:
        err.print(f"[yellow]warning:[/yellow] {escape(warning)}")
