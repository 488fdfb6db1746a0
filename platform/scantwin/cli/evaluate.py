"""`scantwin evaluate`: a model against the real PET of studies it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from scantwin import NOTICE
from scantwin.errors import InputError, Rejection
from scantwin.terminal import Json, emit, out, progress_bar, say_rejection

if TYPE_CHECKING:
    from scantwin.imaging.volume import Volume


def evaluate(
    model: Annotated[str, typer.Option(help="Model folder, or a version or name of the registry.")],
    data: Annotated[Path, typer.Option(help="Folder of studies with CT and PET (DICOM or NIfTI).")],
    extractor: Annotated[
        Path | None,
        typer.Option(help="ResNet-50 weights (safetensors) for an FID; else an FD of ScanTwin's features."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads (default: all).")] = None,
    as_json: Json = False,
) -> None:
    """Measure a model on studies with a known PET, beside the simple references of its training data.

    \b
    scantwin evaluate --model model/ --data held-out/
    scantwin evaluate --model model/ --data held-out/ --extractor radimagenet-resnet50.safetensors
    """
    from scantwin.evaluation.pretrained_features import PretrainedFeatures
    from scantwin.evaluation.report import evaluate_studies
    from scantwin.imaging.reading import find_studies, read_study
    from scantwin.learning.machine import use_threads
    from scantwin.learning.prepared import prepare
    from scantwin.systems import scanner_for
    from scantwin.translation.choosing import choose_model

    chosen, version = choose_model(model)
    features = None if extractor is None else PretrainedFeatures(extractor)
    use_threads(threads)
    studies, folders = [], {}
    sources = find_studies(data)
    with progress_bar("reading", quiet=as_json) as advance:
        for number, source in enumerate(sources):
            advance(number, len(sources))
            try:
                study = read_study(source)
                if study.pet is not None:
                    studies.append(prepare(study, chosen.recipe.spacing_mm))
                    folders[study.name] = source.path
            except Rejection as rejection:
                say_rejection(rejection)
    if not studies:
        raise InputError(f"No study in {data} has both a CT and a PET.", hint="Measuring needs both.")
    with progress_bar("measuring", quiet=as_json) as advance:
        report = evaluate_studies(
            scanner_for(chosen), studies, chosen.statistics or None,
            organs=lambda name: known_organs(folders[name]), extractor=features, advance=advance,
        )  # fmt: skip
    said = {"notice": NOTICE, "model_version": version, **report}
    emit(said, as_json, lambda: _people(said))


def known_organs(folder: Path) -> tuple[Volume, dict[str, int]] | None:
    """The organs of a phantom's folder (`truth/organs.nii.gz`); None for a patient."""
    from scantwin.imaging.nifti import read_nifti
    from scantwin.phantoms.tissues import ORGANS

    path = folder / "truth" / "organs.nii.gz"
    return (read_nifti(path, "label"), dict(ORGANS)) if path.is_file() else None


def _people(said: dict[str, Any]) -> None:
    title = f"{said['n']} patients, SUV 0-20, in the body"
    table = Table("who", "region", "MAE [SUV]", "bias [SUV]", "PSNR [dB]", "SSIM", title=title)
    for who, figures in {"model": said, **said["references"]}.items():
        rows = {"whole body": figures["whole_body"], **figures["districts"]}
        for region, values in rows.items():
            cells = (
                f"{values[m]['mean']:{sign}.3f} ± {values[m]['sd']:.3f}" if m in values else ""
                for m, sign in (("mae", ""), ("bias", "+"), ("psnr", ""), ("ssim", ""))
            )
            table.add_row(who, region, *cells)
        lesions = figures["lesions"]
        if lesions["n"]:
            table.add_row(who, "lesions", f"{lesions['mae']:.3f}", f"{lesions['suvmean_bias']:+.3f}")
    out.print(table)
    if (verdict := _verdict(said)) is not None:
        out.print(verdict)
    lesions = said["lesions"]
    if lesions["n"]:
        sensitivity = lesions["sensitivity"]
        out.print(
            f"{lesions['n']} lesions: MAE {lesions['mae']:.2f}, "
            f"SUVpeak error {lesions['suvpeak_error']:.2f} SUV, {lesions['inside_limits']:.0%} inside "
            f"-25/+33 %, {sensitivity['value']:.0%} found at SUV {sensitivity['threshold']}"
        )
    if (covered := said["uncertainty"]["coverage"]) is not None:
        out.print(f"{said['uncertainty']['interval']:.0%} intervals hold {covered['mean']:.0%} of voxels")
    distances = said["frechet"]
    if distances["model"] is not None:
        out.print(
            f"{distances['figure']} {distances['model']:.4f} "
            f"({distances['extractor']}, {distances['planes']})"
        )


def _verdict(said: dict[str, Any]) -> str | None:
    """Whether the model beats what is hard to beat: the median in the body and the HU curve in lesions."""
    references = said["references"]
    if not {"training-median", "hu-curve"} <= set(references):
        return None
    body = said["whole_body"]["mae"]["mean"] / references["training-median"]["whole_body"]["mae"]["mean"]
    text = f"In the body its error is {body:.0%} of the training median's"
    if said["lesions"]["n"]:
        lesions = said["lesions"]["mae"] / references["hu-curve"]["lesions"]["mae"]
        text += f", in lesions {lesions:.0%} of the HU curve's"
    return f"{text}."
