"""Organ masses of the reference adults, and the organ volumes of one patient that follow from them."""

from __future__ import annotations

from typing import Final

import numpy as np

from scantwin.phantoms.frame import Frame
from scantwin.phantoms.tissues import TISSUES

MASS_G: Final[dict[str, tuple[float, float]]] = {
    "brain": (1450, 1300), "heart": (840, 620), "liver": (1800, 1400), "spleen": (150, 130),
    "kidneys": (310, 275), "pancreas": (140, 120), "adrenals": (14, 13), "thyroid": (20, 17),
    "parotids": (50, 41), "submandibulars": (25, 21), "stomach": (400, 370), "small-bowel": (1000, 880),
    "colon": (370, 360), "gallbladder": (68, 56), "breasts": (25, 500), "testes": (35, 0), "uterus": (0, 80),
    "ovaries": (0, 11),
}  # fmt: skip
"""Man, woman [g], ICRP 89 (IC); the split of the salivary glands is assumed."""

_SPREAD: Final[dict[str, float]] = {
    "brain": 0.08, "heart": 0.12, "liver": 0.15, "spleen": 0.28, "kidneys": 0.14, "stomach": 0.25,
    "small-bowel": 0.18, "colon": 0.2, "gallbladder": 0.35, "uterus": 0.3, "breasts": 0.3, "thyroid": 0.25,
}  # fmt: skip
"""Coefficient of variation between patients of the same height; assumed."""

_REFERENCE_CM: Final = {"M": 176.0, "F": 163.0}
_DENSITY_OF: Final = {
    "brain": "grey-matter", "heart": "blood", "kidneys": "kidney-cortex", "adrenals": "adrenal",
    "parotids": "parotid",
    "submandibulars": "submandibular", "stomach": "stomach-wall", "colon": "colon-wall", "breasts": "breast",
    "testes": "testis", "ovaries": "ovary",
}  # fmt: skip


def organ_ml(f: Frame, organ: str) -> float:
    """Volume of an organ of one patient [ml]; for paired organs, of both together."""
    grams = MASS_G[organ][1 if f.female else 0]
    tall = (f.height / 10 / _REFERENCE_CM[f.sex]) ** (0.8 if organ == "brain" else 2.0)
    heavy = 1.0
    if organ == "liver":
        heavy = 1 + 0.012 * float(np.clip(f.bmi - 24, -6, 14))  # larger with weight; assumed
    elif organ == "breasts":
        heavy = float(np.clip(f.bmi / 24, 0.6, 1.9)) ** 1.7
    spread = float(np.exp(_SPREAD.get(organ, 0.12) * float(f.wobble(f"mass-{organ}", 1)[0])))
    density = TISSUES[_DENSITY_OF.get(organ, organ)].density
    return float(grams * tall * heavy * spread / density)
