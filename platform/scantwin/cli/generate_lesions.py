"""`scantwin generate lesions`: a labelled data set of CTs with synthetic tumours."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from scantwin.cli.machine_options import Device, Threads, use_machine
from scantwin.errors import InputError, Rejection
from scantwin.files import require_apart
from scantwin.terminal import LARGEST_SEED, Json, emit, err, out, progress_bar, say_rejection

if TYPE_CHECKING:
    from scantwin.generation.inpainting import CTInpainting, Method
    from scantwin.generation.lesion_data import Masks
    from scantwin.generation.lesion_sources import FromPatients
    from scantwin.generation.scene import Scene
    from scantwin.imaging.dicom_files import FileRef
    from scantwin.imaging.reading import StudySource
    from scantwin.learning.weights import Model


def lesions(
    data: Annotated[Path, typer.Argument(help="CTs: a folder of studies, or one CT.")],
    model: Annotated[str, typer.Option(help="A ct-inpainting model: folder, version or name.")],
    out_dir: Annotated[
        Path, typer.Option("--out", help="Folder of the data set; cases already there are kept.")
    ],
    count: Annotated[int, typer.Option(min=1, help="Cases to make.")] = 10,
    balance: Annotated[
        str | None,
        typer.Option(
            help="Lesions by organ, as lung=2,liver=1,none=1; any other word lists them (default: lung=1)."
        ),
    ] = None,
    per_case: Annotated[int, typer.Option(min=1, max=20, help="Lesions per case.")] = 1,
    masks: Annotated[
        str,
        typer.Option(
            help="Shapes: sampled, patients (other patients' lesions), or a drawn mask's NIfTI file."
        ),
    ] = "sampled",
    masks_from: Annotated[
        Path | None,
        typer.Option(help="Folder of studies whose lesions --masks patients takes (default: the CTs' own)."),
    ] = None,
    method: Annotated[str, typer.Option(help="diffusion or pix2pix.")] = "diffusion",
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="The same seed gives the same data set.")
    ] = 0,
    threads: Threads = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Insert synthetic tumours into real CTs, with labels, in the number and organs asked for. SYNTHETIC.

    Organs come from labels (organs.nii.gz beside a CT); without labels, lung, bone, fat and soft tissue are
    told by their CT numbers. `none` is the share of cases without a tumour. With --masks patients, no CT gets
    the shape of its own patient's lesion. Run it again after an interruption and it continues.

    \b
    scantwin generate lesions studies/ --model inpainting/ --out made/ --count 20 --balance lung=2,liver=1
    scantwin generate lesions ct.nii.gz --model inpainting/ --out made/ --masks drawn.nii.gz --count 3
    scantwin generate lesions ct.nii.gz --model inpainting/ --out made/ --masks patients --masks-from studies/
    """
    from scantwin.cli.generate_orders import after_drawing, made_of, made_with
    from scantwin.generation.lesion_data import make_lesion_data
    from scantwin.generation.lesion_orders import DRAWN, Order
    from scantwin.imaging.reading import find_studies

    use_machine(threads, device)
    system, version = inpainting_model(model)
    sources = find_studies(data)
    drawing = Path(masks) if masks not in ("sampled", "patients") else None
    if drawing and not drawing.is_file():
        raise InputError(f"There is no mask {drawing}.", hint="--masks sampled, patients, or a NIfTI file.")
    if drawing and balance:
        raise InputError("A drawn mask says where lesions go.", hint="Leave out --balance.")
    if drawing and len(sources) > 1:
        raise InputError(
            f"{data} holds {len(sources)} CTs, but a mask is drawn on one.", hint="Give that one."
        )
    read = (data, Path(model) if Path(model).is_dir() else None, drawing, masks_from)
    require_apart(out_dir, *(path for path in read if path))
    if masks_from and masks != "patients":
        raise InputError("--masks-from tells whose lesions --masks patients takes.", hint="Give both.")
    donors = _donors(sources, masks_from)
    order = Order(
        count=count, balance={DRAWN: 1.0} if drawing else parse_balance(balance or "lung=1"),
        per_case=per_case, method=chosen_method(system, method), seed=seed,
        asked={
            **made_with(model, version), **made_of(sources), "masks": DRAWN if drawing else masks,
            **(after_drawing(drawing) if drawing else {}),
            **({"masks_sha256": made_of(donors)["data_sha256"]} if masks_from else {}),
        },
    )  # fmt: skip
    with progress_bar("making cases", quiet=as_json) as advance:
        said = make_lesion_data(
            system, _scenes(sources), _masks(masks, drawing, sources, donors), order, out_dir,
            refused=say_rejection, advance=advance,
        )  # fmt: skip
    emit(said, as_json, lambda: _people(said))


def inpainting_model(text: str) -> tuple[CTInpainting, str]:
    """The system of a ct-inpainting model and its version. Raises `InputError` for another model."""
    from scantwin.generation.inpainting import CTInpainting
    from scantwin.systems import restore
    from scantwin.translation.choosing import choose_model

    chosen: Model
    chosen, version = choose_model(text)
    system = restore(chosen) if chosen.recipe.system == "ct-inpainting" else None
    if not isinstance(system, CTInpainting):
        raise InputError(
            f"{text} is a {chosen.recipe.system} model, which inserts nothing into a CT.",
            hint="Train one with scantwin train --recipe ct-inpainting.",
        )
    return system, version


def chosen_method(system: CTInpainting, text: str) -> Any:
    """The method, if the model has it and has learnt it. Raises `InputError` otherwise."""
    known = system.methods(system.district)
    if text not in known:
        raise InputError(f"This model cannot paint by {text}.", hint=f"It can by {' and '.join(known)}.")
    learnt = [method for method in known if system.learnt(system.district, method)]
    if text not in learnt:
        # It would paint anyway: noise, or what lies around the region.
        raise InputError(f"This model has not learnt to paint by {text}.", hint=_way_out(system, learnt))
    return text


def _way_out(system: CTInpainting, learnt: list[Method]) -> str:
    """What to do if a method has not been learnt; `learnt` are those that have."""
    if not learnt:
        return "None of its networks has: choose a trained version (scantwin models list), or train it."
    other = f"Give --method {learnt[0]}, which has"
    if not system.recipe.losses.denoising:
        return f"{other}; its recipe has losses.denoising = 0, with which no diffusion learns."
    return f"{other}, or train longer (inpainting.painter_share says when the diffusion begins to learn)."


def parse_balance(text: str) -> Any:
    """lung=2,liver=1 -> {"lung": 2.0, "liver": 1.0}. Refuses `drawn`: a drawn mask needs no balance."""
    from scantwin.generation.lesion_orders import DRAWN

    shares: dict[str, float] = {}
    for part in text.split(","):
        name, sign, share = part.strip().partition("=")
        try:
            shares[name] = float(share) if sign else 1.0
        except ValueError:
            raise InputError(f"{part!r} is no share.", hint="Write --balance lung=2,liver=1.") from None
    if DRAWN in shares:
        raise InputError("Nothing is drawn.", hint="--masks takes a drawn mask; it needs no --balance.")
    return shares


def _scenes(sources: list[StudySource]) -> list[Callable[[], Scene]]:
    from scantwin.generation.scene import Scene
    from scantwin.imaging.reading import read_study

    def read(source: StudySource) -> Scene:
        return Scene.of(read_study(source, with_pet=False))

    return [partial(read, source) for source in sources]


def _donors(sources: list[StudySource], masks_from: Path | None) -> list[StudySource]:
    """The studies whose lesions may be used: the CTs' own, or those of other patients in another folder."""
    from scantwin.imaging.reading import find_studies

    if masks_from is None:
        return sources
    found = find_studies(masks_from)
    # A CT given as a file, or copied, may not say whose it is.
    own = {patient_of(source) for source in [*sources, *_of_same_cts(found, sources)]}
    donors = [source for source in found if patient_of(source) not in own]
    if not donors:
        raise InputError(
            f"All {len(found)} studies of {masks_from} are of patients whose CTs are to get lesions.",
            hint="Leave out --masks-from to share lesions among them.",
        )
    return donors


def _of_same_cts(donors: list[StudySource], sources: list[StudySource]) -> list[StudySource]:
    """The donors that have a CT file of `sources`, or a copy of one."""
    own = [ref for source in sources for ref in _ct_files(source)]
    sizes = {ref.size for ref in own}
    alike = [(donor, ref) for donor in donors for ref in _ct_files(donor) if ref.size in sizes]
    contents = {_content(ref) for ref in own} if alike else set()
    return [donor for donor, ref in alike if _content(ref) in contents]


def _ct_files(source: StudySource) -> list[FileRef]:
    """The CT of a study of image files; none for DICOM series, whose headers say whose they are."""
    from scantwin.imaging.study_files import is_ct

    if source.kind == "image":
        return list(source.files)
    return [ref for ref in source.files if source.kind == "nifti" and is_ct(ref.name)]


def _content(ref: FileRef) -> bytes:
    with ref.open() as stream:
        return hashlib.sha256(stream.read()).digest()


def patient_of(source: StudySource) -> str:
    """The study's patient, the same in every folder; a study that names none is a patient of its own."""
    return source.patient or (
        source.key if source.kind == "dicom" else f"{source.path.resolve()}/{source.place}"
    )


def _masks(masks: str, drawing: Path | None, sources: list[StudySource], donors: list[StudySource]) -> Masks:
    from scantwin.generation.label_maps import check_labels
    from scantwin.generation.lesion_sources import Drawn, Sampled
    from scantwin.imaging.nifti import read_nifti

    if masks == "sampled":
        return Sampled()
    if drawing:
        mask = read_nifti(drawing, "label").canonical()
        check_labels(mask, drawing)
        return Drawn(mask)
    return _from_patients(sources, donors)


def _from_patients(sources: list[StudySource], donors: list[StudySource]) -> FromPatients:
    """The donors' lesions. Reports the CTs that cannot get one, since all are their own patient's."""
    from scantwin.generation.lesion_masks import shapes_of
    from scantwin.generation.lesion_sources import FromPatients
    from scantwin.imaging.reading import read_study

    shapes, patients = [], defaultdict(set)
    for source in donors:
        try:
            study = read_study(source, with_pet=False)
        except Rejection as rejection:
            say_rejection(rejection)
            continue
        patients[study.name].add(patient_of(source))
        if study.lesions is not None:
            shapes += shapes_of(study.name, study.lesions, patient_of(source))
    if not patients:
        raise InputError(
            f"None of the {len(donors)} studies can be used.", hint="What is wrong with each is said above."
        )
    masks = FromPatients(shapes, patients if donors is sources else {})
    for name in masks.patients:
        if not masks.others(name):
            err.print(f"[yellow]left out:[/yellow] {escape(name)} gets no lesion: no other patient has one.")
    return masks


def _people(said: dict[str, Any]) -> None:
    out.print(f"[bold red]{said['notice']}[/bold red]")
    parts = ", ".join(f"{count} in {organ}" for organ, count in said["balance"].items())
    out.print(f"[bold]{said['out']}[/bold]: {said['cases']} cases of {said['cts']} CTs, lesions: {parts}")
