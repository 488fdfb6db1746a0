"""`scantwin generate volumes`: whole CT volumes from noise alone, or guided by masks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scantwin.cli.machine_options import Device, Threads, use_machine
from scantwin.errors import InputError
from scantwin.files import require_apart
from scantwin.terminal import LARGEST_SEED, Json, emit, out, progress_bar

if TYPE_CHECKING:
    from scantwin.generation.volumes import LowResource3D
    from scantwin.imaging.study import District


def volumes(
    model: Annotated[str, typer.Option(help="A low-resource-3d model: folder, version or name.")],
    out_dir: Annotated[
        Path, typer.Option("--out", help="Folder of the data set; volumes already there are kept.")
    ],
    count: Annotated[
        int | None, typer.Option(min=1, help="Volumes to make (default 4, or one for each mask).")
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(help="Organ label maps (NIfTI) that the volumes follow: a file or a folder."),
    ] = None,
    mapping: Annotated[
        str | None, typer.Option(help="Whose label numbers the masks have: phantom, totalsegmentator-total.")
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            help="Voxels of the model's size as z,y,x, such as 220,40,64 (default: like the training's)."
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Network evaluations of a volume (default: the recipe's).")
    ] = None,
    district: Annotated[str | None, typer.Option(help="Only whole-body models exist.")] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="The same seed gives the same volumes.")
    ] = 0,
    threads: Threads = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Generate whole CT volumes in absolute HU, with their masks. SYNTHETIC, NOT FOR DIAGNOSIS.

    Without --masks they are made from noise alone; with --masks each follows a label map. For 512 x 512 x
    256 voxels the networks took under 2 GB of memory on a CPU (reading masks and writing not measured).
    Run it again after an interruption and it continues.

    \b
    scantwin generate volumes --model volumes/ --out made/ --count 8
    scantwin generate volumes --model volumes/ --out made/ --masks labels/ --mapping totalsegmentator-total
    scantwin generate volumes --model volumes/ --out made/ --masks study/truth/organs.nii.gz
    """
    from scantwin.cli.generate_orders import made_with
    from scantwin.generation.volumes_data import VolumesOrder, make_volumes
    from scantwin.generation.volumes_masks import find_masks

    use_machine(threads, device)
    system, version = volumes_model(model)
    if masks and shape:
        raise InputError("A mask has a shape of its own.", hint="Leave out --shape.")
    if mapping and not masks:
        raise InputError("--mapping tells of masks.", hint="Give --masks, or leave it out.")
    read = (Path(model) if Path(model).is_dir() else None, masks)
    require_apart(out_dir, *(path for path in read if path))
    found = find_masks(masks, mapping) if masks else ()
    order = VolumesOrder(
        count or len(found) or 4, _district(system, district), seed, _shape(shape), found, steps,
        made_with(model, version),
    )  # fmt: skip
    if steps and steps > system.rules.steps:
        raise InputError(f"The model knows {system.rules.steps} noise levels.", hint="Give fewer --steps.")
    with progress_bar("making volumes", quiet=as_json) as advance:
        said = make_volumes(system, order, out_dir, advance=advance)
    emit(said, as_json, lambda: _people(said))


def volumes_model(text: str) -> tuple[LowResource3D, str]:
    """The system of a low-resource-3d model and its version. Raises `InputError` for another model."""
    from scantwin.generation.volumes import LowResource3D
    from scantwin.systems import restore
    from scantwin.translation.choosing import choose_model

    chosen, version = choose_model(text)
    system = restore(chosen) if chosen.recipe.system == "low-resource-3d" else None
    if not isinstance(system, LowResource3D):
        raise InputError(
            f"{text} is a {chosen.recipe.system} model, which makes no whole volumes.",
            hint="Train one with scantwin train --recipe low-resource-3d.",
        )
    return system, version


def _district(system: LowResource3D, text: str | None) -> District:
    known = system.recipe.districts
    if text is None:
        return "whole-body" if "whole-body" in known else known[0]
    if text not in known:
        raise InputError(f"This model has no {text}.", hint=f"It has {', '.join(known)}.")
    return text


def _shape(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    sides = [side.strip() for side in text.replace("x", ",").split(",")]
    # Not isdigit, which accepts superscripts; and int() refuses thousands of digits.
    if len(sides) != 3 or not all(re.fullmatch(r"0*[1-9][0-9]{0,8}", side) for side in sides):
        raise InputError(f"{text!r} is no shape.", hint="Write voxels z,y,x, such as 256,512,512.")
    z, y, x = (int(side) for side in sides)
    return z, y, x


def _people(said: dict[str, Any]) -> None:
    out.print(f"[bold red]{said['notice']}[/bold red]")
    how = f"after {said['masks']} masks" if said["masks"] else "from noise alone"
    out.print(f"[bold]{said['out']}[/bold]: {said['volumes']} volumes {how}, {said['seconds']:.0f} s")
