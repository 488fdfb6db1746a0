"""Federated training at three sites against one training in one place: the same time and recipe.

Sites train side by side, each for as many steps as the one place. Here they run in this process, one after
the other, with the consortium's own aggregation; the network between them is tested elsewhere.
"""

from __future__ import annotations

from benchmarks.evidence import tables
from benchmarks.evidence.by_site import by_site
from benchmarks.evidence.findings import Aim, Findings, Setting, Table, Workshop
from benchmarks.evidence.measuring import Measurer
from benchmarks.evidence.settings import translation_recipe
from benchmarks.evidence.workshop import key_of

from scantwin import systems
from scantwin.federation.aggregation import Contribution, aggregate, patches_per_component
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.recipe import Recipe
from scantwin.learning.training import train
from scantwin.learning.weights import Components, Model, load_arrays, system_arrays
from scantwin.terminal import Advance

RECIPES = ("pix2pix",)

_NEAR = 1.10
"""Largest MAE of a federation over that of one training; seeds differ by about half of the excess."""

TRIED = (
    "in the quick setting, earlier: a third of the steps at each of three sites, for the same number of "
    "patches instead of the same time: whole-body MAE 1.102 times that of one place, MAE in lesions 1.050 "
    "times the HU curve's",
)
"""What was tried in the quick setting, with one training."""


def run(setting: Setting, workshop: Workshop, advance: Advance) -> Findings:
    """Train Pix2Pix either way and measure both."""
    recipe = translation_recipe(setting, "pix2pix")
    rounds = setting.pick(4, 20)
    measurer = Measurer.of(setting, workshop, recipe, advance)
    sites = by_site(measurer.training)
    central = workshop.trained(recipe, steps=setting.steps, advance=advance)
    model = federated(setting, workshop, recipe, sites, rounds, advance)
    who = {"one place": measurer.model(central), "three sites": measurer.model(model, advance=advance)}
    references = measurer.references()
    text = (
        f"{rounds} rounds of {setting.steps // rounds} steps at each of {len(sites)} sites "
        f"({_counts(sites)} patients; scanners that differ in blur, noise and CT numbers), against "
        f"{setting.steps} steps on all patients in one place. Sites train side by side, so the federation "
        f"takes the same time and sees {len(sites)} times as many patches. The rounds were run in one "
        "process with the consortium's aggregation; the network between sites is not measured here. Tried "
        f"{TRIED[0]}.\n\n" + tables.where_behind("The three sites' model", who["three sites"], references)
    )
    over = tables.against(who["three sites"], who["one place"], "whole-body")
    words = f"whole-body MAE of three sites over that of one place: at most {_NEAR} (our own aim)"
    rows = tuple((site, len(studies)) for site, studies in sites.items())
    return Findings(
        "Federated and central training", text,
        (
            tables.quality("By region", {**who, **references}),
            tables.uptake("In lesions", {**who, **references}, measurer.extractor.name),
            Table("Sites", ("site", "training patients"), rows),
        ),
        aims=(
            Aim.at_most("federated/mae", over, _NEAR, words, *TRIED),
            *tables.beats_references("federated-pix2pix", who["three sites"], references),
        ),
    )  # fmt: skip


def federated(
    setting: Setting, workshop: Workshop, recipe: Recipe, sites: dict[str, list[PreparedStudy]], rounds: int,
    advance: Advance,
) -> Model:  # fmt: skip
    """The model after `rounds` rounds; kept on disk, as trained models are."""
    steps = max(setting.steps // rounds, 1)
    names = {site: [s.name for s in studies] for site, studies in sites.items()}
    key = key_of(recipe.model_dump(mode="json"), steps, rounds, setting.seed, setting.spacing_mm, names)
    folder = workshop.folder / "models" / f"federated-{key}"
    if (folder / "model.json").is_file():
        return Model.load(folder)
    weights = system_arrays(systems.build(recipe, seed=setting.seed))
    patches: dict[str, int] = {}
    for number in range(rounds):
        replies = []
        for place, (site, studies) in enumerate(sites.items()):
            advance(number + place / len(sites), rounds, f"round {number + 1}, {site}")
            seed = setting.seed + 1000 * number + place
            span = (number / rounds, (number + 1) / rounds)
            replies.append(_take_part(recipe, weights, site, studies, steps, seed, span))
        weights = aggregate(weights, replies)
        for name, count in patches_per_component(replies).items():
            patches[name] = patches.get(name, 0) + count
    model = Model(recipe, weights, {"rounds": rounds, "steps": steps, "patches": patches, "sites": names})
    model.save(folder)
    return model


def _take_part(
    recipe: Recipe, weights: Components, site: str, studies: list[PreparedStudy], steps: int, seed: int,
    span: tuple[float, float],
) -> Contribution:  # fmt: skip
    """What a site sends in one round, as `scantwin_clients.site_round` makes it."""
    system = systems.build(recipe, seed=0)
    load_arrays(system, weights)
    result = train(system, studies, steps=steps, seed=seed, span=span)
    deltas = {
        name: {key: value - weights[name][key] for key, value in tensors.items()}
        for name, tensors in system_arrays(system).items()
        if result.patches.get(name)
    }
    return Contribution(site, deltas, result.patches)


def _counts(sites: dict[str, list[PreparedStudy]]) -> str:
    return ", ".join(str(len(studies)) for studies in sites.values())
