"""Gathering figures over patients and lesions, for one model or reference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from scantwin.errors import InputError
from scantwin.evaluation.agreement import agreement, as_figures
from scantwin.evaluation.held_out import Case, compare
from scantwin.evaluation.tumour_volumes import (
    OF_MAXIMUM,
    RESPONSE,
    THRESHOLDS,
    dice,
    false_volumes,
    responses,
    tumour,
)
from scantwin.evaluation.uptake import REAL_CHANGE, Compared, compare_lesions, compare_region, sphere_means
from scantwin.imaging.study import DISTRICTS

_METRICS = ("mae", "bias", "psnr", "ssim", "ms_ssim")
_UPTAKE_METRICS = (
    "mae", "suvmax_error", "suvpeak_error", "suvmean_bias", "inside_limits", "suvmean_inside",
    "suvpeak_inside",
)  # fmt: skip
SENSITIVITY_AT = 4.0
"""Threshold [g/ml] of the headline sensitivity and of the overlap: the fixed threshold of MTV."""

Values = dict[str, list[float]]
_Value = TypeVar("_Value")


class Tally:
    """Figures per patient (regions), per lesion and per organ."""

    def __init__(self, *, multi_scale: bool = True) -> None:
        """`multi_scale`: MS-SSIM too, which takes longer than all other figures of the body together."""
        self.multi_scale = multi_scale
        self.regions: dict[str, Values] = defaultdict(lambda: defaultdict(list))
        self.lesions: Values = defaultdict(list)
        self.lesion_patients: list[int] = []
        """The patient of each lesion, by order of adding; parallel to the lists of `lesions`."""
        self.pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
        """Predicted and true SUVmean [g/ml] of lesions and organs."""
        self.peak_pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
        """The same for SUVpeak."""
        self.organs: Values = defaultdict(list)
        """Figures of each organ of each patient, whichever organ it is."""
        self.volumes: dict[str, list[tuple[float, float]]] = defaultdict(list)
        """Predicted and true MTV [ml] and TLG [g] of a patient's lesions."""
        self.found = np.zeros((len(RESPONSE), 3))
        """By threshold: lesions found, lesions, false marks."""
        self.truly_found = np.zeros((len(RESPONSE), 3))
        """The same for the true PET: what there was to find."""
        self.overlap: Values = defaultdict(list)
        """Per patient: Dice and false volumes [ml] of what is above `SENSITIVITY_AT` against the lesions."""
        self.true_overlap: Values = defaultdict(list)
        """The same for the true PET."""
        self.patients = 0
        self.searched = 0
        """Patients whose lesions are labelled, even if only to say that there are none."""

    def add(
        self, predicted: NDArray[np.float32], case: Case, organs: dict[str, NDArray[np.bool_]] | None = None
    ) -> None:
        """Adds a patient: predicted PET [g/ml] (z, y, x) and masks of organs, if there are any.

        Raises `InputError` if the predicted PET has voxels in the body that are not numbers.
        """
        if not np.isfinite(predicted[case.body]).all():
            raise InputError(
                "The model's PET has voxels in the body that are not numbers.",
                hint="Its training diverged: train it anew, with a smaller learning rate.",
            )
        self.patients += 1
        for region, values in compare(predicted, case).items():
            for metric, value in values.items():
                self.regions[region][metric].append(value)
        if self.multi_scale and np.isfinite(many := case.likeness.multi_scale(predicted)):
            self.regions["whole-body"]["ms_ssim"].append(many)
        spacing = case.grid.spacing
        for lesion in compare_lesions(predicted, case.true, case.lesions_in_body, spacing):
            self.lesion_patients.append(self.patients - 1)
            self._add_uptake("lesions", lesion, self.lesions)
        if organs:
            peaks = sphere_means(predicted, spacing), case.sphere_means
            for name, mask in organs.items():
                organ = compare_region(predicted, case.true, mask, peaks=peaks)
                self._add_uptake(name, organ, self.organs)
        self._search(predicted, case)

    def include(self, other: Tally) -> None:
        """Adds the patients of `other` as they were measured there."""
        for region, values in other.regions.items():
            _extend(self.regions[region], values)
        _extend(self.lesions, other.lesions)
        _extend(self.pairs, other.pairs)
        _extend(self.peak_pairs, other.peak_pairs)
        _extend(self.organs, other.organs)
        _extend(self.volumes, other.volumes)
        _extend(self.overlap, other.overlap)
        _extend(self.true_overlap, other.true_overlap)
        self.lesion_patients += [self.patients + patient for patient in other.lesion_patients]
        self.found += other.found
        self.truly_found += other.truly_found
        self.patients += other.patients
        self.searched += other.searched

    def _add_uptake(self, name: str, region: Compared, into: Values) -> None:
        self.pairs[name].append((region.said.mean, region.true.mean))
        self.peak_pairs[name].append((region.said.peak, region.true.peak))
        for figure, value in region.figures().items():
            into[figure].append(value)

    def _search(self, predicted: NDArray[np.float32], case: Case) -> None:
        if case.lesions is None:
            return  # nobody said where lesions are: a mark may be true or false
        region = case.lesions_in_body
        self.searched += 1
        # A patient without lesions has false marks too (sources.md, 6).
        marks = responses(predicted, region, case.body)
        for points, into in ((marks, self.found), (case.to_be_found, self.truly_found)):
            into += [(r.found, r.lesions, r.false_marks) for r in points]
        ml = case.grid.voxel_ml
        for suv, shares in ((predicted, self.overlap), (case.true, self.true_overlap)):
            for name, value in _overlap(case.body & (suv >= SENSITIVITY_AT), region, ml).items():
                if np.isfinite(value):
                    shares[name].append(value)
        if not region.any():
            return
        for threshold in (*THRESHOLDS, None):
            name = f"{OF_MAXIMUM:.0%} of maximum" if threshold is None else f"SUV {threshold}"
            said, true = (tumour(suv, region, ml, threshold) for suv in (predicted, case.true))
            self.volumes[f"mtv, {name}"].append((said.mtv, true.mtv))
            self.volumes[f"tlg, {name}"].append((said.tlg, true.tlg))

    def report(self) -> dict[str, Any]:
        """The whole report: mean, SD and number over patients; for `lesions` over lesions, for `organs` over
        every organ of every patient."""
        regions = {
            region: {m: spread(values[m]) for m in _METRICS if values[m]}
            for region, values in self.regions.items()
        }
        lesions = _uptake(self.lesions)
        if self.searched:
            lesions |= self._detection()
        return {
            "whole_body": regions.get("whole-body", {}),
            "districts": {d: regions[d] for d in DISTRICTS if d in regions and d != "whole-body"},
            "lesions": lesions,
            "lesion_regions": regions.get("lesions", {}),
            "organs": _uptake(self.organs),
            "agreement": {name: _agreement(pairs) for name, pairs in sorted(self.pairs.items())},
            "peak_agreement": {name: _agreement(pairs) for name, pairs in sorted(self.peak_pairs.items())},
            "volumes": {name: _agreement(pairs) for name, pairs in self.volumes.items()},
        }

    def _detection(self) -> dict[str, Any]:
        curves = {}
        for who, counts in (("free_response", self.found), ("free_response_of_true_pet", self.truly_found)):
            curves[who] = [
                {
                    "threshold": threshold,
                    "sensitivity": found / of if of else None,
                    "false_marks_per_patient": marks / self.searched,
                }
                for threshold, (found, of, marks) in zip(RESPONSE, counts.tolist(), strict=True)
            ]
        at = RESPONSE.index(SENSITIVITY_AT)
        headline = {"threshold": SENSITIVITY_AT, "value": curves["free_response"][at]["sensitivity"]}
        overlaps = {
            who: {"threshold": SENSITIVITY_AT, **{name: spread(values) for name, values in found.items()}}
            for who, found in (("overlap", self.overlap), ("overlap_of_true_pet", self.true_overlap))
        }
        return {"sensitivity": headline, **curves, **overlaps}


def _extend(lists: dict[str, list[_Value]], more: Mapping[str, list[_Value]]) -> None:
    for name, values in more.items():
        lists[name].extend(values)


def _overlap(marked: NDArray[np.bool_], lesions: NDArray[np.bool_], voxel_ml: float) -> dict[str, float]:
    """As autoPET has it: without lesions only the false-positive volume is defined, the others are NaN."""
    positive, negative = false_volumes(marked, lesions, voxel_ml)
    return {"dice": dice(marked, lesions), "false_positive_ml": positive, "false_negative_ml": negative}


def _uptake(figures: Values) -> dict[str, Any]:
    """Means over regions, their number and SD; null if there are none."""
    return {
        "n": len(figures["mae"]),
        **{name: float(np.mean(figures[name])) if figures[name] else None for name in _UPTAKE_METRICS},
        "sd": {name: spread(figures[name])["sd"] for name in _UPTAKE_METRICS if figures[name]},
    }


def _agreement(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    """Agreement of predicted and true values. `inside_limits` is the share of those pairs whose true value is
    above 0 (no other has a relative change); `n` and all other figures are of all pairs."""
    said, true = np.array(pairs, float).T
    change = said[true > 0] / true[true > 0] - 1
    inside = (change >= REAL_CHANGE[0]) & (change <= REAL_CHANGE[1])
    return {
        **as_figures(agreement(said, true)),
        "inside_limits": float(inside.mean()) if inside.size else None,
    }


def spread(values: list[float]) -> dict[str, float]:
    """Mean, standard deviation and number of patients; the deviation of a single one is 0."""
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "sd": sd, "n": len(values)}
