"""Measuring on the held-out phantoms: a model scans each patient once; figures come from the kept scans."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar, Final
from weakref import WeakKeyDictionary

import numpy as np
from benchmarks.evidence.findings import Setting, Spread, Workshop
from benchmarks.evidence.workshop import key_of
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from scantwin import systems
from scantwin.evaluation import frechet
from scantwin.evaluation.held_out import case_of, on_pet, organ_masks, say_reference
from scantwin.evaluation.intervals import Intervals
from scantwin.evaluation.references import REFERENCES, Reference, training_statistics
from scantwin.evaluation.tally import Tally
from scantwin.files import whole_file
from scantwin.imaging.nifti import read_nifti
from scantwin.imaging.study import DISTRICTS
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.recipe import Recipe
from scantwin.learning.weights import Model
from scantwin.phantoms.tissues import AGREED_ORGANS, ORGANS
from scantwin.terminal import Advance, silent
from scantwin.translation.uncertainty import ratio_counts, ratio_key, standard_deviation
from scantwin.units import SUV_RANGE

Image = NDArray[np.float32]

COVERED: Final = (
    "cross-calibrated share of voxels inside the 80 % interval (each patient's interval is derived from the "
    "other held-out patients)"
)
"""What `Standing.intervals.voxels` is, in words."""
CROSS_CALIBRATED: Final = (
    "Coverage is cross-calibrated: each patient's interval is derived from the other held-out patients. A "
    "mean near 0.80 follows almost from that alone; what the figure tells is how much patients differ. The "
    "coverage of the intervals that a scan states, on patients never seen, is in the sarcoma chapter."
)
"""What a chapter says about coverage."""


@dataclass(frozen=True)
class Scan:
    """What a model predicted for one patient, on the study's working grid (z, y, x)."""

    pet: Image
    """[g/ml]"""
    spread: Image | None
    """SD of the model's samples [g/ml]; None for a model that draws none."""
    seconds: float


@dataclass
class Standing:
    """Everything measured for one model or reference."""

    tally: Tally = field(default_factory=partial(Tally, multi_scale=False))
    patients_with: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Condition -> indices of its patients."""
    distance: float = float("nan")
    """Frechet distance to the true PETs, with `Measurer.extractor`."""
    features: list[frechet.Gaussian] = field(default_factory=list)
    """Features of the slices, by patient."""
    intervals: Intervals = field(default_factory=Intervals)
    """Each patient's intervals are derived from the other patients; organs are `AGREED_ORGANS`."""
    seconds: list[float] = field(default_factory=list)
    """Per patient: time of a scan [s]."""

    def region(self, region: str, metric: str) -> Spread | None:
        """Spread over patients of `mae`, `bias`, `psnr` or `ssim`; regions are those of `Case.masks`."""
        return Spread.of(self.tally.regions[region][metric])

    def under(self, condition: str, metric: str) -> Spread | None:
        """Spread in the whole body, over the patients with `condition`."""
        values = self.tally.regions["whole-body"][metric]
        return Spread.of([values[place] for place in self.patients_with[condition]])

    def lesion(self, name: str) -> Spread | None:
        """Spread over lesions of a figure: `mae`, `suvmax_error`, `suvpeak_error`, `suvmean_error`, ..."""
        if name == "suvmean_error":
            return Spread.of([abs(said - true) for said, true in self.tally.pairs.get("lesions", ())])
        return Spread.of(self.tally.lesions[name])

    def mean(self, region: str, metric: str) -> float:
        """Mean over patients; NaN without any."""
        found = self.region(region, metric)
        return found.mean if found else float("nan")

    def lesion_mean(self, name: str) -> float:
        """Mean over lesions; NaN without any."""
        found = self.lesion(name)
        return found.mean if found else float("nan")


class Measurer:
    """Measures on the held-out patients of one setting; the truth is prepared once."""

    extractor = frechet.RandomFeatures()

    _of: ClassVar[WeakKeyDictionary[Workshop, Measurer]] = WeakKeyDictionary()

    def __init__(self, setting: Setting, workshop: Workshop, recipe: Recipe, advance: Advance) -> None:
        self.setting = setting
        self.workshop = workshop
        self.studies = workshop.studies("held-out", recipe, advance)
        self.training = workshop.studies("training", recipe, advance)
        self.cases = [case_of(study) for study in self.studies]
        self.cohort = workshop.cohort("held-out")
        self._standings: dict[str, Standing] = {}

    @classmethod
    def of(cls, setting: Setting, workshop: Workshop, recipe: Recipe, advance: Advance = silent) -> Measurer:
        """The workshop's measurer, which experiments share. `recipe` sets the voxel size."""
        if workshop not in cls._of:
            cls._of[workshop] = cls(setting, workshop, recipe, advance)
        return cls._of[workshop]

    def model(self, model: Model, variant: Recipe | None = None, advance: Advance = silent) -> Standing:
        """Measure `model`, or its weights used as `variant` says (other sampling, other districts)."""
        recipe = variant or model.recipe
        key = key_of(model.record, recipe.model_dump(mode="json"))
        if key not in self._standings:
            scans = self.scans(model, variant, advance)
            standing = self._stand([self._on_pet(n, scan.pet) for n, scan in enumerate(scans)])
            self._cover(standing, scans, recipe)
            standing.seconds = [scan.seconds for scan in scans]
            self._standings[key] = standing
        return self._standings[key]

    def of_pets(self, name: str, say: Callable[[PreparedStudy], Image]) -> Standing:
        """Measure the PETs [g/ml] that `say` makes on the working grid; once per `name`."""
        if name not in self._standings:
            pets = [self._on_pet(number, say(study)) for number, study in enumerate(self.studies)]
            self._standings[name] = self._stand(pets)
        return self._standings[name]

    def reference(self, name: Reference) -> Standing:
        """Measure a simple reference, taken from the training patients."""
        if name not in self._standings:
            said = [say_reference(name, self._statistics, case) for case in self.cases]
            self._standings[name] = self._stand([pet for pet in said if pet is not None])
        return self._standings[name]

    def references(self) -> dict[str, Standing]:
        """Every simple reference by its name."""
        return {name: self.reference(name) for name in REFERENCES}

    def scans(self, model: Model, variant: Recipe | None = None, advance: Advance = silent) -> list[Scan]:
        """One scan per held-out patient; kept on disk, so that a later call is instant."""
        recipe = variant or model.recipe
        key = key_of(model.record, recipe.model_dump(mode="json"))
        scanner = systems.scanner_for(Model(recipe, model.components, model.record))
        kept = []
        for number, study in enumerate(self.studies):
            advance(number, len(self.studies), f"{recipe.system}: scanning")
            path = self.workshop.folder / "scans" / key / f"{study.name}.safetensors"
            if not path.is_file():
                began = time.monotonic()
                made = scanner.synthesise(study, seed=self.setting.seed)
                _keep(path, study, made.pet, made.spread, time.monotonic() - began)
            kept.append(_read(path, study))
        return kept

    @cached_property
    def _statistics(self) -> dict[str, NDArray[np.float64]]:
        return training_statistics(self.training)

    @cached_property
    def organs(self) -> list[dict[str, NDArray[np.bool_]]]:
        """Each patient's true organs on the case's grid, `AGREED_ORGANS` only."""
        folders = {path.parent.parent.name: path for path in self.cohort.rglob("truth/organs.nii.gz")}
        wanted = {name: ORGANS[name] for name in AGREED_ORGANS}
        return [
            organ_masks(read_nifti(folders[study.name], "label").canonical(), wanted, case)
            for study, case in zip(self.studies, self.cases, strict=True)
        ]

    @cached_property
    def true_features(self) -> list[frechet.Gaussian]:
        """Features of the slices of the true PETs, by patient."""
        return self._features([case.true for case in self.cases])

    def _stand(self, pets: list[Image]) -> Standing:
        standing = Standing()
        for study, case, organs, pet in zip(self.studies, self.cases, self.organs, pets, strict=True):
            standing.tally.add(pet, case, organs)
            standing.patients_with[study.condition].append(standing.tally.patients - 1)
        standing.features = self._features(pets)
        together = frechet.Gaussian.together
        standing.distance = frechet.frechet_distance(
            together(standing.features), together(self.true_features)
        )
        return standing

    def _features(self, pets: list[Image]) -> list[frechet.Gaussian]:
        every = self.setting.pick(2, 1)
        gathered = [frechet.Gaussian() for _ in pets]
        for into, pet, case in zip(gathered, pets, self.cases, strict=True):
            frechet.gather(into, pet, case.body, SUV_RANGE, self.extractor, every)
        return gathered

    def _on_pet(self, number: int, image: Image) -> Image:
        return on_pet(self.studies[number], image, self.cases[number])

    def _intervals(self, scans: list[Scan], recipe: Recipe) -> Iterator[Image]:
        """Per patient: each voxel's stated SD [g/ml], calibrated on all the other patients; NaN where it is
        unknown, 0 outside the body."""
        parts = [d for d in DISTRICTS if d in recipe.districts and any(d in s.boxes for s in self.studies)]
        counts = [
            {d: _ratio(scan, study, study.mask(d)) for d in parts if d in study.boxes}
            for scan, study in zip(scans, self.studies, strict=True)
        ]
        for number, (scan, study) in enumerate(zip(scans, self.studies, strict=True)):
            bar = np.where(study.body, np.float32(np.nan), np.float32(0.0))
            for district, own in counts[number].items():
                others = [one[district] for k, one in enumerate(counts) if k != number and district in one]
                mask = study.mask(district)
                spread = None if scan.spread is None else scan.spread[mask]
                summed = {ratio_key(district): np.sum(others, axis=0) if others else np.zeros_like(own)}
                found = standard_deviation(scan.pet[mask], summed, district, spread)
                if found is not None:
                    bar[mask] = found
            yield bar

    def _cover(self, standing: Standing, scans: list[Scan], recipe: Recipe) -> None:
        """Record whether the intervals hold what they state, patient by patient."""
        for number, bar in enumerate(self._intervals(scans, recipe)):
            pet, std = (self._on_pet(number, image) for image in (scans[number].pet, bar))
            standing.intervals.add(pet, std, self.cases[number], self.organs[number])


def _ratio(scan: Scan, study: PreparedStudy, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    return ratio_counts(
        scan.pet[mask], _truth(study)[mask], None if scan.spread is None else scan.spread[mask]
    )


def _truth(study: PreparedStudy) -> Image:
    assert study.suv is not None
    return np.clip(study.suv, *SUV_RANGE)


def _keep(path: Path, study: PreparedStudy, pet: Image, spread: Image | None, seconds: float) -> None:
    """Keep the body only: outside it a scan is zero."""
    kept = {"pet": pet[study.body], "seconds": np.array([seconds])}
    if spread is not None:
        kept["spread"] = spread[study.body]
    with whole_file(path) as aside:
        save_file(kept, aside)


def _read(path: Path, study: PreparedStudy) -> Scan:
    kept = load_file(path)
    whole = {}
    for name in set(kept) - {"seconds"}:
        whole[name] = np.zeros(study.body.shape, np.float32)
        whole[name][study.body] = kept[name]
    return Scan(whole["pet"], whole.get("spread"), float(kept["seconds"][0]))
