"""`Cohort`: a site's studies, prepared once and kept on disk, split into training and held-out patients."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from scantwin.errors import InputError, Rejection
from scantwin.files import whole_file
from scantwin.imaging.study import Study
from scantwin.imaging.volume import Volume
from scantwin.learning.held_out_patients import Assigned
from scantwin.learning.mapped import NotMapped, mapped
from scantwin.learning.prepared import PreparedStudy, prepare, prepare_ct
from scantwin.learning.recipe import Recipe
from scantwin.terminal import Advance, silent

_SUFFIX = ".10.safetensors"
"""Suffix of the cached files, with their format version: raised when the prepared content changes."""


@dataclass(frozen=True)
class Cohort:
    """Prepared studies; each patient is either for training or held out, never both.

    Their images stay in the cache's files, which are memory-mapped: a cohort may be larger than memory
    (docs/translation.md, "Memory").
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
        assigned: Path | None = None,
        patient_of: Callable[[str], str] = str,
        version_of: Callable[[str], str] = lambda _: "",
        refused: Callable[[Rejection], None] | None = None,
        advance: Advance = silent,
    ) -> Cohort:
        """Prepares `studies` (name, how to read it) on the recipe's grid; cached ones are not read again.

        A study without a PET cannot teach a paired system and is left out. Unpaired training uses such
        studies, and PETs without a CT (`Study.has_ct`), but is measured on studies that have both. Systems
        that make CT need only a CT (`prepared.prepare_ct`). `held_out` is the share of patients kept for
        measuring, at least one if there are two or more. The choice depends on their names, on `salt` and on
        who was held out before, which the file `assigned` remembers. `patient_of` gives the patient of a
        study's name: all studies of a patient are on one side. `version_of` gives a string that changes when
        a study's files do, so that it is read again. A study that cannot be read goes to `refused`; without
        it the `Rejection` is raised. Raises `InputError` if there is nothing that the recipe can learn from.
        """
        named = sorted(studies, key=lambda pair: pair[0])
        _keep_private(cache)
        _drop_older(cache)
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
        complete = [pair for pair in prepared if _complete(pair[1], recipe) and _shown(pair[1], recipe)]
        earlier = Assigned.read(assigned)
        kept = earlier.held_out_of({patient for patient, _ in complete}, held_out, salt)
        # A held-out patient who lacks a PET today may have one tomorrow, and be measured on.
        kept |= {patient for patient, _ in prepared} & set(earlier.held_out)
        if assigned:
            earlier.keep(assigned, {patient for patient, _ in prepared} - kept, kept)
        training = [study for patient, study in prepared if patient not in kept]
        return cls(training, [study for patient, study in complete if patient in kept])


def _complete(study: PreparedStudy, recipe: Recipe) -> bool:
    """Whether the study has everything that a model of `recipe` is measured on."""
    return study.has_ct and (recipe.makes_ct or study.suv is not None)


def _shown(study: PreparedStudy, recipe: Recipe) -> bool:
    """Whether the study shows any district of `recipe`; otherwise nothing can be measured on it."""
    return not study.boxes.keys().isdisjoint(recipe.districts)


def _require_strangers(studies: list[PreparedStudy], recipe: Recipe) -> None:
    """Raises `InputError` if no district of `recipe` has both CTs and PETs, of whichever patients."""
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


def forget_prepared(cache: Path, studies: Iterable[str]) -> None:
    """Deletes the cached files of these studies, and those whose study cannot be determined."""
    gone = set(studies)
    for path in cache.glob("*.safetensors"):
        whose = _whose(path)
        if whose is None or whose in gone:
            path.unlink(missing_ok=True)


def _whose(path: Path) -> str | None:
    """The name of the study that a cached file was prepared from; None if the file does not say."""
    try:
        return str(json.loads(mapped(path)[0]["study"])["name"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _keep_private(cache: Path) -> None:
    """Creates the cache, accessible to its owner only: it holds patients' images."""
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    if cache.stat().st_mode & 0o077:  # made by an older ScanTwin
        cache.chmod(0o700)


def _drop_older(cache: Path) -> None:
    """Deletes what an older ScanTwin prepared: nothing will ask for it."""
    for path in cache.glob("*.safetensors"):
        if not path.name.endswith(_SUFFIX):
            path.unlink(missing_ok=True)


def _cached(name: str, version: str, read: Callable[[], Study], recipe: Recipe, cache: Path) -> PreparedStudy:
    split = recipe.districts != ("whole-body",)
    what = f":ct:{split}" if recipe.makes_ct else ""
    parts = f"{name}:{version}:{recipe.spacing_mm}{what}"
    key = hashlib.sha256(parts.encode()).hexdigest()[:24]
    path = cache / f"{key}{_SUFFIX}"
    try:
        return load_prepared(path)
    except (FileNotFoundError, NotMapped):
        pass
    if recipe.makes_ct:
        prepared = prepare_ct(read(), recipe.spacing_mm, districts=split)
    else:
        prepared = prepare(read(), recipe.spacing_mm)
    save_prepared(prepared, path)
    # Read back what was written, so that a cached and a fresh study are the same to the bit.
    return load_prepared(path)


def save_prepared(study: PreparedStudy, path: Path) -> None:
    """Writes a prepared study for its owner only; images are stored as used, for `load_prepared` to map."""
    pet, pet_lesions = study.pet, study.pet_lesions
    arrays: dict[str, Any] = {
        "hu": np.rint(study.hu).astype(np.float32),
        "body": study.body, "labels": study.labels,
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
    with whole_file(path, private=True) as aside:
        save_file(present, aside, metadata={"study": json.dumps(about)})


def load_prepared(path: Path) -> PreparedStudy:
    """What `save_prepared` wrote. Its images are mapped from the file (`mapped`): the operating system takes
    back the memory of what was read of them when it is short of it.

    Raises `FileNotFoundError`, `NotMapped`.
    """
    metadata, found = mapped(path)
    arrays: dict[str, Any] = dict(found)
    try:
        about, hu = json.loads(metadata["study"]), arrays["hu"]
        pet = None if about["pet"] is None else _placed(about["pet"], arrays["pet"])
        nothing = np.broadcast_to(np.uint8(0), hu.shape)  # takes no memory
        return PreparedStudy(
            name=about["name"], condition=about["condition"], confidence=about["confidence"],
            has_ct=about["has_ct"], sides=_pairs(about["sides"]), grid=_placed(about["grid"], nothing),
            hu=hu, body=arrays["body"], labels=arrays["labels"], depth=arrays.get("depth", nothing),
            organs=arrays.get("organs"), suv=arrays.get("suv"), lesions=arrays.get("lesions"),
            pet=pet, pet_lesions=arrays.get("pet_lesions"),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError) as error:
        raise NotMapped(f"{path} is no prepared study") from error


def _pairs(sides: list[list[float]] | None) -> tuple[tuple[float, float], tuple[float, float]] | None:
    if sides is None:
        return None
    (y0, y1), (x0, x1) = sides
    return (y0, y1), (x0, x1)


def _place(volume: Volume) -> dict[str, Any]:
    return {
        "spacing": volume.spacing, "origin": volume.origin,
        "direction": volume.direction.tolist(), "unit": volume.unit,
    }  # fmt: skip


def _placed(place: dict[str, Any], array: np.ndarray) -> Volume:
    direction = np.asarray(place["direction"])
    return Volume(array, tuple(place["spacing"]), tuple(place["origin"]), direction, place["unit"])
