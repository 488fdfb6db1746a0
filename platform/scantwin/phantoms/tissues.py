"""Tissues: CT numbers and FDG uptake, each row with its source.

HU at 120 kVp without and with portal-venous contrast; SUVbw [g/ml] about 60 min after injection, as
mean and SD over patients. Sources are the codes of sources.md (`WA` = MIB 2007;9:83, `BO` =
JNM 2013;54:677, ...); values that are commonly quoted but were not verified say "assumed".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Tissue:
    """One tissue."""

    name: str
    hu_plain: float
    """CT number without contrast [HU]."""
    hu_venous: float
    """CT number in the portal-venous phase [HU]."""
    suv_mean: float
    """Mean uptake over patients, SUVbw [g/ml]."""
    suv_sd: float
    """SD of the mean uptake over patients [g/ml]."""
    density: float
    """[g/ml]; UF = PMC3859249, the rest assumed."""
    source: str
    """Where the numbers come from."""
    hu_texture: float = 4.0
    """SD of the CT number inside the organ [HU]; assumed."""
    suv_texture: float = 0.08
    """SD of the uptake inside the organ, as a fraction of its mean; assumed."""


# fmt: off
_ROWS: Final = (
    # name, plain, venous, SUV mean, SD, density, source, HU texture, SUV texture
    Tissue("air-outside", -1000, -1000, 0.0, 0.0, 0.0012, "by definition", 0, 0),
    Tissue("skin", 20, 40, 0.5, 0.15, 1.09, "assumed", 6, 0.1),
    Tissue("subcutaneous-fat", -105, -102, 0.25, 0.1, 0.95, "assumed", 7, 0.15),
    Tissue("visceral-fat", -98, -95, 0.4, 0.15, 0.95, "assumed", 9, 0.15),
    Tissue("muscle", 52, 62, 0.7, 0.2, 1.05, "assumed; density UF", 8, 0.12),
    Tissue("blood", 42, 150, 1.55, 0.38, 1.06, "BO; HU assumed", 3, 0.05),
    Tissue("grey-matter", 37, 40, 8.0, 2.0, 1.04, "assumed, falls with age GU", 2, 0.12),
    Tissue("white-matter", 27, 29, 3.5, 0.8, 1.04, "assumed", 2, 0.08),
    Tissue("cerebellum", 35, 38, 8.0, 2.2, 1.04, "WA", 2, 0.1),
    Tissue("csf", 6, 6, 0.6, 0.2, 1.0, "assumed", 2, 0.05),
    Tissue("eye", 12, 14, 0.9, 0.3, 1.02, "assumed", 3, 0.05),
    Tissue("orbital-fat", -85, -82, 1.3, 0.4, 0.96, "assumed: fat with the eye's muscles", 10, 0.2),
    Tissue("parotid", 20, 50, 1.9, 0.6, 1.0, "NA; HU assumed", 10, 0.08),
    Tissue("submandibular", 50, 90, 2.11, 0.6, 1.04, "NA; HU assumed", 5, 0.08),
    Tissue("sublingual", 50, 90, 3.3, 1.5, 1.04, "WA; HU assumed", 5, 0.08),
    Tissue("tonsils", 50, 90, 3.45, 1.4, 1.04, "WA; HU assumed", 4, 0.08),
    Tissue("soft-palate", 50, 70, 2.92, 0.86, 1.04, "WA; HU assumed", 4, 0.08),
    Tissue("tongue", 50, 70, 1.39, 0.4, 1.05, "NA; HU assumed", 8, 0.1),
    Tissue("larynx", 60, 75, 1.77, 0.5, 1.06, "NA (vocal cords); HU assumed", 30, 0.15),
    Tissue("thyroid", 100, 150, 1.31, 0.4, 1.05, "NA; HU assumed", 8, 0.08),
    Tissue("airway", -990, -990, 0.15, 0.05, 0.0012, "assumed", 5, 0.1),
    Tissue("lung", -765, -760, 0.5, 0.15, 0.25, "MA -820 held; -750 free breathing assumed", 25, 0.15),
    Tissue("lung-vessels", 30, 120, 1.3, 0.3, 1.05, "assumed: as blood", 8, 0.1),
    Tissue("myocardium", 45, 110, 3.0, 3.0, 1.05, "MY, SU; HU assumed", 4, 0.15),
    Tissue("oesophagus", 40, 70, 1.4, 0.4, 1.04, "assumed", 6, 0.15),
    Tissue("liver", 58, 115, 2.17, 0.44, 1.05, "PM (HU), BO", 5, 0.06),
    Tissue("gallbladder", 8, 8, 0.8, 0.4, 1.02, "assumed", 3, 0.05),
    Tissue("spleen", 48, 120, 1.8, 0.4, 1.05, "assumed", 4, 0.06),
    Tissue("kidney-cortex", 32, 180, 3.0, 0.8, 1.05, "assumed", 5, 0.1),
    Tissue("kidney-pelvis", 5, 5, 9.0, 4.5, 1.02, "assumed, RE", 4, 0.2),
    Tissue("adrenal", 25, 70, 1.6, 0.4, 1.03, "assumed", 5, 0.08),
    Tissue("pancreas", 40, 100, 1.5, 0.3, 1.04, "assumed", 14, 0.1),
    Tissue("stomach-wall", 40, 90, 1.91, 0.71, 1.04, "KO (mid third); HU assumed", 6, 0.12),
    Tissue("stomach-content", 25, 25, 0.5, 0.2, 1.02, "assumed", 18, 0.2),
    Tissue("small-bowel", 35, 95, 1.5, 0.5, 1.04, "assumed", 14, 0.25),
    Tissue("colon-wall", 35, 90, 1.5, 0.6, 1.04, "assumed", 8, 0.3),
    Tissue("colon-content", 25, 25, 0.7, 0.3, 1.02, "assumed", 35, 0.25),
    Tissue("bowel-gas", -950, -950, 0.2, 0.1, 0.0012, "assumed", 20, 0.2),
    Tissue("bladder", 5, 5, 6.0, 4.0, 1.01, "AC (medians 6.0 and 3.0), FU", 2, 0.02),
    Tissue("bladder-wall", 35, 60, 1.5, 0.4, 1.04, "assumed", 4, 0.1),
    Tissue("prostate", 38, 60, 1.8, 0.5, 1.04, "assumed", 5, 0.08),
    Tissue("uterus", 45, 110, 2.2, 0.8, 1.04, "LE (1.7-5 with the cycle); HU assumed", 5, 0.12),
    Tissue("ovary", 35, 60, 1.6, 0.4, 1.04, "OV; HU assumed", 5, 0.1),
    Tissue("testis", 35, 55, 2.57, 0.56, 1.04, "WA; HU assumed", 4, 0.06),
    Tissue("breast", -10, 10, 0.84, 0.27, 1.0, "KU (dense); HU assumed", 30, 0.12),
    Tissue("breast-fat", -90, -87, 0.53, 0.23, 0.95, "KU (fatty); HU assumed", 10, 0.1),
    Tissue("spinal-cord", 35, 40, 2.12, 0.5, 1.04, "NA; HU assumed", 3, 0.06),
    Tissue("vertebral-marrow", 170, 175, 1.45, 0.32, 1.15, "JA (HU by age), LU", 25, 0.1),
    Tissue("red-marrow", 160, 165, 1.3, 0.3, 1.13, "as vertebrae, assumed", 35, 0.12),
    Tissue("yellow-marrow", -40, -38, 0.4, 0.12, 0.98, "assumed", 25, 0.1),
    Tissue("cortical-bone", 1000, 1000, 0.5, 0.2, 1.92, "assumed (1200 for the densest)", 120, 0.15),
    Tissue("trabecular-bone", 320, 320, 0.7, 0.2, 1.25, "assumed", 60, 0.12),
    Tissue("disc", 85, 88, 0.7, 0.2, 1.1, "assumed", 8, 0.1),
    Tissue("cartilage", 110, 112, 0.6, 0.2, 1.1, "assumed", 25, 0.1),
    Tissue("brown-fat", -75, -70, 6.0, 4.0, 0.97, "BF; SUVmax 2-20 assumed", 12, 0.25),
    Tissue("vessels", 42, 150, 1.5, 0.35, 1.06, "as blood", 3, 0.05),
    Tissue("brainstem", 30, 32, 5.0, 1.2, 1.04, "assumed", 2, 0.06),
    Tissue("deep-grey", 38, 41, 9.0, 2.2, 1.04, "assumed: a little above the cortex", 2, 0.06),
    Tissue("lesion", 40, 80, 8.0, 5.0, 1.04, "HD, SD, KA; see lesions.py", 6, 0.0),
    Tissue("heart-wall", 45, 110, 1.5, 0.4, 1.05, "assumed: right heart and atria", 4, 0.1),
    Tissue("teeth", 1500, 1500, 0.5, 0.2, 2.0, "assumed", 200, 0.1),
)
# fmt: on

TISSUES: Final[dict[str, Tissue]] = {row.name: row for row in _ROWS}
"""Every tissue by name."""

ORGANS: Final[dict[str, int]] = {row.name: label for label, row in enumerate(_ROWS)}
"""The label of each tissue in `Phantom.organs`; 0 is the air outside."""

AGREED_ORGANS: Final = (
    "grey-matter", "myocardium", "blood", "liver", "spleen", "kidney-cortex", "pancreas", "lung", "muscle",
    "vertebral-marrow", "subcutaneous-fat", "bladder",
)  # fmt: skip
"""Organs whose uptake is compared, by their names in `ORGANS`: those that a reader looks at."""
