"""A patient: what is known about them, and their body as true HU and true SUV on a grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from scantwin.imaging.study import Condition
from scantwin.imaging.volume import Volume
from scantwin.phantoms.anatomy_body import body_distances, districts, lean_volume_ml, table_y
from scantwin.phantoms.anatomy import paint_organs
from scantwin.phantoms.canvas import Canvas, Grid
from scantwin.phantoms.frame import Frame, Jitter
from scantwin.phantoms.tissues import ORGANS, TISSUES
from scantwin.phantoms.uptake import sample_uptake


class PatientSpec(BaseModel):
    """What makes one patient. The same spec gives the same patient, on every grid."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(ge=0)
    sex: Literal["M", "F"]
    age: int = Field(ge=18, le=95)
    """[years]."""
    height_cm: float = Field(ge=140, le=205)
    bmi: float = Field(ge=16, le=45)
    """[kg/m2]."""
    arms: Literal["up", "down", "one-up"] = "up"
    condition: Condition = "negative"
    contrast: bool = False
    """Portal-venous contrast in the CT."""
    fasted: Literal["4-6h", "overnight", "low-carb"] = "4-6h"
    """Decides how often the myocardium shows (PMC4157186)."""

    @property
    def weight_kg(self) -> float:
        """[kg]."""
        return self.bmi * (self.height_cm / 100) ** 2


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
    """0 none, 1.. lesions."""
    districts: Volume
    """DISTRICT_LABEL."""
    table_y_mm: float
    """World y of the table top [mm]."""
    dome_z_mm: float
    """World z of the dome of the liver [mm]."""


def random_patient(seed: int, **fixed: Any) -> PatientSpec:
    """A patient by chance; what is given in `fixed` is kept."""
    rng = np.random.default_rng([seed, 1])
    sex = fixed.get("sex", str(rng.choice(["M", "F"], p=[0.55, 0.45])))
    mean, sd = (176.0, 7.0) if sex == "M" else (163.0, 6.5)
    drawn: dict[str, Any] = {
        "seed": seed,
        "sex": sex,
        "age": int(np.clip(rng.normal(60, 15), 20, 92)),
        "height_cm": round(float(np.clip(rng.normal(mean, sd), 145, 200)), 1),
        "bmi": round(float(np.clip(rng.lognormal(np.log(25.8), 0.17), 17, 42)), 1),
        "arms": str(rng.choice(["up", "down", "one-up"], p=[0.75, 0.2, 0.05])),
        "condition": str(
            rng.choice(["negative", "melanoma", "lymphoma", "lung-cancer"], p=[0.5, 0.19, 0.14, 0.17])
        ),
        "contrast": bool(rng.random() < 0.5),
        "fasted": str(rng.choice(["4-6h", "overnight", "low-carb"], p=[0.7, 0.2, 0.1])),
    }
    return PatientSpec(**{**drawn, **fixed})


def frame_of(spec: PatientSpec) -> Frame:
    """The measures of the body; the fat is as thick as the patient's weight asks for."""
    jitter = Jitter(spec.seed)
    lean = float(np.clip(1 + 0.012 * (spec.bmi - 24) + 0.03 * jitter["lean"][0], 0.85, 1.2))
    visceral = max(0.0, spec.bmi - 21) * (2.6 if spec.sex == "M" else 1.8) * (1 + 0.2 * jitter["visceral"][0])

    def frame(fat: float) -> Frame:
        return Frame(
            spec.height_cm * 10, spec.sex, spec.bmi, spec.arms, lean * (0.86 if spec.sex == "F" else 1.0), fat,
            visceral, jitter,
        )  # fmt: skip

    low, high = 0.15, 8.0
    for _ in range(24):
        fat = (low + high) / 2
        whole, _ = lean_volume_ml(frame(fat))
        # Lungs and gas weigh little: about 4 l of the outline is air (assumed).
        if (whole - 4000 * (spec.height_cm / 176) ** 3) * 1.02 < spec.weight_kg * 1000:
            low = fat
        else:
            high = fat
    return frame((low + high) / 2)


def build_patient(spec: PatientSpec, spacing_mm: tuple[float, float, float] = (4.0, 4.0, 4.0)) -> Phantom:
    """Paints the patient on a canonical grid of `spacing_mm` (z, y, x)."""
    f = frame_of(spec)
    suv = sample_uptake(np.random.default_rng([spec.seed, 3]))
    values = {name: (t.hu_venous if spec.contrast else t.hu_plain, suv[name]) for name, t in TISSUES.items()}
    top = f.height + (190 * f.s if spec.arms != "down" else 25)
    half = 330.0 if spec.arms == "down" or spec.bmi < 33 else 360.0
    low = np.array([-30.0, -260.0, -half])
    high = np.array([top, 220.0, half])
    grid = Grid.over(low, high, spacing_mm)
    canvas = Canvas(grid, spacing_mm, spec.seed, values)
    skin, lean = body_distances(canvas, f)
    whole = (slice(None), slice(None), slice(None))
    canvas.cover("skin", whole, skin)
    canvas.cover("subcutaneous-fat", whole, skin + np.float32(2.0))
    canvas.cover("muscle", whole, np.maximum(lean, skin + np.float32(2.5)))
    paint_organs(canvas, f)
    canvas.texture({})
    body = skin < 0
    origin = (float(grid.x[0]), float(grid.y[0]), float(grid.z[0]))
    labels = Volume(canvas.labels, spacing_mm, origin, unit="label")
    return Phantom(
        spec, labels, labels.with_array(canvas.hu, "HU"), labels.with_array(canvas.suv, "SUV"),
        labels.with_array(np.zeros(grid.shape, np.uint8)), labels.with_array(districts(canvas, f, body)), table_y(f), f.z(0.725),
    )  # fmt: skip


__all__ = ["ORGANS", "PatientSpec", "Phantom", "build_patient", "random_patient"]
