"""`VirtualScanner`: a CT in, a synthetic PET with its error bar out. Reads top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scantwin.errors import InputError, ScanTwinError
from scantwin.imaging.study import DISTRICT_LABEL, DISTRICTS, District, Study
from scantwin.imaging.volume import Volume
from scantwin.learning.prepared import PreparedStudy, prepare
from scantwin.learning.system import Translator
from scantwin.learning.weights import Model
from scantwin.terminal import Advance, silent
from scantwin.translation.starter import warning_of
from scantwin.translation.uncertainty import standard_deviation
from scantwin.translation.windows import districts_to_scan, predict_district, reach

_LEAST_SHARE: Final = 0.01
"""Smallest share of a district in the PET of a voxel for which its networks are asked there."""


class Cancelled(ScanTwinError):
    """The scan was cancelled."""


@dataclass(frozen=True, eq=False)
class ScanResult:
    """One synthetic PET. SYNTHETIC, NOT FOR DIAGNOSIS."""

    pet: Volume
    """Synthetic PET [g/ml], canonical, at the recipe's voxel size over the CT's field of view."""
    std: Volume
    """Its error bar [g/ml], NaN where unknown: 80 % of held-out patients' voxels lay within 1.28 of it."""
    ct: Volume
    """The CT [HU] on the same grid."""
    districts: Volume
    body: NDArray[np.bool_]
    present: dict[District, int]
    """Voxels of each district."""
    confidence: float
    """Confidence of the split into districts."""
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class Synthesis(NamedTuple):
    """What a model predicts for a prepared study, on its working grid. Axes (z, y, x)."""

    pet: NDArray[np.float32]
    """PET [g/ml]."""
    std: NDArray[np.float32]
    """Error bar [g/ml]; NaN where it was never measured."""
    warnings: list[str]
    spread: NDArray[np.float32] | None
    """Standard deviation of the system's samples [g/ml], as drawn; None if it draws none."""


class VirtualScanner:
    """Scans CTs with one model version."""

    def __init__(self, model: Model, system: Translator) -> None:
        self.model = model
        self.system = system

    def scan(
        self,
        ct: Volume,
        *,
        seed: int = 0,
        advance: Advance = silent,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> ScanResult:
        """The synthetic PET of `ct` [HU]. `seed` fixes what a system draws; Pix2Pix draws nothing."""
        began = time.monotonic()
        advance(0.0, 1.0, "body and districts")
        study = prepare(Study("scan", ct=ct.canonical()), self.system.recipe.spacing_mm)
        prepared = time.monotonic()
        pet, std, warnings, _ = self.synthesise(study, seed=seed, advance=advance, cancelled=cancelled)
        if (warning := warning_of(self.model)) is not None:
            warnings.insert(0, warning)
        done = time.monotonic()
        return ScanResult(
            pet=study.grid.with_array(pet, "SUV"), std=study.grid.with_array(std, "SUV"),
            ct=study.grid.with_array(study.hu, "HU"), districts=study.grid.with_array(study.labels, "label"),
            body=study.body, confidence=study.confidence,
            present={d: n for d in DISTRICTS if (n := int((study.labels == DISTRICT_LABEL[d]).sum()))},
            seconds={"prepare": prepared - began, "synthesise": done - prepared}, warnings=warnings,
        )  # fmt: skip

    def synthesise(
        self,
        study: PreparedStudy,
        *,
        seed: int = 0,
        advance: Advance = silent,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Synthesis:
        """The PET of a prepared study on its own grid. Raises `InputError` for a broken model."""
        shape = study.hu.shape
        total, variance, drawn, weights = (np.zeros(shape, np.float32) for _ in range(4))
        warnings: list[str] = []
        masks = districts_to_scan(study, self.system.recipe)
        for number, (district, mask) in enumerate(masks.items()):
            model = self.model_for(district, warnings)
            share = reach(mask, self.system.recipe.spacing_mm)
            near = mask | (share > _LEAST_SHARE)
            share[~near] = 0.0  # a district that is not asked has no say
            for done, of, sums in predict_district(self.system, study, model, near, seed):  # noqa: B007
                advance(number + done / of, len(masks), district)
                if cancelled():
                    raise Cancelled("The scan was cancelled.")
            said = sums.mean(sums.pet)
            spread = None if sums.spread is None else sums.mean(sums.spread)
            bar = standard_deviation(said, self.model.statistics, model, spread)
            total += share * said
            drawn += share * (0.0 if spread is None else spread)
            unknown = np.where(near, np.float32(np.nan), np.float32(0.0))
            variance += share * (unknown if bar is None else bar) ** 2
            weights += share
            if bar is None:
                warnings.append(
                    f"The error of this model in the {district} was never measured: no error bar there."
                )
        left_out = study.body & ~np.logical_or.reduce([*masks.values()])
        if left_out.any():
            warnings.append(
                "This model learnt only a part of the body: the PET is 0 elsewhere, without error bar."
            )
            weights[left_out], variance[left_out] = 0.0, np.nan
        low, high = self.system.recipe.suv_range
        # Outside the body there is no tissue; a voxel or two of PET blur is not worth a false halo.
        inside = study.body & (weights > 0)
        if not np.isfinite(total[inside]).all():
            raise InputError(
                "This model is broken: the PET that it makes has voxels that are not numbers.",
                hint="Its training diverged. Choose another, or train it anew with a smaller learning rate.",
            )
        safe = np.where(weights > 0, weights, np.float32(1.0))
        whole = np.where(inside, np.clip(total / safe, low, high), 0.0).astype(np.float32)
        std = np.where(inside | left_out, np.sqrt(variance / safe), 0.0).astype(np.float32)
        spread_there = np.where(inside, drawn / safe, 0.0).astype(np.float32) if self.system.samples else None
        return Synthesis(whole, std, warnings, spread_there)

    def can_scan(self, study: PreparedStudy) -> bool:
        """Whether every scanned part of `study` has been learnt by some network; else `synthesise` raises."""
        everywhere = self.speaks("whole-body")
        return everywhere or all(self.speaks(d) for d in districts_to_scan(study, self.system.recipe))

    def spoken_of(self, study: PreparedStudy) -> PreparedStudy:
        """The part of `study` that the model covers: elsewhere its PET is 0, and that means nothing."""
        said = np.logical_or.reduce([*districts_to_scan(study, self.system.recipe).values()])
        if said[study.body].all():
            return study
        return replace(study, body=study.body & said, labels=np.where(said, study.labels, 0).astype(np.uint8))

    def speaks(self, district: District) -> bool:
        """Whether the model has networks for `district` that have learnt."""
        return district in self.system.recipe.districts and self.model.trained(district)

    def model_for(self, district: District, warnings: list[str]) -> District:
        """Which district's networks are used in `district`. Raises `InputError` if none has learnt to."""
        if self.speaks(district):
            return district
        if district != "whole-body" and self.speaks("whole-body"):
            warnings.append(f"This model never learnt the {district}; its whole-body part was used there.")
            return "whole-body"
        what = "a body that cannot be split into districts" if district == "whole-body" else f"the {district}"
        raise InputError(
            f"This model has never learnt {what}.", hint="Choose a model that was trained on such studies."
        )
