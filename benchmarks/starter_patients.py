"""Whom the starter models learn from: varied phantoms, each scanned twice, with a long and a short field."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np

from scantwin.imaging.study import Condition, Study
from scantwin.imaging.volume import Volume
from scantwin.learning.cohort import Cohort
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.recipe import Recipe
from scantwin.phantoms.patient import build_patient
from scantwin.phantoms.scanner import ImagedPatient, image_patient
from scantwin.phantoms.sites import COARSE_PRESETS
from scantwin.phantoms.spec import random_patient
from scantwin.terminal import Advance

TRAINING: Final = 24
HELD_OUT: Final = 12
"""Patients: enough of every arm position, condition and scanner, few enough for minutes on two cores."""

_FIRST_SEED: Final = {"training": 20_000, "held-out": 50_000}

_ARMS: Final = ("up", "down", "up", "down", "up", "one-up")
_CONDITIONS: Final[tuple[Condition, ...]] = ("melanoma", "negative", "lymphoma", "lung-cancer")

_LONG: Final = ((0.0, 1.0), (0.36, 0.93))
"""Lowest and highest part of a body's height in a long field of view: everything, or eyes to thighs."""
_SHORT: Final = ((0.78, 1.0), (0.62, 0.86), (0.42, 0.72), (0.25, 0.56), (0.42, 0.86), (0.05, 0.4))
"""And in a short one: head and neck, chest, belly, pelvis and thighs, trunk, legs."""
_SHIFT: Final = 0.04
"""Largest shift of an end of a field of view, as a part of the height."""

_FIELDS: Final = ("long", "short")

_PAINT_MM: Final = 4.0
"""Voxels that bodies are painted with [mm]: no finer than the coarse scanners see."""


def patients(
    role: str, recipe: Recipe, cache: Path, *, workers: int, advance: Advance
) -> list[PreparedStudy]:
    """The prepared studies of `role` (training, held-out): made once, kept in `cache`."""
    count = TRAINING if role == "training" else HELD_OUT
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for done, _ in enumerate(pool.map(partial(_prepare, role, recipe, cache), range(count)), 1):
            advance(done, count, f"{role} phantoms")
    return [study for number in range(count) for study in _read(role, recipe, cache, number)]


def _prepare(role: str, recipe: Recipe, cache: Path, number: int) -> None:
    _read(role, recipe, cache, number)


def _read(role: str, recipe: Recipe, cache: Path, number: int) -> list[PreparedStudy]:
    fields: list[tuple[str, Callable[[], Study]]] = [
        (f"{role}-{number:03d}-{field}", partial(study_of, role, number, field)) for field in _FIELDS
    ]
    return Cohort.prepare(fields, recipe, cache, held_out=0.0).training


def study_of(role: str, number: int, field: str) -> Study:
    """One scan of a patient: the same role, number and field give the same study."""
    imaged = _imaged(role, number)
    random = np.random.default_rng([_FIRST_SEED[role], number, len(field)])
    # Counted otherwise than arms and scanners are, so that no field of view comes with one of them only.
    ends = (
        _LONG[number // 3 % len(_LONG)] if field == "long" else _SHORT[(number + number // 6) % len(_SHORT)]
    )
    low, high = np.clip(ends + random.uniform(-_SHIFT, _SHIFT, 2), 0.0, 1.0)
    ct, pet, lesions = (
        _between(volume, imaged.ct, float(low), float(high))
        for volume in (imaged.ct, imaged.pet, imaged.lesions)
    )
    return Study(f"{role}-{number}-{field}", ct=ct, pet=pet, lesions=lesions, condition=_condition(number))


@lru_cache(maxsize=1)  # a patient's two scans are asked for one after the other
def _imaged(role: str, number: int) -> ImagedPatient:
    seed = _FIRST_SEED[role] + number
    fixed: dict[str, Any] = {
        "arms": _ARMS[number % len(_ARMS)], "contrast": bool(number // 2 % 2), "condition": _condition(number)
    }  # fmt: skip
    phantom = build_patient(random_patient(seed, **fixed), (_PAINT_MM,) * 3)
    site = sorted(COARSE_PRESETS)[number % len(COARSE_PRESETS)]
    # A starter model must not learn that one hospital's PET reads low.
    scanner = COARSE_PRESETS[site].model_copy(update={"suv_scale": 1.0})
    return image_patient(phantom, scanner, seed=seed, when=None)


def _condition(number: int) -> Condition:
    return _CONDITIONS[number // 3 % len(_CONDITIONS)]


def _between(volume: Volume, whole: Volume, low: float, high: float) -> Volume:
    """The slices of `volume` between two parts (0 bottom, 1 top) of the height of `whole`; canonical."""
    upright, whole = volume.canonical(), whole.canonical()
    bottom, height = whole.origin[2], whole.extent_mm[0]
    ends = [(bottom + share * height - upright.origin[2]) / upright.spacing[0] for share in (low, high)]
    depth, rows, columns = upright.shape
    first = min(max(round(ends[0]), 0), depth - 8)
    last = min(max(round(ends[1]), first + 8), depth)
    return upright.crop((first, 0, 0), (last, rows, columns))
