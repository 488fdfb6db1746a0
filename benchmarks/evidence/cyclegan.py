"""Pix2Pix against CycleGAN, which is shown CTs and PETs of different patients."""

from __future__ import annotations

from benchmarks.evidence import tables
from benchmarks.evidence.findings import Findings, Setting, Workshop
from benchmarks.evidence.measuring import Measurer, Standing
from benchmarks.evidence.pictures import projections
from benchmarks.evidence.settings import translation_recipe

from scantwin.learning.recipe import Recipe
from scantwin.terminal import Advance

RECIPES = ("pix2pix", "cyclegan")

TRIED = (
    "quick setting, 160 steps, before docs/decisions/0009; error over the HU curve's in lesions and in the "
    "whole body. Adversarial term 1: 1.065 and 1.15; with identity twice as strong: 1.055 and 1.12; with "
    "cycle half as strong: 1.114 and 1.20. Adversarial term 0.3: 1.032 and 1.10; with identity twice as "
    "strong: 0.997 and 1.20. Adversarial term 0.1: 1.012 and 1.12",
    "full setting, 3,000 steps. Before docs/decisions/0009, which explains it and compares alternatives: "
    "0.998 of the curve's error in lesions, 1.66 of it in the whole body, with hot bones. After it: 1.074 "
    "and 1.082, pale. With what is usual at a place (docs/decisions/0010), while that was still learnt "
    "slowly: 1.047 and 0.858",
    "with medians at each place instead of means (docs/decisions/0010, Later): 1.034 and 0.771",
    "what stands in the way: nothing in an unpaired PET tells how much a lesion in a CT takes up, whereas "
    "the curve is measured on pairs",
)
"""What was tried, with one training each."""


def run(setting: Setting, workshop: Workshop, advance: Advance) -> Findings:
    """Train both for the same steps; in the quick setting CycleGAN for half, since its patches cost more."""
    recipes = {name: translation_recipe(setting, name) for name in ("pix2pix", "cyclegan")}
    steps = {"pix2pix": setting.steps, "cyclegan": setting.pick(setting.steps // 2, setting.steps)}
    measurer = Measurer.of(setting, workshop, recipes["pix2pix"], advance)
    models = {name: workshop.trained(r, steps=steps[name], advance=advance) for name, r in recipes.items()}
    who = {name: measurer.model(model, advance=advance) for name, model in models.items()}
    references = measurer.references()
    seconds = {name: model.record["seconds"] for name, model in models.items()}
    worse = [r for r in tables.REGIONS if who["cyclegan"].mean(r, "mae") >= who["pix2pix"].mean(r, "mae")]
    conditions = sorted(who["pix2pix"].patients_with)
    behind = [c for c in conditions if _of(who, "cyclegan", c) >= _of(who, "pix2pix", c)]
    text = (
        f"Pix2Pix after {steps['pix2pix']} steps ({seconds['pix2pix']:.0f} s), CycleGAN after "
        f"{steps['cyclegan']} ({seconds['cyclegan']:.0f} s), with {_batches(recipes)} patches per step, "
        "since two generators and two discriminators make a patch more expensive. Pix2Pix sees the CT and "
        "the PET of a patient together; CycleGAN sees a CT of one patient and a PET of another. Every "
        "patient here has both, though they are never shown together: the districts of a PET and the depth "
        "below the skin come from its own CT, which is not shown. A site whose CTs and PETs are of "
        "different patients trains the whole-body networks only (docs/translation.md, Districts).\n\n"
        "Published: Pix2Pix is better than CycleGAN in every district, in lesions and in every condition. "
        f"Here Pix2Pix has the smaller MAE in {len(worse)} of {len(tables.REGIONS)} regions "
        f"({', '.join(worse)}) and in {len(behind)} of {len(conditions)} conditions ({', '.join(behind)}). "
        f"The Frechet distance of CycleGAN's PETs over that of Pix2Pix's is {_times(who)}.\n\n"
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


def _of(who: dict[str, Standing], name: str, condition: str) -> float:
    """MAE [SUV] in the whole body, over the patients with `condition`."""
    found = who[name].under(condition, "mae")
    return found.mean if found else float("nan")


def _batches(recipes: dict[str, Recipe]) -> str:
    return " and ".join(str(recipe.optimisation.patches) for recipe in recipes.values())


def _times(who: dict[str, Standing]) -> str:
    value = tables.ratio(who["cyclegan"].distance, who["pix2pix"].distance)
    return "unknown" if value is None else f"{value:.2f}"
