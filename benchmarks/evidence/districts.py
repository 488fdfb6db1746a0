"""District models against one whole-body model with the same training budget in all (arXiv 2503.15555)."""

from __future__ import annotations

from benchmarks.evidence import plain_unet, tables
from benchmarks.evidence.findings import Aim, Findings, Setting, Spread, Table, Workshop
from benchmarks.evidence.measuring import Measurer, Standing
from benchmarks.evidence.pictures import projections
from benchmarks.evidence.settings import PLAIN_UNET, translation_recipe

from scantwin.imaging.study import DISTRICTS
from scantwin.terminal import Advance

RECIPES = ("pix2pix",)

TRIED = (
    "full setting, as it was before docs/decisions/0012 (networks whose deeper levels hardly contributed, "
    "nodes that weighed a hundred times as much): 1.001 of the plain U-Net's error in the whole body, 0.905 "
    "in lesions; with mirrored trunks as well: 1.005 and 0.914",
    "the trunk alone, measured on eight patients of the training cohort, 1,500 steps, one training each; "
    "MAE in the trunk and in lesions relative to what is shipped. A node's voxel weighing at most twenty "
    "times as much: 1.03 and 0.99; a hundred times: 1.07 and 0.98; three times: 1.00 and 1.00",
)
"""What was tried."""


def run(setting: Setting, workshop: Workshop, advance: Advance) -> Findings:
    """Train both on the same number of patches, measure both on the same patients."""
    recipe = translation_recipe(setting, "pix2pix")
    whole = translation_recipe(setting, "pix2pix", districts=["whole-body"], shares={})
    measurer = Measurer.of(setting, workshop, recipe, advance)
    models = {
        "district": workshop.trained(recipe, steps=setting.steps, advance=advance),
        "whole-body": workshop.trained(whole, steps=setting.steps, advance=advance),
    }
    who = {name: measurer.model(model, advance=advance) for name, model in models.items()}
    seconds = {name: model.record["seconds"] for name, model in models.items()}
    plain = plain_unet.standing(setting, workshop, measurer, seconds["district"])
    references = {**measurer.references(), PLAIN_UNET: plain}
    aims = []
    for district in DISTRICTS[:-1]:
        over = tables.against(who["district"], who["whole-body"], district)
        words = f"MAE of the district model in the {district} over the whole-body model's: below 1"
        aims.append(Aim.below(f"district-beats-whole-body/{district}", over, 1.0, words))
    picture = projections(
        workshop, measurer, "districts.png",
        {name: measurer.scans(model) for name, model in models.items()}, "District and whole-body Pix2Pix",
    )  # fmt: skip
    text = (
        f"Pix2Pix, {setting.steps} training steps of {recipe.optimisation.batch} patches of "
        f"{recipe.patch}^3 voxels either way: divided among four district models (the trunk gets three "
        f"steps of six), or all for one whole-body model. Trained on {setting.training} phantom patients of "
        f"three sites, measured on {setting.held_out} others. Training took {seconds['district']:.0f} s for "
        f"the districts and {seconds['whole-body']:.0f} s for the whole body. The {PLAIN_UNET} (MONAI's, "
        "instance normalisation, CT alone, L1) was trained for as long as the district models; it scans in "
        "windows of the size of a patch that overlap by a quarter, each normalised on its own.\n\n"
        "Published (1,014 real FDG-PET/CT scans; other voxels and another SUV scale, so not comparable): "
        "MAE 0.011 ± 0.006 for districts against 0.020 ± 0.005 for one whole-body GAN, PSNR 31.43 against "
        f"28.50 dB. Here {_verdict(who)} {_elsewhere(who)}\n\n"
        + tables.where_behind("The district model", who["district"], references)
    )
    return Findings(
        "District models and one whole-body model",
        text,
        (
            tables.quality("District and whole-body Pix2Pix, by region", {**who, **references}),
            _differences(who),
            tables.conditions("By condition, whole body", {**who, **references}),
            tables.uptake("In lesions", {**who, **references}, measurer.extractor.name),
        ),
        (picture,),
        (
            *aims,
            *tables.beats_references("pix2pix", who["district"], references, *TRIED, *tables.LESIONS_TRIED),
        ),
        {"seconds": seconds},
    )


def _differences(who: dict[str, Standing]) -> Table:
    """What the district model gains, patient by patient."""
    rows = []
    for region in ("whole-body", *DISTRICTS[:-1]):
        pairs = zip(
            *(who[name].tally.regions[region]["mae"] for name in ("district", "whole-body")), strict=True
        )
        gains = [whole - own for own, whole in pairs]
        rows.append((region, Spread.of(gains), sum(gain > 0 for gain in gains)))
    return Table(
        "Gain of the district model, patient by patient", ("region", "MAE lower by [SUV]", "patients better"),
        tuple(rows), "Mean ± SD over patients (n), and for how many the district model has the smaller MAE.",
    )  # fmt: skip


def _verdict(who: dict[str, Standing]) -> str:
    better = [d for d in DISTRICTS[:-1] if who["district"].mean(d, "mae") < who["whole-body"].mean(d, "mae")]
    if len(better) == len(DISTRICTS) - 1:
        return "the district models are better in every district, as published."
    if not better:
        return (
            "the whole-body model is better everywhere. Its one network sees every patch of the budget, a "
            "district's network only its share, and this budget is small compared with the published one."
        )
    worse = [d for d in DISTRICTS[:-1] if d not in better]
    return (
        f"the district models are better in {', '.join(better)}, but not in {', '.join(worse)}. A "
        "district's network sees only its share of the patches, which tells when the budget is small."
    )


def _elsewhere(who: dict[str, Standing]) -> str:
    """What the aims do not ask for: lesions, and the realism of whole images."""
    figures = {
        "MAE in lesions": lambda one: one.mean("lesions", "mae"),
        "SUVmax error": lambda one: one.lesion_mean("suvmax_error"),
        "Frechet distance": lambda one: one.distance,
    }
    said = []
    for name, figure in figures.items():
        ratio = tables.ratio(figure(who["district"]), figure(who["whole-body"]))
        if ratio is not None:
            said.append(f"{name} {ratio:.3f}")
    why = ""
    if who["district"].mean("lesions", "mae") > who["whole-body"].mean("lesions", "mae"):
        why = " That model has learnt from every lesion of the budget, whichever district it lay in."
    return f"The district models' figures relative to the whole-body model's: {', '.join(said)}.{why}"
