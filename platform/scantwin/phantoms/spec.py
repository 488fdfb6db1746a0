"""What is known about one patient."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from scantwin.imaging.study import Condition
from scantwin.phantoms.frame import Arms, Sex


class PatientSpec(BaseModel):
    """The specification of one patient. The same spec gives the same patient on every grid."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(ge=0)
    sex: Sex
    age: int = Field(ge=18, le=95)
    """[years]."""
    height_cm: float = Field(ge=140, le=205)
    bmi: float = Field(ge=16, le=45)
    """[kg/m2]."""
    arms: Arms = "up"
    condition: Condition = "negative"
    contrast: bool = False
    """Portal-venous contrast in the CT."""
    fasted: Literal["4-6h", "overnight", "low-carb"] = "4-6h"
    """Determines how often the myocardium is visible (PMC4157186)."""
    glucose_mmol: float = Field(default=5.5, ge=2.5, le=25)
    """Blood glucose [mmol/l]; the brain takes up less FDG when it is high (assumed)."""
    furosemide: bool = False
    """Given before the scan: the bladder is half as hot (AC)."""
    metformin: bool = False
    """Raises the uptake from the ileum to the rectum (ME)."""
    brown_fat: bool = False
    """Active brown fat around the neck and the upper spine; 3.6 % of scans (BF)."""
    prosthesis: bool = False
    """A metal prosthesis in the left hip."""

    @property
    def weight_kg(self) -> float:
        """[kg]."""
        return self.bmi * (self.height_cm / 100) ** 2


def random_patient(seed: int, **fixed: Any) -> PatientSpec:
    """A random patient. Whatever `fixed` gives is kept, and changes nothing except what follows from it.
    Conditions are as frequent as in FDG-PET-CT-Lesions (GA); the rest is assumed."""
    rng = np.random.default_rng([seed, 1])
    normal, even = rng.standard_normal(4), rng.random(12)
    sex = fixed.get("sex", "M" if even[0] < 0.55 else "F")
    mean, sd = (176.0, 7.0) if sex == "M" else (163.0, 6.5)
    drawn: dict[str, Any] = {
        "seed": seed,
        "sex": sex,
        "age": int(np.clip(60 + 15 * normal[0], 20, 92)),
        "height_cm": round(float(np.clip(mean + sd * normal[1], 145, 200)), 1),
        "bmi": round(float(np.clip(25.6 * np.exp(0.17 * normal[2]), 17, 42)), 1),
        "arms": _pick(even[1], {"up": 0.75, "down": 0.2, "one-up": 0.05}),
        # 513 negative, 188 melanoma, 145 lymphoma, 168 lung cancer.
        "condition": _pick(
            even[2], {"negative": 0.506, "melanoma": 0.185, "lymphoma": 0.143, "lung-cancer": 0.166}
        ),
        "contrast": bool(even[3] < 0.5),
        "fasted": _pick(even[4], {"4-6h": 0.65, "overnight": 0.25, "low-carb": 0.1}),
        "glucose_mmol": round(float(np.clip(5.6 * np.exp(0.16 * normal[3]), 3.6, 13)), 1),
        "furosemide": bool(even[5] < 0.35),
        "metformin": bool(even[6] < 0.08),
        "brown_fat": bool(even[7] < 0.036),
        "prosthesis": bool(even[8] < 0.02),
    }
    return PatientSpec(**{**drawn, **fixed})


def _pick(u: float, shares: dict[str, float]) -> str:
    """The name whose share of 0..1 contains `u`."""
    edges = np.cumsum(list(shares.values()))
    return list(shares)[min(int(np.searchsorted(edges, u * edges[-1])), len(shares) - 1)]
