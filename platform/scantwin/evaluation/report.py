"""Measuring a model on studies with a known PET or CT: the report of `scantwin evaluate`."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

from scantwin.errors import InputError
from scantwin.evaluation import frechet
from scantwin.evaluation.held_out import case_for, on_pet, organ_masks, say_reference
from scantwin.evaluation.intervals import Intervals
from scantwin.evaluation.measuring import measure
from scantwin.evaluation.references import REFERENCES, Statistics
from scantwin.evaluation.tally import Tally
from scantwin.federation.merging import merge
from scantwin.imaging.study import DISTRICTS
from scantwin.imaging.volume import Volume
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.system import System
from scantwin.terminal import Advance, silent
from scantwin.translation.virtual_scanner import VirtualScanner
from scantwin.units import SUV_RANGE

Organs = tuple[Volume, dict[str, int]]
"""A label volume and the label of each organ."""


class Patient(NamedTuple):
    """Who is measured on, and where that patient's organs are, if it is known."""

    study: PreparedStudy
    organs: Organs | None = None


def evaluate_studies(
    scanner: VirtualScanner,
    patients: list[Patient],
    training: Statistics | None,
    *,
    seed: int = 0,
    extractor: frechet.Extractor | None = None,
    advance: Advance = silent,
) -> dict[str, Any]:
    """The report: model and references beside each other, mean and SD over patients, by region and condition.

    All figures are of what the model says something about; what it never learnt is told in `warnings`.

    `training` holds the training statistics behind the references; without them there are none.
    `seed` fixes what a system draws; `extractor` is of the Frechet distance, by default the project's own.
    """
    extractor = extractor or frechet.RandomFeatures()
    tallies: dict[str, Tally] = defaultdict(Tally)
    conditions: dict[str, Tally] = defaultdict(Tally)
    features: dict[str, frechet.Gaussian] = defaultdict(frechet.Gaussian)
    intervals = Intervals()
    warnings: dict[str, None] = {}  # keeps the order in which they came
    for number, (study, organs) in enumerate(patients):
        advance(number, len(patients), study.name)
        case = case_for(scanner, study)
        if case is None:
            continue
        masks = organ_masks(*organs, case) if organs is not None else {}
        made = scanner.synthesise(study, seed=seed)
        warnings |= dict.fromkeys(made.warnings)
        moved = on_pet(study, made.pet, case)
        said = {"model": moved}
        for reference in REFERENCES if training else ():
            constant = say_reference(reference, training or {}, case)
            if constant is not None:
                said[reference] = constant
        for who, pet in said.items():
            measured = Tally()
            measured.add(pet, case, masks)
            tallies[who].include(measured)
            if who == "model":
                conditions[study.condition].include(measured)
            frechet.gather(features[who], pet, case.body, SUV_RANGE, extractor)
        frechet.gather(features["true"], case.true, case.body, SUV_RANGE, extractor)
        intervals.add(moved, on_pet(study, made.std, case), case, masks)
    advance(len(patients), len(patients))
    # A PET of two or three slices has none that a network could be shown.
    enough = features["true"].count >= 2
    distances = {
        who: frechet.frechet_distance(features[who], features["true"]) if enough else None
        for who in features
        if who != "true"
    }
    return {
        "n": tallies["model"].patients,
        "range": list(SUV_RANGE),
        "warnings": [*warnings],
        **tallies["model"].report(),
        "uncertainty": intervals.report(),
        "frechet": {"figure": extractor.figure, "extractor": extractor.name, "planes": "2.5D", **distances},
        "references": {name: tallies[name].report() for name in REFERENCES if name in tallies},
        "conditions": {name: {"n": tally.patients, **tally.report()} for name, tally in conditions.items()},
    }


def evaluate_generator(
    system: System, studies: list[PreparedStudy], *, trained: dict[str, int] | None = None,
    advance: Advance = silent,
) -> dict[str, Any]:  # fmt: skip
    """What a system that makes CT gets wrong: its figures' mean, SD and patients behind them, by region.

    `trained` counts the patches behind each component; without it every component is taken as trained.
    """
    measured = measure(system, studies, trained=trained or None, advance=advance)
    regions = merge([measured.metrics]).get("model", {})
    if not regions:
        raise InputError(
            f"Nothing of the {len(studies)} studies is what this model has learnt to make.",
            hint=f"Its districts are {', '.join(system.recipe.districts)}.",
        )
    figures = {
        region: {name: {**value, "n": round(value["n"])} for name, value in of.items()}
        for region, of in regions.items()
    }
    return {
        "n": len(studies),
        "whole_body": figures.get("whole-body", {}),
        "districts": {d: figures[d] for d in DISTRICTS if d in figures and d != "whole-body"},
    }
