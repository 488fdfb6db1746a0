"""Watching a training: pictures for people, and which step's weights are worth delivering.

With few studies a network overfits within minutes. So the averaged weights scan held-out patients a few
times; those with the smallest error in the body, not gained at the cost of lesions, are delivered.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scantwin.evaluation.held_out import measure
from scantwin.evaluation.references import Statistics, predict_reference
from scantwin.imaging.picture_marks import panel
from scantwin.imaging.pictures import (
    best_coronal_mm,
    ct_slice_image,
    pet_slice_image,
    save_png,
    slice_frame,
)
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.system import Translator
from scantwin.learning.weights import Model
from scantwin.translation.virtual_scanner import VirtualScanner
from scantwin.units import SUV_RANGE

_SPACING: Final = 0.1
"""Smallest share of the training between two looks."""

_AFFORDED: Final = 0.15
"""Share of a budget that looks may use up."""

_CAUTION: Final = 1.2
"""How many times longer than expected measuring may take."""

_IN_LESIONS: Final = 0.92
"""Lesion error, as a share of the HU curve's, above which it adds to a step's score. It is some way below 1,
since a handful of held-out patients tell this share to a tenth at best, and a little more training costs the
body little (7 of 28 real patients, steps 200 to 400: 0.84 to 0.85, in lesions 0.90 to 0.86)."""


@dataclass
class Watch:
    """The `Watcher` of a Translator's training."""

    system: Translator
    held_out: list[PreparedStudy]
    """The studies that a step is scored on; without them there is no score."""
    training: Statistics
    """Training statistics: errors are judged relative to the simple references."""
    shown: PreparedStudy | None
    """The patient in the pictures; none are taken without one."""
    pictures: Path | None = None
    """Folder of pictures; none without it."""
    pictures_every_s: float = 60.0
    budget_s: float | None = None
    """With a budget, looks are spaced so that they use up little of it."""
    scores: dict[int, dict[str, float]] = field(default_factory=dict)
    """Step -> errors relative to the references: in the body to the median, in lesions to the HU curve."""
    takes_s: float = 0.0
    """How long the last score took [s]."""
    _score_now: bool = True
    _pictured: float = field(default_factory=time.monotonic)

    def due(self, before: float, now: float) -> bool:
        """Whether it is time for a score or a picture."""
        score = bool(self.held_out) and int(now / self._spacing) > int(before / self._spacing)
        picture = self._picture_due()
        # A look that was not due is one at the end of a stage: it is scored.
        self._score_now = score or not picture
        return score or picture

    def look(self, step: int, *, scored: bool = True) -> float | None:
        """Takes a picture if it is time; scores the system on held-out patients unless only that was due."""
        if self._picture_due():
            self._take_picture(step)
        wanted, self._score_now = self._score_now and bool(self.held_out), True
        return self._score(step) if wanted and scored else None

    def _score(self, step: int) -> float:
        began = time.monotonic()
        errors = np.array([self._errors(study, self._scan(study)) for study in self.held_out])
        body, lesions = (float(v) for v in _means(errors) / self._reference)
        self.scores[step] = {"body": body}
        score = body
        if np.isfinite(lesions):
            score += max(0.0, lesions - _IN_LESIONS)
            self.scores[step]["lesions"] = lesions
        self.takes_s = time.monotonic() - began
        return score

    @property
    def _spacing(self) -> float:
        """Share of the training between two looks."""
        return max(_SPACING, self.takes_s / self.budget_s / _AFFORDED) if self.budget_s else _SPACING

    @cached_property
    def _reference(self) -> NDArray[np.float64]:
        """Errors of the references [g/ml]: the median's in the body, the HU curve's in lesions."""
        errors = []
        for study in self.held_out:
            median, curve = (
                predict_reference(reference, self.training, "whole-body", study.hu)
                for reference in ("training-median", "hu-curve")
            )
            if median is None or curve is None:
                return np.ones(2)
            errors.append((self._errors(study, median)[0], self._errors(study, curve)[1]))
        return _means(np.array(errors))

    def _errors(self, study: PreparedStudy, said: NDArray[np.float32]) -> tuple[float, float]:
        """Mean absolute error [g/ml] in the part of the body that the recipe has districts for, and in the
        lesions there; NaN if there are none."""
        assert study.suv is not None  # noqa: S101 - held-out studies have a PET
        error = np.abs(said - np.clip(study.suv, *SUV_RANGE))
        inside = self._scanner.spoken_of(study).body
        body = float(error[inside].mean())
        if study.lesions is None or not (lesions := inside & (study.lesions > 0)).any():
            return body, float("nan")
        return body, float(error[lesions].mean())

    def _scan(self, study: PreparedStudy) -> NDArray[np.float32]:
        return self._scanner.synthesise(study).pet

    @cached_property
    def _scanner(self) -> VirtualScanner:
        record = {"patches": dict.fromkeys(self.system.components(), 1)}
        return VirtualScanner(Model(self.system.recipe, {}, record), self.system)

    def _picture_due(self) -> bool:
        if self.pictures is None or self.shown is None:
            return False
        return time.monotonic() - self._pictured >= self.pictures_every_s

    def _take_picture(self, step: int) -> None:
        study = self.shown
        assert self.pictures and study  # noqa: S101 - `_picture_due` saw to it
        place = study.grid.with_array
        hu = place(study.hu, "HU")
        frame = slice_frame(hu, "coronal", best_coronal_mm(hu))
        row = {"CT": ct_slice_image(hu, frame=frame)}
        if study.suv is not None:
            row["PET"] = pet_slice_image(place(study.suv, "SUV"), frame=frame, synthetic=False)
        row["synthetic PET"] = pet_slice_image(place(self._scan(study), "SUV"), frame=frame)
        save_picture(panel([[*row.values()]], columns=[*row], title=f"step {step}"), self.pictures, step)
        self._pictured = time.monotonic()


def save_picture(picture: Image.Image, folder: Path, step: int) -> None:
    """Saves a picture of a training in `folder`, both readable only by their owner: it shows a patient."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    save_png(picture, folder / f"step-{step:06d}.png").chmod(0o600)


def time_to_measure(throwaway: Translator, held_out: list[PreparedStudy]) -> float:
    """About how long `held_out.measure` will take [s], from measuring the smallest patient.

    The weights of `throwaway` are moved off zero first: a network of zeros may cost nothing.
    """
    if not held_out:
        return 0.0
    for network in throwaway.components().values():
        for parameter in network.parameters():
            parameter.data.add_(1e-3)
    smallest = min(held_out, key=lambda study: study.hu.size)
    began = time.monotonic()
    measure(throwaway, [smallest])
    voxels = sum(study.hu.size for study in held_out)
    return _CAUTION * (time.monotonic() - began) * voxels / smallest.hu.size


def _means(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over patients of (patient, 2) errors; NaN if no patient has any."""
    known = np.isfinite(errors)
    counts = np.where(known.any(0), known.sum(0), np.nan)
    return np.asarray(np.where(known, errors, 0.0).sum(0) / counts, np.float64)
