"""`scantwin evaluate`: compares a model with the real PET, or CT, of studies it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from scantwin import NOTICE
from scantwin.cli.machine_options import Device, Threads, use_machine
from scantwin.cli.scan import Samples, Steps
from scantwin.errors import InputError, Rejection
from scantwin.terminal import LARGEST_SEED, Advance, Json, emit, err, out, progress_bar, say_rejection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scantwin.evaluation.frechet import Extractor
    from scantwin.imaging.study import Study
    from scantwin.imaging.volume import Volume
    from scantwin.learning.prepared import PreparedStudy
    from scantwin.learning.recipe import Recipe
    from scantwin.learning.weights import Model


def evaluate(
    model: Annotated[str, typer.Option(help="Model folder, or a version or name of the registry.")],
    data: Annotated[
        Path,
        typer.Option(
            help="Folder of studies (DICOM or NIfTI) with CT and PET; CT alone for models that make CT."
        ),
    ],
    extractor: Annotated[
        Path | None,
        typer.Option(
            help="ResNet-50 weights (safetensors) for an FID; without it an FD of ScanTwin's own features."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="The same seed gives the same samples.")
    ] = 0,
    steps: Steps = None,
    samples: Samples = None,
    threads: Threads = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Measure a model on studies with a known PET, beside the simple references from its training data.

    A model that makes CT (ct-inpainting, low-resource-3d) is measured on the studies' CTs: what it
    regenerates against what was there, always with the same draws.

    \b
    scantwin evaluate --model model/ --data held-out/
    scantwin evaluate --model model/ --data held-out/ --extractor radimagenet-resnet50.safetensors
    scantwin evaluate --model diffusion/ --data held-out/ --steps 2 --samples 1 --seed 1
    """
    from scantwin.evaluation.pretrained_features import PretrainedFeatures
    from scantwin.translation.choosing import choose_model
    from scantwin.translation.variants import as_asked

    chosen, version = choose_model(model)
    used = as_asked(chosen, steps=steps, samples=samples)
    about = {"notice": NOTICE, "model_version": version, "system": used.recipe.system}
    use_machine(threads, device)
    if used.recipe.makes_ct:
        if extractor is not None:
            raise InputError(
                f"--extractor is for models that make PET, and {model} makes CT.", hint="Leave it out."
            )
        made = {**about, **_of_ct(used, data, quiet=as_json)}
        emit(made, as_json, lambda: _people_of_ct(made))
        return
    features = None if extractor is None else PretrainedFeatures(extractor)
    said = {**about, **_of_pet(used, data, features, seed, quiet=as_json)}
    emit(said, as_json, lambda: _people(said))


def _of_pet(
    model: Model, data: Path, features: Extractor | None, seed: int, *, quiet: bool
) -> dict[str, Any]:
    from scantwin.evaluation.report import Patient, evaluate_studies
    from scantwin.systems import scanner_for
    from scantwin.translation.variants import sampling_of

    scanner = scanner_for(model)
    left_out: list[str] = []
    with progress_bar("measuring", quiet=quiet) as advance:
        patients = (
            Patient(study, known_organs(folder)) for study, folder in _prepared(data, model.recipe, advance)
        )
        report = evaluate_studies(
            scanner, patients, model.statistics or None, seed=seed, extractor=features,
            left_out=left_out.append,
        )  # fmt: skip
    if left_out:
        err.print(f"[yellow]Left out, not learnt by this model:[/yellow] {escape(', '.join(left_out))}")
    for warning in report["warnings"]:
        err.print(f"[yellow]warning:[/yellow] {escape(warning)}")
    return {"seed": seed, "sampling": sampling_of(model.recipe), **report}


def _of_ct(model: Model, data: Path, *, quiet: bool) -> dict[str, Any]:
    from scantwin.evaluation.report import evaluate_generator
    from scantwin.systems import restore

    system = restore(model)
    with progress_bar("measuring", quiet=quiet) as advance:
        studies = (study for study, _ in _prepared(data, model.recipe, advance))
        return evaluate_generator(system, studies, trained=model.record.get("patches"))


def _prepared(data: Path, recipe: Recipe, advance: Advance) -> Iterator[tuple[PreparedStudy, Path]]:
    """The studies of a folder on which a model of `recipe` can be measured, and their paths.

    Each is read when it is asked for. Raises `InputError` at the end if there was none.
    """
    from scantwin.imaging.reading import find_studies, read_study

    sources, found = find_studies(data), 0
    for number, source in enumerate(sources):
        advance(number, len(sources))
        try:
            study = _measurable(read_study(source, with_pet=not recipe.makes_ct), recipe)
        except Rejection as rejection:
            say_rejection(rejection)
            continue
        if study is not None:
            found += 1
            yield study, source.path
    advance(len(sources), len(sources))
    if not found:
        what = "a CT that can be read" if recipe.makes_ct else "both a CT and a PET"
        needs = "CTs" if recipe.makes_ct else "both"
        raise InputError(f"No study in {data} has {what}.", hint=f"Measuring needs {needs}.")


def _measurable(study: Study, recipe: Recipe) -> PreparedStudy | None:
    """The study as a model of `recipe` sees it; None if there is nothing to compare with."""
    from scantwin.learning.prepared import prepare, prepare_ct

    if recipe.makes_ct:
        return prepare_ct(study, recipe.spacing_mm, districts=recipe.districts != ("whole-body",))
    return None if study.pet is None else prepare(study, recipe.spacing_mm)


def known_organs(folder: Path) -> tuple[Volume, dict[str, int]] | None:
    """`AGREED_ORGANS` of a phantom's folder (`truth/organs.nii.gz`); None for a patient."""
    from scantwin.imaging.nifti import read_nifti
    from scantwin.phantoms.tissues import AGREED_ORGANS, ORGANS

    path = folder / "truth" / "organs.nii.gz"
    organs = {name: ORGANS[name] for name in AGREED_ORGANS}
    return (read_nifti(path, "label"), organs) if path.is_file() else None


def _people(said: dict[str, Any]) -> None:
    title = f"{said['n']} patient{'s' * (said['n'] > 1)}, in the body; PSNR and SSIM over SUV 0-20"
    table = Table("who", "region", "MAE [SUV]", "bias [SUV]", "PSNR [dB]", "SSIM", title=title)
    for who, figures in {"model": said, **said["references"]}.items():
        rows = {"whole body": figures["whole_body"], **figures["districts"]}
        for region, values in rows.items():
            cells = (
                _with_sd(**values[m], form=f"{sign}.3f") if m in values else ""
                for m, sign in (("mae", ""), ("bias", "+"), ("psnr", ""), ("ssim", ""))
            )
            table.add_row(who, region, *cells)
        lesions = figures["lesions"]
        if lesions["n"]:
            table.add_row(
                who, "lesions", _of_lesions(lesions, "mae"), _of_lesions(lesions, "suvmean_bias", "+.3f")
            )
    out.print(table)
    if (verdict := _verdict(said)) is not None:
        out.print(verdict)
    lesions = said["lesions"]
    if lesions["n"]:
        sensitivity = lesions["sensitivity"]
        out.print(
            f"{lesions['n']} lesion{'s' * (lesions['n'] > 1)}: MAE {_of_lesions(lesions, 'mae', '.2f')}, "
            f"SUVpeak error {_of_lesions(lesions, 'suvpeak_error', '.2f')} SUV, "
            f"{lesions['inside_limits']:.0%} inside -25/+33 %, "
            f"{sensitivity['value']:.0%} found at SUV {sensitivity['threshold']}"
        )
    if (organs := said["organs"])["n"]:
        out.print(
            f"{organs['n']} organs in all: {organs['suvmean_inside']:.0%} inside -25/+33 % in "
            f"SUVmean, {organs['inside_limits']:.0%} in SUVpeak as well"
        )
    if (covered := _covered(said["uncertainty"])) is not None:
        out.print(covered)
    distances = said["frechet"]
    if distances["model"] is not None:
        out.print(
            f"{distances['figure']} {distances['model']:.3g} "
            f"({distances['extractor']}, {distances['planes']})"
        )


def _covered(uncertainty: dict[str, Any]) -> str | None:
    """What the intervals hold, where they were stated."""
    of = {"coverage": "voxels", "lesions": "those in lesions", "organ_means": "organ means"}
    shares = [f"{share['mean']:.0%} of {what}" for key, what in of.items() if (share := uncertainty[key])]
    if not shares:
        return None
    listed = " and ".join(filter(None, (", ".join(shares[:-1]), shares[-1])))
    return f"{uncertainty['interval']:.0%} intervals hold {listed}"


def _people_of_ct(said: dict[str, Any]) -> None:
    title = f"{said['n']} patient{'s' * (said['n'] > 1)}; mae and bias in HU, all else without unit"
    table = Table("region", "figure", "mean ± SD", "patients", title=title)
    for region, figures in {"whole body": said["whole_body"], **said["districts"]}.items():
        for name, value in figures.items():
            table.add_row(region, name, _with_sd(**value), f"{value['n']}")
    out.print(table)


def _of_lesions(lesions: dict[str, Any], name: str, form: str = ".3f") -> str:
    return _with_sd(lesions[name], lesions["sd"][name], lesions["n"], form)


def _with_sd(mean: float, sd: float, n: int, form: str = ".3f") -> str:
    """Mean ± SD as text; a single patient or lesion has no spread."""
    return f"{mean:{form}} ± {sd:{form.lstrip('+')}}" if n > 1 else f"{mean:{form}}"


def _verdict(said: dict[str, Any]) -> str | None:
    """How the model compares with what is hard to beat: the median in the body, the HU curve in lesions."""
    references = said["references"]
    if not {"training-median", "hu-curve"} <= set(references):
        return None
    body = said["whole_body"]["mae"]["mean"] / references["training-median"]["whole_body"]["mae"]["mean"]
    text = f"In the body its error is {body:.0%} of the training median's"
    if said["lesions"]["n"]:
        lesions = said["lesions"]["mae"] / references["hu-curve"]["lesions"]["mae"]
        text += f", in lesions {lesions:.0%} of the HU curve's"
    return f"{text}."
