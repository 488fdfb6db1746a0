"""The workshop: phantom patients of three sites, made once, and models, trained once, for all experiments."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

from benchmarks.evidence.findings import Role, Setting
from benchmarks.evidence.preparing import prepare_all, prepared
from benchmarks.evidence.settings import ct_spacing_of

import scantwin
from scantwin import systems
from scantwin.imaging.study import Condition
from scantwin.learning.machine import device
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.recipe import Recipe
from scantwin.learning.training import train
from scantwin.learning.weights import Model, system_arrays
from scantwin.phantoms.cohort import write_cohort
from scantwin.phantoms.scanner import ScannerSpec
from scantwin.phantoms.sites import SITE_PRESETS
from scantwin.phantoms.spec import random_patient
from scantwin.terminal import Advance, silent

CONDITIONS: Final[tuple[Condition, ...]] = ("negative", "melanoma", "lymphoma", "lung-cancer")
"""Dealt in turn, so that every condition has patients in the smallest setting; in FDG-PET-CT-Lesions half of
the patients are negative."""

_FIRST_SEED: Final[dict[Role, int]] = {"training": 7_000, "held-out": 90_000}
"""First seed of the patients: far apart, so that no held-out patient is ever a training patient."""

_WORKERS: Final = 2
"""Processes that make and prepare phantoms: the quick setting is for two cores."""


_AFTERWARDS: Final = {
    "sampling": ("window", "overlap", "average_flips"),
    "diffusion": (
        "sampler", "start_step", "sample_steps", "spacing", "samples", "delivered", "blend_from",
        "blend_share", "anchor",
    ),
    "volumes": ("sampler", "sample_steps", "guidance", "largest", "overlap"),
}  # fmt: skip
"""Section -> values of a recipe that only say how a scan is made."""


def key_of(*parts: Any) -> str:
    """A name for a file that depends on all of `parts` (anything that JSON can express)."""
    said = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(said.encode()).hexdigest()[:20]


def code() -> str:
    """A name that changes with the sources and recipes that figures come from."""
    digest = hashlib.sha256()
    for folder in (Path(scantwin.__file__).parent, Path(__file__).parent):
        for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.toml")]):
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


class Bench:
    """The `Workshop` of one setting, in a work folder; nothing that other code has made is reused."""

    def __init__(self, setting: Setting, work: Path, pictures: Path) -> None:
        self.setting = setting
        # A GPU rounds differently from a CPU, and its seconds are its own.
        name = str(device()).replace(":", "-")
        self.folder = work / (code() if name == "cpu" else f"{code()}-{name}")
        self.pictures = pictures
        self._studies: dict[Path, list[PreparedStudy]] = {}

    def cohort(self, role: Role, advance: Advance = silent) -> Path:
        """Folder of the phantom patients of `role`: site / patient / CT, SUV, SEG and truth."""
        count = self._count(role)
        folder = self.folder / "phantoms" / self._called(role)
        sites = sorted(SITE_PRESETS)
        for number, site in enumerate(sites):
            numbers = range(number, count, len(sites))
            specs = [
                random_patient(_FIRST_SEED[role] + k, condition=CONDITIONS[k // len(sites) % len(CONDITIONS)])
                for k in numbers
            ]
            write_cohort(
                folder / site, specs, self._scanner(site, role), seed=self.setting.seed, workers=_WORKERS,
                advance=partial(_nth, advance, number, len(sites), f"phantoms of {site}"),
            )  # fmt: skip
        return folder

    def prepare(self, recipes: Iterable[Recipe], advance: Advance = silent) -> None:
        """Make all patients and prepare them for all `recipes` at once: reading a study and finding its body
        is half of the work."""
        recipes = list(recipes)
        for role in _FIRST_SEED:
            kinds = {self._place(role, recipe): recipe for recipe in recipes}
            folder = self.cohort(role, advance)
            prepare_all(folder, list(kinds.items()), workers=_WORKERS, advance=advance)

    def studies(self, role: Role, recipe: Recipe, advance: Advance = silent) -> list[PreparedStudy]:
        """The patients of `role` as `recipe` needs them, in the order of their names."""
        place = self._place(role, recipe)
        if place not in self._studies:
            folder = self.cohort(role, advance)
            self._studies[place] = prepared(folder, (place, recipe), workers=_WORKERS, advance=advance)
        return self._studies[place]

    def _place(self, role: Role, recipe: Recipe) -> Path:
        """Where the patients of `role` are kept as `recipe` needs them."""
        # Patients are not split into districts for a whole-body CT recipe; for PET they always are.
        whole = recipe.makes_ct and recipe.districts == ("whole-body",)
        kind = key_of(recipe.spacing_mm, recipe.makes_ct, whole)
        return self.folder / "prepared" / self._called(role) / kind

    def _called(self, role: Role) -> str:
        return f"{role}-{self.setting.spacing_mm:g}mm-{self._count(role)}"

    def _count(self, role: Role) -> int:
        return self.setting.training if role == "training" else self.setting.held_out

    def trained(
        self, recipe: Recipe, *, steps: int, seed: int | None = None, advance: Advance = silent
    ) -> Model:
        """The model of `recipe` after `steps` steps on the training patients."""
        seed = self.setting.seed if seed is None else seed
        folder = self.folder / "models" / f"{recipe.system}-{self.model_key(recipe, steps, seed)}"
        if (folder / "model.json").is_file():
            return replace(Model.load(folder), recipe=recipe)
        studies = self.studies("training", recipe, advance)
        system = systems.build(recipe, seed=seed)
        state = folder.with_name(f"{folder.name}-state.safetensors")
        state.parent.mkdir(parents=True, exist_ok=True)
        result = train(system, studies, steps=steps, seed=seed, resume=state, advance=advance)
        record = {
            "trained_on": f"{len(studies)} phantom patients", "steps": result.steps, "seed": seed,
            "seconds": result.seconds, "losses": result.losses, "patches": result.patches,
        }  # fmt: skip
        model = Model(recipe, system_arrays(system), record)
        model.save(folder)
        state.unlink(missing_ok=True)
        return model

    def model_key(self, recipe: Recipe, steps: int, seed: int) -> str:
        """A model's name; it changes with all that the model depends on, except the code (see `code`)."""
        patients = [self.setting.training, self.setting.spacing_mm, self.setting.seed]
        return key_of(_learnt_with(recipe), steps, seed, patients)

    def _scanner(self, site: str, role: Role) -> ScannerSpec:
        """A site's scanner with the setting's voxels. Its calibration is right: drift is not measured."""
        pet = self.setting.spacing_mm
        preset = SITE_PRESETS[cast(Any, site)]
        return preset.model_copy(
            update={
                "name": f"{site}-{role}", "ct_spacing_mm": ct_spacing_of(self.setting),
                "pet_spacing_mm": (pet,) * 3,
                "suv_scale": 1.0, "suv_drift_per_month": 0.0,
            }
        )  # fmt: skip


def _learnt_with(recipe: Recipe) -> dict[str, Any]:
    """The part of a recipe on which its weights depend, without how they are used afterwards."""
    values = recipe.model_dump(mode="json")
    for section, names in _AFTERWARDS.items():
        values[section] = {k: v for k, v in (values[section] or {}).items() if k not in names}
    return values


def _nth(
    advance: Advance, number: int, parts: int, text: str, done: float, total: float, _: str = ""
) -> None:
    advance(number + done / max(total, 1), parts, text)
