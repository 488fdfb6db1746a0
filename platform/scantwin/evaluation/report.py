"""Measuring a model on studies with a known PET: the report of `scantwin evaluate`."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scantwin.evaluation.held_out import Case, case_of, compare, say_reference
from scantwin.evaluation.references import REFERENCES, Statistics
from scantwin.evaluation.uptake import lesion_figures
from scantwin.imaging.resampling import resample_like
from scantwin.imaging.study import DISTRICTS
from scantwin.learning.prepared import PreparedStudy
from scantwin.terminal import Advance, silent
from scantwin.translation.virtual_scanner import VirtualScanner
from scantwin.units import SUV_RANGE

_METRICS = ("mae", "bias", "psnr", "ssim")
_LESION_METRICS = ("mae", "suvmax_error", "suvpeak_error", "suvmean_bias", "inside_limits")


class _Tally:
    """Figures per patient (regions) and per lesion."""

    def __init__(self) -> None:
        self.regions: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.lesions: dict[str, list[float]] = defaultdict(list)

    def add(self, predicted: NDArray[np.float32], case: Case) -> None:
        for region, values in compare(predicted, case).items():
            for metric, value in values.items():
                self.regions[region][metric].append(value)
        for figures in lesion_figures(predicted, case):
            for name, value in figures.items():
                self.lesions[name].append(value)

    def report(self) -> dict[str, Any]:
        regions = {
            region: {m: _spread(values[m]) for m in _METRICS if values[m]}
            for region, values in self.regions.items()
        }
        lesions: dict[str, Any] = {"n": len(self.lesions["mae"])}
        for name in _LESION_METRICS:
            values = self.lesions[name]
            lesions[name] = float(np.mean(values)) if values else None
        districts = {d: regions[d] for d in DISTRICTS if d in regions and d != "whole-body"}
        return {"whole_body": regions.get("whole-body", {}), "districts": districts, "lesions": lesions}


def evaluate_studies(
    scanner: VirtualScanner,
    studies: list[PreparedStudy],
    training: Statistics | None,
    *,
    advance: Advance = silent,
) -> dict[str, Any]:
    """The report: model and references beside each other, mean and SD over patients, by region and condition.

    `training` holds the training statistics behind the references; without them there are none.
    """
    tallies: dict[str, _Tally] = defaultdict(_Tally)
    conditions: dict[str, _Tally] = defaultdict(_Tally)
    for number, study in enumerate(studies):
        advance(number, len(studies), study.name)
        case = case_of(study)
        pet = scanner.synthesise(study).pet
        moved = resample_like(study.grid.with_array(pet, "SUV"), case.grid).array.astype(np.float32)
        tallies["model"].add(moved, case)
        conditions[study.condition].add(moved, case)
        for reference in REFERENCES if training else ():
            said = say_reference(reference, training or {}, case)
            if said is not None:
                tallies[reference].add(said, case)
    advance(len(studies), len(studies))
    return {
        "n": len(studies),
        "range": list(SUV_RANGE),
        **tallies["model"].report(),
        "references": {name: tallies[name].report() for name in REFERENCES if name in tallies},
        "conditions": {name: {"n": _count(tally), **tally.report()} for name, tally in conditions.items()},
    }


def _count(tally: _Tally) -> int:
    return len(tally.regions["whole-body"]["mae"])


def _spread(values: list[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0}
