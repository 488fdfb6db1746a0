"""Pix2Pix against CycleGAN, which is shown CTs and PETs of different patients."""

from __future__ import annotations

from benchmarks.evidence import tables
from benchmarks.evidence.findings import Findings, Setting, Workshop
from benchmarks.evidence.measuring import Measurer, Standing
from benchmarks.evidence.pictures import projections
from benchmarks.evidence.settings import translation_recipe

from scantwin.terminal import Advance

RECIPES = ("pix2pix", "cyclegan")

TRIED = (
    "quick setting, 160 steps: an adversarial term of 1 (before): 1.065 of the HU curve's error in "
    "lesions, 1.15 of it in the whole body, Frechet distance 0.00008; of 0.3 (shipped) 1.032, 1.10, "
    "0.00013; of 0.1 1.012, 1.12, 0.00015",
    "quick setting, with a term of 1: identity twice as strong 1.055, 1.12; cycle half as strong 1.114, "
    "1.20; twice the learning rate 1.054, 1.21",
    "quick setting, an adversarial term of 0.3 and identity twice as strong: 0.997 in lesions at 1.20 in "
    "the whole body, 0.10 SUV too warm there: not shipped",
    "3,000 steps instead of 160: PETs more like true ones than Pix2Pix's (0.70 of its Frechet distance; "
    "at 160 steps they are farther), and less right: 1.66 of the curve's error in the whole body for "
    "1.10. It has learnt that what is dense is hot (bones, in the picture): two critics ask for likeness, "
    "and nobody for the right organ. `scantwin train` chooses the step by the error of held-out patients "
    "who have both; this chapter takes the last",
    "what stands in the way: nothing of an unpaired PET tells what a CT's lesion takes up; the curve is "
    "measured on pairs",
)
"""What was measured, one training each."""


def run(setting: Setting, workshop: Workshop, advance: Advance) -> Findings:
    """Trains both for about the same time: a step of CycleGAN costs about two of Pix2Pix."""
    recipes = {name: translation_recipe(setting, name) for name in ("pix2pix", "cyclegan")}
    steps = {"pix2pix": setting.steps, "cyclegan": setting.pick(setting.steps // 2, setting.steps)}
    measurer = Measurer.of(setting, workshop, recipes["pix2pix"], advance)
    models = {name: workshop.trained(r, steps=steps[name], advance=advance) for name, r in recipes.items()}
    who = {name: measurer.model(model, advance=advance) for name, model in models.items()}
    references = measurer.references()
    seconds = {name: model.record["seconds"] for name, model in models.items()}
    worse = [r for r in tables.REGIONS if who["cyclegan"].mean(r, "mae") >= who["pix2pix"].mean(r, "mae")]
    text = (
        f"Pix2Pix after {steps['pix2pix']} steps ({seconds['pix2pix']:.0f} s), CycleGAN after "
        f"{steps['cyclegan']} ({seconds['cyclegan']:.0f} s): its two generators and two discriminators "
        "make a step dearer. Pix2Pix sees a patient's CT and PET together; CycleGAN a CT of one patient and "
        "a PET of another, all that a site without pairs can give.\n\n"
        "Published: Pix2Pix better than CycleGAN in every district, in lesions and in every condition. Here "
        f"Pix2Pix has the smaller MAE in {len(worse)} of {len(tables.REGIONS)} regions ({', '.join(worse)}); "
        f"the Frechet distance of CycleGAN's PETs is {_times(who)} of Pix2Pix's.\n\n"
        + tables.where_behind("CycleGAN", who["cyclegan"], references)
    )
    picture = projections(
        workshop, measurer, "cyclegan.png",
        {name: measurer.scans(model) for name, model in models.items()}, "Pix2Pix and CycleGAN",
    )  # fmt: skip
    return Findings(
        "Pix2Pix and CycleGAN",
        text,
        (
            tables.quality("By region", {**who, **references}),
            tables.conditions("By condition, whole body", {**who, **references}),
            tables.uptake("In lesions", {**who, **references}, measurer.extractor.name),
        ),
        (picture,),
        tables.beats_references("cyclegan", who["cyclegan"], references, *TRIED),
        {"seconds": seconds},
    )


def _times(who: dict[str, Standing]) -> str:
    value = tables.ratio(who["cyclegan"].distance, who["pix2pix"].distance)
    return "an unknown part" if value is None else f"{value:.2f}"
