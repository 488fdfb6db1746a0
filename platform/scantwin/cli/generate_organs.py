"""`scantwin generate organs`: regenerates organs of a CT, or what lies around them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from scantwin.cli.machine_options import Device, Threads, use_machine
from scantwin.errors import InputError
from scantwin.files import require_ours
from scantwin.terminal import LARGEST_SEED, Json, emit, finite, out, progress_bar

Where = Literal["inside", "outside"]


def organs(
    ct: Annotated[Path, typer.Argument(help="A CT: NIfTI file, DICOM folder, zip or study folder.")],
    organ: Annotated[
        list[str],
        typer.Option(
            help="An organ class, such as liver, or several as liver,kidney; repeatable. Any other word "
            "lists them."
        ),
    ],
    model: Annotated[str, typer.Option(help="A ct-inpainting model: folder, version or name.")],
    out_dir: Annotated[
        Path, typer.Option("--out", help="Folder for the results; an earlier one is replaced.")
    ],
    where: Annotated[
        str, typer.Option(help="inside the organs, or outside them in a box with margin.")
    ] = "inside",
    margin_mm: Annotated[
        float,
        typer.Option(
            min=5,
            max=60,
            callback=finite,
            help="Margin of the box around the organs, in mm, for --where outside.",
        ),
    ] = 20.0,
    method: Annotated[str, typer.Option(help="diffusion or pix2pix.")] = "diffusion",
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="The same seed gives the same CT.")] = 0,
    threads: Threads = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Regenerate organs of a CT, or what lies around them; the rest stays unchanged. SYNTHETIC.

    \b
    scantwin generate organs study/ --organ liver,kidney --model inpainting/ --out made/
    scantwin generate organs study/ --organ lung --where outside --model inpainting/ --out made/
    """
    from scantwin.cli.generate_lesions import chosen_method, inpainting_model
    from scantwin.generation.organ_cases import make_organs
    from scantwin.generation.scene import Scene
    from scantwin.imaging.organs import ORGAN_CLASSES
    from scantwin.imaging.reading import find_studies, read_study

    if where not in get_args(Where):
        raise InputError(f"--where is inside or outside, not {where}.")
    asked = [name.strip() for text in organ for name in text.split(",")]
    if odd := [name for name in asked if name not in ORGAN_CLASSES]:
        raise InputError(f"There is no organ class {odd[0]}.", hint=f"Known: {', '.join(ORGAN_CLASSES)}.")
    wanted = [name for name in ORGAN_CLASSES if name in asked]
    require_ours(out_dir, "region.nii.gz", ct, *([Path(model)] if Path(model).is_dir() else []))
    use_machine(threads, device)
    system, version = inpainting_model(model)
    painted_by = chosen_method(system, method)
    sources = find_studies(ct)
    if len(sources) > 1:
        raise InputError(f"{ct} holds {len(sources)} studies.", hint="Point to one of them.")
    scene = Scene.of(read_study(sources[0], with_pet=False))
    with progress_bar("painting", quiet=as_json) as advance:
        said = make_organs(
            system, scene, wanted, out_dir, outside_mm=margin_mm if where == "outside" else None,
            method=painted_by, seed=seed, model_version=version, advance=advance,
        )  # fmt: skip
    emit(said, as_json, lambda: _people(said))


def _people(said: dict[str, Any]) -> None:
    out.print(f"[bold red]{said['notice']}[/bold red]")
    out.print(f"[bold]{said['out']}[/bold]: {said['volume_ml']:.0f} ml made anew")
