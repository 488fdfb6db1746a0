"""HU and uptake of one patient: the mean of every tissue, with correlations near the published ones.

Sources: r = 0.82 between liver and blood, CV of their ratio 15 % (CV); marrow falls with age, r = -0.52 (LU);
tonsils r = -0.51, sublingual glands r = -0.70 with age (NA); brain falls with age (GU) and glucose (assumed);
myocardium by fasting (MY), suppressed to 0.70-0.75 of blood (SU); urine with and without furosemide (AC).
Of 6,000 random patients: r = 0.83, CV 12.5 %; with age -0.53, -0.48 and -0.60.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from scantwin.phantoms.frame import Jitter
from scantwin.phantoms.spec import PatientSpec
from scantwin.phantoms.tissues import TISSUES

MYOCARDIUM: Final = {
    "4-6h": (0.10, 0.39, 0.51),
    "overnight": (0.55, 0.28, 0.18),
    "low-carb": (0.77, 0.14, 0.10),
}
"""Shares of patients with no, patchy and full uptake, by type of fasting (MY)."""

LIVER_BLOOD_R: Final = 0.82
"""Correlation of liver and blood pool over patients (CV, n = 1,018)."""

REMAINDER: Final = ("muscle", "subcutaneous-fat", "visceral-fat", "skin", "yellow-marrow")
"""Tissues whose uptake is scaled together to bring the body's mean uptake to CLOSURE."""
REMAINDER_SCALE: Final = (0.75, 1.5)
"""Limits of that scaling, even if the mean then misses CLOSURE: they keep muscle near 0.5-1.2 (assumed). It
is not clipped itself: 40 random patients had 0.53 to 1.23."""

CLOSURE: Final = (0.85, 0.95)
"""Range of the body's volume-weighted SUV: 1 minus the voided fraction (assumed)."""


@dataclass(frozen=True)
class Uptake:
    """HU and uptake of one patient."""

    suv: dict[str, float]
    """Mean of every tissue, SUVbw [g/ml]."""
    texture: dict[str, float]
    """SD of the uptake within an organ over its mean, where it differs from the tissue table."""
    hu: dict[str, float]
    """CT number of every tissue [HU]."""
    closure: float
    """Volume-weighted SUV that the body should have."""


def sample_uptake(spec: PatientSpec) -> Uptake:
    """Draws the patient's uptake and CT numbers; each name has its own draw, which moves no other."""
    chance = Jitter(spec.seed ^ 0x5CA7)

    def z(name: str) -> float:
        return float(np.clip(chance[name][0], -2.2, 2.2))

    suv = {
        name: max(t.suv_mean + t.suv_sd * z(f"suv-{name}"), 0.3 * t.suv_mean) for name, t in TISSUES.items()
    }
    # Fat takes up little FDG, so SUV rises with weight (OB): here that of all tissues, fat too, but for those
    # with a value of their own below (brain, marrow, tonsils, sublingual glands, a visible myocardium, urine,
    # bowel, brown fat).
    heavy = 1 + 0.015 * float(np.clip(spec.bmi - 25, -7, 15))
    suv = {name: value * heavy for name, value in suv.items()}
    # sources.md: with muscle at 0.8 and fat at 0.3-0.4, the body's mean comes near CLOSURE.
    suv["muscle"] = 0.8 * heavy * float(np.exp(0.15 * z("muscle")))
    suv["subcutaneous-fat"] = 0.32 * heavy * float(np.exp(0.2 * z("fat")))
    older = spec.age - 55
    _liver_and_blood(heavy, suv, z)
    brain = (5.5 / spec.glucose_mmol) ** 0.6 * (1 - 0.004 * older) * np.exp(0.17 * z("brain"))
    for name in ("grey-matter", "cerebellum", "deep-grey", "white-matter", "brainstem"):
        # The brain varies as a whole; its parts differ little from each other.
        suv[name] = TISSUES[name].suv_mean * float(brain * np.exp(0.06 * z(f"brain-{name}")))
    marrow = float(np.interp(spec.age, (45, 55, 65, 75), (1.75, 1.45, 1.45, 1.18))) + 0.28 * z("marrow")
    suv["vertebral-marrow"] = max(marrow, 0.6)
    suv["red-marrow"] = 0.85 * suv["vertebral-marrow"]
    for name, slope in (("tonsils", -0.046), ("sublingual", -0.060)):
        # At the SD of age in these cohorts (15 years) the tonsils' slope gives about the published r; that of
        # the sublingual glands gives -0.60 instead of -0.70.
        spread = np.sqrt(max(TISSUES[name].suv_sd ** 2 - (slope * 15) ** 2, 0.1))
        suv[name] = max(TISSUES[name].suv_mean + slope * older + float(spread) * z(name), 0.9)
    texture = _myocardium(spec, suv, chance)
    # The thin walls are visible when the left ventricle is, but faintly.
    suv["heart-wall"] = 0.85 * suv["blood"] + 0.12 * suv["myocardium"]
    median = 3.0 if spec.furosemide else 6.0
    suv["bladder"] = float(np.clip(median * np.exp(0.6 * z("urine")), 0.8, 40))
    suv["kidney-pelvis"] = float(
        np.clip((0.6 if spec.furosemide else 1.0) * 9 * np.exp(0.45 * z("pelvis")), 3, 22)
    )
    for name in ("small-bowel", "colon-wall", "colon-content"):
        raised = float(np.exp(0.9 + 0.35 * z("metformin"))) if spec.metformin else 1.0
        suv[name] = TISSUES[name].suv_mean * float(np.exp(0.3 * z("bowel") + 0.15 * z(name))) * raised
    suv["brown-fat"] = float(np.clip(7 * np.exp(0.5 * z("brown-fat")), 2, 20))
    suv["bladder-wall"] = max(suv["bladder-wall"], 0.25 * suv["bladder"])
    closure = float(np.interp(z("closure"), (-2.2, 2.2), CLOSURE))
    return Uptake(suv, texture, _hu(spec, z), closure)


def _liver_and_blood(heavy: float, suv: dict[str, float], draw: Callable[[str], float]) -> None:
    shared, own = draw("blood"), draw("liver")
    liver = LIVER_BLOOD_R * shared + np.sqrt(1 - LIVER_BLOOD_R**2) * own
    suv["blood"] = 1.55 * heavy * float(np.exp(0.22 * shared))
    suv["liver"] = 2.17 * heavy * float(np.exp(0.20 * liver))
    suv["vessels"] = suv["lung-vessels"] = suv["blood"]
    suv["spleen"] = suv["liver"] * (0.83 + 0.09 * draw("spleen"))


def _myocardium(spec: PatientSpec, suv: dict[str, float], chance: Jitter) -> dict[str, float]:
    shares = np.cumsum(MYOCARDIUM[spec.fasted])
    u = chance.even("myocardium")
    level = float(chance["myocardium-level"][0])
    if u < shares[0]:
        suv["myocardium"] = (0.725 + 0.02 * level) * suv["blood"]
        return {"myocardium": 0.08}
    if u < shares[1]:
        suv["myocardium"] = float(np.clip(2.4 * np.exp(0.25 * level), 1.5, 4.5))
        return {"myocardium": 0.45}
    suv["myocardium"] = float(np.clip(6.5 * np.exp(0.4 * level), 3.0, 14.0))
    return {"myocardium": 0.14}


def _hu(spec: PatientSpec, draw: Callable[[str], float]) -> dict[str, float]:
    hu = {name: t.hu_venous if spec.contrast else t.hu_plain for name, t in TISSUES.items()}
    # L1: 226 HU below 30 years, then 2.5 HU less per year (JA); red marrow elsewhere is slightly lower.
    bone = float(np.clip(226 - 2.5 * max(spec.age - 30, 0) + 38 * draw("bone"), 50, 330))
    hu["vertebral-marrow"], hu["red-marrow"] = bone, 0.9 * bone
    hu["cortical-bone"] += 60 * draw("bone")
    hu["lung"] += 45 * draw("lung-hu")
    # 58 +- 9 (PM); heavy patients have fatty livers (assumed).
    hu["liver"] += 7 * draw("liver-hu") - 1.1 * max(0.0, spec.bmi - 27)
    hu["muscle"] -= 0.25 * max(0, spec.age - 50)
    if spec.contrast:
        strength = 1 + 0.15 * draw("contrast")
        for name, t in TISSUES.items():
            hu[name] += (t.hu_venous - t.hu_plain) * (strength - 1)
    return hu
