"""Measuring a system on held-out patients, in sums that sites can send and add up.

Metrics are taken on each patient's own PET grid; the model's output on its working grid is resampled to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scantwin.errors import Rejection
from scantwin.evaluation import image_metrics as im
from scantwin.evaluation.references import REFERENCES, Statistics, predict_reference
from scantwin.evaluation.tumour_volumes import Response, responses
from scantwin.evaluation.uptake import sphere_means
from scantwin.imaging.reasons import reject
from scantwin.imaging.resampling import resample_like
from scantwin.imaging.study import DISTRICT_LABEL, DISTRICTS, District
from scantwin.imaging.volume import Volume
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.system import Translator
from scantwin.learning.weights import Model
from scantwin.terminal import Advance, silent
from scantwin.translation.uncertainty import (
    RATIO_SHAPE,
    RESIDUAL_SHAPE,
    Array,
    key,
    ratio_counts,
    ratio_key,
    residual_sums,
)
from scantwin.translation.virtual_scanner import VirtualScanner
from scantwin.translation.windows import districts_to_scan
from scantwin.units import SUV_RANGE

_FEWEST_VOXELS: Final = 5
"""Voxels of an organ on a PET's grid below which its mean mostly reflects its neighbours."""


@dataclass(frozen=True)
class Measured:
    """Sums over patients, `metrics["model/trunk/mae/sum"]` and so on; the residuals behind the error bar."""

    metrics: dict[str, float] = field(default_factory=dict)
    statistics: Statistics = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Case:
    """One held-out patient on the PET's own grid, cropped to the body. Axes (z, y, x)."""

    hu: NDArray[np.float32]
    true: NDArray[np.float32]
    body: NDArray[np.bool_]
    labels: NDArray[np.uint8]
    lesions: NDArray[np.bool_] | None
    grid: Volume

    def masks(self) -> dict[str, NDArray[np.bool_]]:
        """The regions to measure: the whole body, each district that is present, and lesions."""
        masks = {"whole-body": self.body}
        for district in DISTRICTS:
            mask = self.labels == DISTRICT_LABEL[district]
            if district != "whole-body" and mask.any():
                masks[district] = mask
        if self.lesions_in_body.any():
            masks["lesions"] = self.lesions_in_body
        return masks

    @cached_property
    def lesions_in_body(self) -> NDArray[np.bool_]:
        """The lesion voxels to measure; none if lesions are not labelled."""
        return np.zeros_like(self.body) if self.lesions is None else self.lesions & self.body

    @cached_property
    def likeness(self) -> im.Likeness:
        """Measures structural similarity to the true PET."""
        return im.Likeness(self.true, self.body)

    @cached_property
    def sphere_means(self) -> NDArray[np.float32]:
        """Sphere means of the true PET [g/ml], for SUVpeak (z, y, x)."""
        return sphere_means(self.true, self.grid.spacing)

    @cached_property
    def to_be_found(self) -> list[Response]:
        """What a reader would find in the true PET; nothing if lesions are not labelled."""
        return [] if self.lesions is None else responses(self.true, self.lesions_in_body, self.body)


def case_of(study: PreparedStudy) -> Case:
    """The patient on the PET's own grid. Raises the rejection `pair.far-apart` if no body lies on it."""
    if study.pet is None:
        raise ValueError("a study without PET cannot be measured against")
    pet = study.pet
    labels = resample_like(study.grid.with_array(study.labels, "label"), pet, how="nearest").array.astype(
        np.uint8
    )
    hu = resample_like(study.grid.with_array(study.hu, "HU"), pet, outside=-1000.0).array
    body = study.body_on(pet)
    if not body.any():
        raise reject("pair.far-apart", found="no voxel of the PET lies in the body")
    labels[~body] = 0
    occupied = np.argwhere(body)
    low = tuple(int(v) for v in np.maximum(occupied.min(axis=0) - 4, 0))
    high = tuple(int(v) for v in np.minimum(occupied.max(axis=0) + 5, pet.shape))
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    lesions = None if study.pet_lesions is None else study.pet_lesions[part] > 0
    z0, y0, x0 = low
    z1, y1, x1 = high
    return Case(
        hu=hu[part].astype(np.float32), true=pet.array[part].astype(np.float32), body=body[part],
        labels=labels[part], lesions=lesions, grid=pet.crop((z0, y0, x0), (z1, y1, x1)),
    )  # fmt: skip


def case_for(scanner: VirtualScanner, study: PreparedStudy) -> Case | None:
    """The patient as far as the model predicts anything for them; None if it predicts nothing."""
    if not scanner.can_scan(study):
        return None
    try:
        return case_of(scanner.spoken_of(study))
    except Rejection:  # a few voxels of a district, and none on the PET's own grid
        return None


def on_pet(study: PreparedStudy, image: Array, case: Case) -> Array:
    """`image` [g/ml] on the study's working grid -> on the PET's own, cropped as the case is (z, y, x)."""
    return resample_like(study.grid.with_array(image, "SUV"), case.grid).array.astype(np.float32)


def organ_masks(labels: Volume, organs: Mapping[str, int], case: Case) -> dict[str, NDArray[np.bool_]]:
    """Voxels of those `organs` (name -> label) that the case shows, on its own grid (z, y, x)."""
    there = np.rint(resample_like(labels, case.grid, how="nearest").array).astype(int)
    masks = {name: (there == label) & case.body for name, label in organs.items()}
    return {name: mask for name, mask in masks.items() if mask.sum() >= _FEWEST_VOXELS}


def measure(
    system: Translator,
    studies: list[PreparedStudy],
    references: Statistics | None = None,
    *,
    trained: dict[str, int] | None = None,
    unsplit: int | None = None,
    advance: Advance = silent,
) -> Measured:
    """Scans each study and compares it with its PET; with `references`, the simple references too.

    A study of which no part has been learnt (a leg alone, by a model of trunks) is left out, as is any part
    of a study that the recipe has no networks for.
    `trained` counts the patches behind each component; without it every component is taken as trained.
    The `unsplit` smallest split bodies (all without it) are scanned again as if they could not be split: the
    error bar there is that of the whole body's own networks.
    """
    record = {"patches": dict.fromkeys(system.components(), 1) if trained is None else trained}
    scanner = VirtualScanner(Model(system.recipe, {}, record), system)
    metrics: dict[str, float] = {}
    statistics: Statistics = {key(d): np.zeros(RESIDUAL_SHAPE) for d in DISTRICTS}
    statistics |= {ratio_key(d): np.zeros(RATIO_SHAPE) for d in DISTRICTS}
    split = [study for study in studies if study.split and scanner.can_scan(study)]
    again = sorted(split, key=lambda study: study.hu.size)[:unsplit]
    for number, study in enumerate(studies):
        advance(number, len(studies), study.name)
        case = case_for(scanner, study)
        if case is None:
            continue
        pet, _, _, spread = scanner.synthesise(study)
        _add(metrics, "model", on_pet(study, pet, case), case)
        for reference in REFERENCES if references else ():
            said = say_reference(reference, references or {}, case)
            if said is not None:
                _add(metrics, reference, said, case)
        low, high = SUV_RANGE
        truth = np.clip(study.suv, low, high) if study.suv is not None else pet
        # An error counts for the networks that made it.
        for district, mask in districts_to_scan(study, system.recipe).items():
            speaks = scanner.model_for(district, [])
            _add_errors(statistics, speaks, pet[mask], truth[mask], None if spread is None else spread[mask])
        if study in again and scanner.speaks("whole-body"):
            whole = replace(study, labels=study.body.astype(np.uint8) * DISTRICT_LABEL["whole-body"])
            pet, _, _, spread = scanner.synthesise(whole)
            inside = study.body
            drawn = None if spread is None else spread[inside]
            _add_errors(statistics, "whole-body", pet[inside], truth[inside], drawn)
    advance(len(studies), len(studies))
    return Measured(metrics, statistics)


def _add_errors(
    statistics: Statistics, district: District, pet: Array, truth: Array, drawn: Array | None
) -> None:
    statistics[key(district)] += residual_sums(pet, truth)
    statistics[ratio_key(district)] += ratio_counts(pet, truth, drawn)


def say_reference(reference: str, statistics: Statistics, case: Case) -> NDArray[np.float32] | None:
    """A reference's PET [g/ml] of a case: each district from its own statistics, else the whole body's."""
    out = np.zeros(case.hu.shape, np.float32)
    for district, mask in case.masks().items():
        if district == "lesions":
            continue
        name: District = district  # type: ignore[assignment]
        said = predict_reference(reference, statistics, name, case.hu[mask])  # type: ignore[arg-type]
        if said is None:
            if name == "whole-body":
                return None
            continue
        # `whole-body` comes first and is overwritten by the districts that were told apart.
        out[mask] = said
    return out


def compare(predicted: NDArray[np.float32], case: Case) -> dict[str, dict[str, float]]:
    """{region: {metric: value}} of a predicted PET [g/ml] against the case's own."""
    similarity = case.likeness.map(predicted)
    regions: dict[str, dict[str, float]] = {}
    for region, mask in case.masks().items():
        values = {
            "mae": im.mae(predicted, case.true, mask),
            "bias": im.bias(predicted, case.true, mask),
            "psnr": im.psnr(predicted, case.true, mask),
        }
        inside = similarity[mask & case.likeness.known]
        if inside.size:
            values["ssim"] = float(inside.mean(dtype=np.float64))
        regions[region] = values
    return regions


def _add(metrics: dict[str, float], who: str, predicted: NDArray[np.float32], case: Case) -> None:
    for region, values in compare(predicted, case).items():
        add_figures(metrics, who, region, values)


def add_figures(metrics: dict[str, float], who: str, region: str, figures: dict[str, float]) -> None:
    """Adds one patient's `figures` to the sums `who/region/metric/{sum,sumsq,n}`."""
    for metric, value in figures.items():
        for suffix, amount in (("sum", value), ("sumsq", value * value), ("n", 1.0)):
            name = f"{who}/{region}/{metric}/{suffix}"
            metrics[name] = metrics.get(name, 0.0) + amount
