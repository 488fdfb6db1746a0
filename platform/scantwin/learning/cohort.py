"""`Cohort`: a site's studies, prepared once and kept on disk, split into training and held-out patients."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from scantwin.errors import InputError, Rejection
from scantwin.files import whole_file
from scantwin.imaging.study import Study
from scantwin.imaging.volume import Volume
from scantwin.learning.prepared import PreparedStudy, prepare, prepare_ct
from scantwin.learning.recipe import Recipe
from scantwin.terminal import Advance, silent

_FORMAT = 8
"""Of the cached files; raised when what is prepared changes."""

_OWN_GRID = frozenset({"pet", "pet_lesions"})
"""Arrays of a cached file on the PET's own grid: only metrics read them."""


@dataclass(frozen=True)
class Cohort:
    """Prepared studies; a patient is either for training or held out, never both.

    All of them are in memory (docs/translation.md says how much that is), except for PETs on their own grid.
    """

    training: list[PreparedStudy]
    held_out: list[PreparedStudy]

    @classmethod
    def prepare(
        cls,
        studies: Iterable[tuple[str, Callable[[], Study]]],
        recipe: Recipe,
        cache: Path,
        *,
        held_out: float = 0.25,
        salt: str = "",
        patient_of: Callable[[str], str] = str,
        version_of: Callable[[str], str] = lambda _: "",
        refused: Callable[[Rejection], None] | None = None,
        advance: Advance = silent,
    ) -> Cohort:
        """Prepares `studies` (name, how to read it) on the recipe's grid; cached ones are not read again.

        A study without a PET cannot teach a paired system and is left out; unpaired training uses it, and
        PETs without a CT (`Study.has_ct`), but measures on studies that have both. Systems that make
        CT need nothing but a CT (`prepared.prepare_ct`). `held_out` is the
        share of patients kept for measuring, at least one of two or more; who they are depends on their
        names and `salt` only. `patient_of` gives the patient of a study's name: all studies of a patient
        are on one side; `version_of` what changes when its files do, so that it is read again. A study that
        cannot be read goes to `refused`; without it the `Rejection` is raised. Raises `InputError` where
        there is nothing that the recipe can learn from.
        """
        named = sorted(studies, key=lambda pair: pair[0])
        prepared = []
        for number, (name, read) in enumerate(named):
            advance(number, len(named), name)
            try:
                study = _cached(name, version_of(name), read, recipe, cache)
            except Rejection as rejection:
                if refused is None:
                    raise
                refused(rejection)
                continue
            if _complete(study, recipe) or recipe.unpaired:
                prepared.append((patient_of(name), study))
        advance(len(named), len(named))
        if recipe.unpaired:
            _require_strangers([study for _, study in prepared], recipe)
        elif not prepared and recipe.makes_ct:
            raise InputError("No study with a CT was found.", hint="Training needs CTs.")
        elif not prepared:
            raise InputError("No study with both a CT and a PET was found.", hint="Training needs pairs.")
        complete = [(patient, study) for patient, study in prepared if _complete(study, recipe)]
        kept = _held_out_patients({patient for patient, _ in complete}, held_out, salt)
        training = [study for patient, study in prepared if patient not in kept]
        return cls(training, [study for patient, study in complete if patient in kept])


def _complete(study: PreparedStudy, recipe: Recipe) -> bool:
    """Whether the study has all that a model of `recipe` is measured on."""
    return study.has_ct and (recipe.makes_ct or study.suv is not None)


def _require_strangers(studies: list[PreparedStudy], recipe: Recipe) -> None:
    """Raises `InputError` where no district of `recipe` has both CTs and PETs, of whichever patients."""
    cts = {district for s in studies if s.has_ct for district in s.boxes}
    pets = {district for s in studies if s.suv is not None for district in s.boxes}
    if not cts or not pets:
        missing = "PET" if cts else "CT"
        raise InputError(
            f"No study with a {missing} was found.",
            hint="Training without pairs needs CTs and PETs, of different patients if need be.",
        )
    if not cts & pets & set(recipe.districts):
        raise InputError(
            "None of the recipe's districts has both CTs and PETs.",
            hint="PETs without a CT teach whole-body only: add it to the recipe's districts.",
        )


def _held_out_patients(patients: set[str], share: float, salt: str) -> set[str]:
    if share <= 0 or len(patients) < 2:
        return set()
    count = min(max(round(len(patients) * share), 1), len(patients) - 1)
    by_chance = sorted(patients, key=lambda name: hashlib.sha256(f"{salt}:{name}".encode()).digest())
    return set(by_chance[:count])


def _cached(name: str, version: str, read: Callable[[], Study], recipe: Recipe, cache: Path) -> PreparedStudy:
    split = recipe.districts != ("whole-body",)
    what = f":ct:{split}" if recipe.makes_ct else ""
    parts = f"{_FORMAT}:{name}:{version}:{recipe.spacing_mm}{what}"
    key = hashlib.sha256(parts.encode()).hexdigest()[:24]
    path = cache / f"{key}.safetensors"
    try:
        return load_prepared(path)
    except (FileNotFoundError, SafetensorError):
        pass
    if recipe.makes_ct:
        prepared = prepare_ct(read(), recipe.spacing_mm, districts=split)
    else:
        prepared = prepare(read(), recipe.spacing_mm)
    save_prepared(prepared, path)
    # Read back what was written: a cached and a fresh study are then the same to the bit.
    return load_prepared(path)


def save_prepared(study: PreparedStudy, path: Path) -> None:
    """Writes a prepared study; CT as int16 [HU], PET as float32 [g/ml]."""
    pet, pet_lesions = study.pet, study.pet_lesions
    arrays: dict[str, Any] = {
        "hu": np.clip(np.rint(study.hu), -32768, 32767).astype(np.int16),
        "body": study.body.astype(np.uint8), "labels": study.labels,
        "depth": study.depth.astype(np.float16) if study.organs is None else None,
        "organs": study.organs,
        "suv": study.suv, "lesions": study.lesions, "pet_lesions": pet_lesions,
        "pet": None if pet is None else pet.array.astype(np.float32),
    }  # fmt: skip
    about = {
        "name": study.name, "condition": study.condition, "confidence": study.confidence,
        "has_ct": study.has_ct, "sides": study.sides,
        "grid": _place(study.grid), "pet": None if pet is None else _place(pet),
    }  # fmt: skip
    present = {k: np.ascontiguousarray(v) for k, v in arrays.items() if v is not None}
    with whole_file(path) as aside:
        save_file(present, aside, metadata={"study": json.dumps(about)})


def load_prepared(path: Path) -> PreparedStudy:
    """Reads what `save_prepared` wrote; what is on the PET's own grid each time that it is asked for.

    Raises `FileNotFoundError`, `SafetensorError`.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    with safe_open(path, framework="numpy") as file:
        about = json.loads(file.metadata()["study"])
        arrays = {key: file.get_tensor(key) for key in set(file.keys()) - _OWN_GRID}
    shape = arrays["hu"].shape
    own = _on_own_grid(path)
    return PreparedStudy(
        name=about["name"], condition=about["condition"], confidence=about["confidence"],
        has_ct=about["has_ct"], sides=_pairs(about["sides"]),
        grid=_placed(about["grid"], np.broadcast_to(np.uint8(0), shape)),
        hu=arrays["hu"].astype(np.float32), body=arrays["body"].astype(bool), labels=arrays["labels"],
        depth=_depth(arrays, shape), organs=arrays.get("organs"),
        suv=arrays.get("suv"), lesions=arrays.get("lesions"),
        pet=partial(_pet, about["pet"], own["pet"]) if "pet" in own else None,
        pet_lesions=own.get("pet_lesions"),
    )  # fmt: skip


def _on_own_grid(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    """What reads the arrays on the PET's own grid, by name; also when the file was deleted by then."""
    # Opened for these alone: they hold the file, and what was read of it through them counts as used memory.
    with safe_open(path, framework="numpy") as file:
        slices = {key: file.get_slice(key) for key in _OWN_GRID.intersection(file.keys())}
    return {key: partial(_whole, part) for key, part in slices.items()}


def _whole(part: Any) -> np.ndarray:
    return np.asarray(part[:])


def _pet(place: dict[str, Any], read: Callable[[], np.ndarray]) -> Volume:
    return _placed(place, read())


def _pairs(sides: list[list[float]] | None) -> tuple[tuple[float, float], tuple[float, float]] | None:
    if sides is None:
        return None
    (y0, y1), (x0, x1) = sides
    return (y0, y1), (x0, x1)


def _depth(arrays: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    if "depth" in arrays:
        return np.asarray(arrays["depth"], np.float32)
    return np.broadcast_to(np.float32(0.0), shape)  # takes no memory


def _place(volume: Volume) -> dict[str, Any]:
    return {
        "spacing": volume.spacing, "origin": volume.origin,
        "direction": volume.direction.tolist(), "unit": volume.unit,
    }  # fmt: skip


def _placed(place: dict[str, Any], array: np.ndarray) -> Volume:
    direction = np.asarray(place["direction"])
    return Volume(array, tuple(place["spacing"]), tuple(place["origin"]), direction, place["unit"])
