"""Measuring a model on studies with a known PET or CT: the report of `scantwin evaluate`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scantwin.errors import InputError
from scantwin.evaluation import frechet
from scantwin.evaluation.held_out import Case, case_for, on_pet, organ_masks, say_reference
from scantwin.evaluation.intervals import Intervals
from scantwin.evaluation.measuring import measure
from scantwin.evaluation.references import REFERENCES, Statistics
from scantwin.evaluation.tally import Tally
from scantwin.federation.merging import merge
from scantwin.imaging.study import DISTRICTS
from scantwin.imaging.volume import Volume
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.system import System
from scantwin.translation.starter import warning_of
from scantwin.translation.virtual_scanner import VirtualScanner
from scantwin.units import SUV_RANGE

Organs = tuple[Volume, dict[str, int]]
"""A label volume and the label of each organ."""


_CLIPPED: Final = ("psnr", "ssim", "ms_ssim", "uncertainty", "frechet")
"""Figures of both PETs clipped to `SUV_RANGE`. All others are of the PETs as they are (sources.md, 6): what a
tumour takes up beyond the range, and no model can predict, is an error of the model."""


class Patient(NamedTuple):
    """A patient to measure on, and where their organs are, if known."""

    study: PreparedStudy
    organs: Organs | None = None


def evaluate_studies(
    scanner: VirtualScanner,
    patients: Iterable[Patient],
    training: Statistics | None,
    *,
    seed: int = 0,
    extractor: frechet.Extractor | None = None,
    left_out: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """The report: model and references side by side, mean and SD over patients, by region and condition.

    All figures are of what the model predicts anything for. `warnings` say what it never learnt, and the name
    of a patient of whom it has learnt nothing goes to `left_out`. `patients` are taken one by one.
    `training` holds the training statistics behind the references; without them there are none.
    `seed` fixes what a system draws; `extractor` is the Frechet distance's, by default the project's own.
    Raises `InputError` if the model has learnt nothing of any patient.
    """
    gathered = _Gathered(scanner, training, seed, extractor or frechet.RandomFeatures())
    for patient in patients:
        if not gathered.add(patient):
            left_out(patient.study.name)
    if not gathered.tallies:
        raise _not_learnt(scanner.system)
    return gathered.report()


class _Gathered:
    """Figures of a model and of the references, patient by patient."""

    def __init__(
        self, scanner: VirtualScanner, training: Statistics | None, seed: int, extractor: frechet.Extractor
    ) -> None:
        self.scanner = scanner
        self.training = training
        self.seed = seed
        self.extractor = extractor
        self.tallies: dict[str, Tally] = defaultdict(Tally)
        self.conditions: dict[str, Tally] = defaultdict(Tally)
        self.features: dict[str, frechet.Gaussian] = defaultdict(frechet.Gaussian)
        self.intervals = Intervals()
        warning = warning_of(scanner.model)
        self.warnings = {} if warning is None else {warning: None}
        """What must be said about the model, then the warnings of its scans, in order of appearance."""

    def add(self, patient: Patient) -> bool:
        """Measures on one patient; False if the model has learnt nothing of what is seen of them."""
        study, organs = patient
        case = case_for(self.scanner, study)
        if case is None:
            return False
        masks = organ_masks(*organs, case) if organs is not None else {}
        made = self.scanner.synthesise(study, seed=self.seed)
        self.warnings |= dict.fromkeys(made.warnings)
        moved = on_pet(study, made.pet, case)
        for who, pet in {"model": moved, **self._references(case)}.items():
            measured = Tally()
            measured.add(pet, case, masks)
            self.tallies[who].include(measured)
            if who == "model":
                self.conditions[study.condition].include(measured)
            frechet.gather(self.features[who], pet, case.body, SUV_RANGE, self.extractor)
        frechet.gather(self.features["true"], case.true, case.body, SUV_RANGE, self.extractor)
        self.intervals.add(moved, on_pet(study, made.std, case), case, masks)
        return True

    def _references(self, case: Case) -> dict[str, NDArray[np.float32]]:
        """The PET [g/ml] that each reference predicts (z, y, x)."""
        if not self.training:
            return {}
        said = {name: say_reference(name, self.training, case) for name in REFERENCES}
        return {name: pet for name, pet in said.items() if pet is not None}

    def report(self) -> dict[str, Any]:
        """The whole report."""
        tallies = self.tallies
        return {
            "n": tallies["model"].patients,
            "range": list(SUV_RANGE),
            "clipped_to_range": list(_CLIPPED),
            "warnings": [*self.warnings],
            **tallies["model"].report(),
            "uncertainty": self.intervals.report(),
            "frechet": {
                "figure": self.extractor.figure, "extractor": self.extractor.name, "planes": "2.5D",
                **self._distances(),
            },
            "references": {name: tallies[name].report() for name in REFERENCES if name in tallies},
            "conditions": {
                name: {"n": tally.patients, **tally.report()} for name, tally in self.conditions.items()
            },
        }  # fmt: skip

    def _distances(self) -> dict[str, float | None]:
        """Frechet distances to the true PET; None if there are too few slices."""
        true = self.features["true"]
        # A PET of two or three slices has none that a network could be shown.
        return {
            who: frechet.frechet_distance(features, true) if true.count >= 2 else None
            for who, features in self.features.items()
            if who != "true"
        }


def evaluate_generator(
    system: System, studies: Iterable[PreparedStudy], *, trained: dict[str, int] | None = None
) -> dict[str, Any]:
    """The errors of a system that makes CT: each figure's mean, SD and number of patients, by region.

    `studies` are taken one by one. `trained` counts the patches behind each component; without it every
    component is taken as trained. Raises `InputError` if the system has learnt nothing of them.
    """
    metrics: dict[str, float] = defaultdict(float)
    count = 0
    for study in studies:
        count += 1
        for name, value in measure(system, [study], trained=trained).metrics.items():
            metrics[name] += value
    regions = merge([metrics]).get("model", {})
    if not regions:
        raise _not_learnt(system)
    figures = {
        region: {name: {**value, "n": round(value["n"])} for name, value in of.items()}
        for region, of in regions.items()
    }
    return {
        "n": count,
        "whole_body": figures.get("whole-body", {}),
        "districts": {d: figures[d] for d in DISTRICTS if d in figures and d != "whole-body"},
    }


def _not_learnt(system: System) -> InputError:
    return InputError(
        "This model has not learnt what these studies show.",
        hint=f"Its districts are {', '.join(system.recipe.districts)}.",
    )
