"""A patient's body as true HU and true SUV on a grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from scantwin.imaging.volume import Volume
from scantwin.phantoms.anatomy import paint_brown_fat, paint_organs
from scantwin.phantoms.anatomy_body import (
    arm,
    arm_is_up,
    body_distances,
    districts,
    table_y,
    trunk_rows,
    volume_estimate_ml,
    volume_ml,
)  # fmt: skip
from scantwin.phantoms.canvas import Canvas, Grid
from scantwin.phantoms.frame import Frame, Jitter
from scantwin.phantoms.lesions import Lesion, paint_lesions
from scantwin.phantoms.spec import PatientSpec, random_patient
from scantwin.phantoms.tissues import ORGANS, TISSUES
from scantwin.phantoms.uptake import REMAINDER, REMAINDER_SCALE, sample_uptake

_AIR_ML: Final = 3300.0
"""Gas in the reference man's lungs, airways and bowel [ml]; assumed."""
_SKIN_MM: Final = 2.0
"""Thickness of the skin [mm]: 3.3 kg over 1.9 square metres, rounded up."""


@dataclass(frozen=True, eq=False)
class Phantom:
    """A patient's true body on one grid; every volume has the same voxels."""

    spec: PatientSpec
    organs: Volume
    """Tissue labels (ORGANS)."""
    hu: Volume
    """True CT numbers [HU]."""
    suv: Volume
    """True uptake, SUVbw [g/ml]."""
    lesions: Volume
    """Lesion labels: 0 none, 1.. lesions."""
    districts: Volume
    """District labels (DISTRICT_LABEL)."""
    truth: tuple[Lesion, ...]
    """The properties of each lesion."""
    landmarks: dict[str, tuple[float, float, float]]
    """World points (x, y, z) [mm] by name."""


def frame_of(spec: PatientSpec) -> Frame:
    """The measures of the body; the fat is as thick as the patient's weight requires."""
    jitter = Jitter(spec.seed)
    lean = float(np.clip(0.95 + 0.018 * (spec.bmi - 24) + 0.03 * jitter["lean"][0], 0.8, 1.25))
    if spec.sex == "F":
        lean *= 0.84
    visceral = max(0.0, spec.bmi - 21) * (2.6 if spec.sex == "M" else 1.8) * (1 + 0.2 * jitter["visceral"][0])
    height = spec.height_cm * 10

    def frame(fat: float) -> Frame:
        return Frame(height, spec.sex, spec.bmi, spec.arms, lean, fat, float(visceral), spec.seed, jitter)

    # Lungs, airways and gas: about 4 l of the outline weigh little; the rest has 1.02 g/ml (assumed).
    wanted = spec.weight_kg * 1000 / 1.02 + _AIR_ML * (spec.height_cm / 176) ** 3
    found = frame(_fat_for(frame, wanted))
    # The estimate ignores fillets and overlaps, so correct it once by the volume as painted.
    return frame(_fat_for(frame, wanted * volume_estimate_ml(found) / volume_ml(found)))


def _fat_for(frame: Callable[[float], Frame], wanted_ml: float) -> float:
    """Thickness of the fat at which the outline has a volume of `wanted_ml`, by bisection."""
    low, high = 0.15, 8.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if volume_estimate_ml(frame(middle)) < wanted_ml else (low, middle)
    return (low + high) / 2


def build_patient(spec: PatientSpec, spacing_mm: tuple[float, float, float] = (4.0, 4.0, 4.0)) -> Phantom:
    """Paints the patient on a canonical grid of `spacing_mm` (z, y, x)."""
    f = frame_of(spec)
    uptake = sample_uptake(spec)
    values = {name: (uptake.hu[name], uptake.suv[name]) for name in TISSUES}
    grid = _grid(f, spacing_mm)
    canvas = Canvas(grid, spacing_mm, spec.seed, values)
    skin, lean = body_distances(canvas, f)
    whole = (slice(None), slice(None), slice(None))
    canvas.cover("skin", whole, skin)
    canvas.cover("subcutaneous-fat", whole, skin + np.float32(_SKIN_MM))
    canvas.cover("muscle", whole, np.maximum(lean, skin + np.float32(_SKIN_MM + 0.5)))
    paint_organs(canvas, f)
    if spec.brown_fat:
        paint_brown_fat(canvas, f)
    _close(canvas, spec, uptake.closure)
    canvas.texture(uptake.texture)
    labels, lesions = paint_lesions(canvas, f, spec)
    place = districts(canvas, f, skin < 0)
    origin = (float(grid.x[0]), float(grid.y[0]), float(grid.z[0]))
    organs = Volume(canvas.labels, spacing_mm, origin, unit="label")
    return Phantom(
        spec, organs, organs.with_array(canvas.hu, "HU"), organs.with_array(canvas.suv, "SUV"),
        organs.with_array(labels), organs.with_array(place), lesions, landmarks(f),
    )  # fmt: skip


def _grid(f: Frame, spacing_mm: tuple[float, float, float]) -> Grid:
    """A grid for the whole body, including raised arms."""
    hands = np.concatenate([arm(f, side, up=arm_is_up(f, side)).points for side in (1, -1)])
    top = max(f.height + 20, float(hands[:, 2].max()) + 35)
    reach = float(np.abs(hands[:, 0]).max())
    hips = float(trunk_rows(f, fat=True)[:, 2].max())
    half = max(reach + 75, hips + 30)
    front = -float(trunk_rows(f, fat=True)[:, 3].min()) + 25
    low = np.array([-35.0, -max(front, 190 * f.s), -half])
    return Grid.over(low, np.array([top, table_y(f) + 70, half]), spacing_mm)


def _close(canvas: Canvas, spec: PatientSpec, wanted: float) -> None:
    """Scales the uptake of muscle, fat and the like so that the body's mean SUV is `wanted`.

    Activity is conserved: the sum of SUV times volume over the weight is the fraction that was not voided.
    """
    voxel = float(np.prod(canvas.spacing)) / 1000
    sums = np.bincount(canvas.labels.ravel(), canvas.suv.ravel(), len(ORGANS)) * voxel
    rest = [ORGANS[name] for name in REMAINDER]
    missing = wanted * spec.weight_kg * 1000 - (sums.sum() - sums[rest].sum())
    factor = float(np.clip(missing / max(sums[rest].sum(), 1e-6), *REMAINDER_SCALE))
    scale = np.ones(len(ORGANS), np.float32)
    scale[rest] = factor
    canvas.suv *= scale[canvas.labels]


def landmarks(f: Frame) -> dict[str, tuple[float, float, float]]:
    """World points (x, y, z) [mm] that scanners and tests need."""
    points = {
        "liver-dome": f.at(-66, -14, 0.725),
        "liver": f.at(-66, 8, 0.682),
        "hip-left": f.at(88, 2, 0.5265),
        "table": np.array([0.0, table_y(f), 0.0]),
    }
    return {name: (float(p[0]), float(p[1]), float(p[2])) for name, p in points.items()}


__all__ = ["ORGANS", "PatientSpec", "Phantom", "build_patient", "landmarks", "random_patient"]
