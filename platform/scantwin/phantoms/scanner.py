"""A PET/CT scanner with its habits and faults, and the images that it makes of a phantom."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from scantwin.errors import InputError
from scantwin.imaging.volume import Volume
from scantwin.phantoms.canvas import Grid
from scantwin.phantoms.ct import image_ct
from scantwin.phantoms.patient import Phantom
from scantwin.phantoms.pet import image_pet

Vendor = Literal["siemens", "ge", "philips"]
FieldOfView = Literal["whole", "eyes-to-thighs", "partial"]

_LEAST_FACTOR: Final = 1e-3
"""Shown SUV over true SUV below which a scanner shows nothing: only noise and rounding are left."""


class ScannerSpec(BaseModel):
    """One scanner. Spacings are (z, y, x) [mm]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "scanner"
    vendor: Vendor = "siemens"
    ct_spacing_mm: tuple[float, float, float] = (3.0, 2.5, 2.5)
    pet_spacing_mm: tuple[float, float, float] = (4.0, 4.07, 4.07)
    hu_shift: float = 0.0
    """Added to every CT number [HU]; old scanners are off by 5..40 HU (assumed)."""
    ct_dose: float = Field(default=1.0, gt=0, le=10)
    """Tube current-time product relative to a diagnostic scan; a low-dose CT is about 0.2."""
    kernel: Literal["soft", "sharp"] = "soft"
    pet_fwhm_mm: float = Field(default=5.5, ge=2, le=15)
    """Resolution of the clinical image [mm]."""
    pet_counts: float = Field(default=1.0, gt=0, le=100)
    """Activity times time, relative to a normal scan."""
    suv_scale: float = Field(default=1.0, gt=0, le=10)
    """Shown SUV over true SUV: 1 is right, 0.85 reads 15 % low."""
    suv_drift_per_month: float = Field(default=0.0, gt=-0.5, lt=0.5)
    """Change of `suv_scale` per month since `calibrated_on`, as a fraction."""
    calibrated_on: date = date(2026, 1, 1)
    table: bool = True
    metal: bool = False
    """A hip prosthesis in every patient."""
    field_of_view: FieldOfView = "whole"
    truncate_arms: bool = False
    """The CT sees only 50 cm across, the PET sees more."""
    breathing_mm: float = Field(default=0.0, ge=0, le=30)
    """Respiratory blur of the PET at the dome of the liver, FWHM [mm]."""

    def suv_factor(self, when: date | None = None) -> float:
        """Shown SUV over true SUV on a day; without a day, or before `calibrated_on`, as last calibrated.

        Raises `InputError` on a day by which the drift would bring the factor to nothing, or below.
        """
        months = 0.0 if when is None else max(0, (when - self.calibrated_on).days) / 30.4375
        factor = self.suv_scale * (1.0 + self.suv_drift_per_month * months)
        if factor < _LEAST_FACTOR:
            raise InputError(
                f"The scanner {self.name} would show no activity on {when}: it drifts by"
                f" {self.suv_drift_per_month:+.1%} a month since {self.calibrated_on}.",
                hint="Give an earlier day, or a smaller suv_drift_per_month.",
            )
        return factor


@dataclass(frozen=True, eq=False)
class ImagedPatient:
    """What the scanner produces, with the truth beside it."""

    ct: Volume
    """[HU], int16."""
    pet: Volume
    """SUVbw [g/ml] as this scanner shows it."""
    lesions: Volume
    """Labels on the PET grid."""
    districts: Volume
    """District labels (DISTRICT_LABEL) on the PET grid."""
    organs: Volume
    """ORGANS labels on the PET grid."""
    suv_true: Volume
    """True SUV [g/ml], averaged over each PET voxel."""
    truth: dict[str, Any]


def image_patient(
    phantom: Phantom, scanner: ScannerSpec, *, seed: int, when: date | None = None
) -> ImagedPatient:
    """CT and PET of `phantom`; the same seed gives the same images."""
    rng = np.random.default_rng([seed, 11])
    low, high = _field(phantom, scanner.field_of_view, rng)
    ct_grid = Grid.over(low, high, scanner.ct_spacing_mm)
    # The PET grid is slightly offset from the CT's, as on a real scanner.
    pet_grid = Grid.over(low + np.array([0.0, 1.3, 1.1]), high, scanner.pet_spacing_mm)
    ct = image_ct(
        phantom.hu, scanner, ct_grid, np.random.default_rng([seed, 12]),
        table_y=phantom.landmarks["table"][1],
        metal=phantom.landmarks["hip-left"] if scanner.metal or phantom.spec.prosthesis else None,
    )  # fmt: skip
    factor = scanner.suv_factor(when)
    pet = image_pet(
        phantom.suv,
        scanner,
        pet_grid,
        np.random.default_rng([seed, 13]),
        dome_z=phantom.landmarks["liver-dome"][2],
    )
    pet = pet.with_array(np.asarray(pet.array, np.float32) * np.float32(factor))
    lesions = _nearest(phantom.lesions, pet_grid, pet)
    truth = {
        "spec": phantom.spec.model_dump(mode="json"),
        "scanner": scanner.model_dump(mode="json"),
        "suv_factor": factor,
        "lesions": [
            {**one.as_json(), "labelled_ml": _labelled_ml(lesions, one.label)} for one in phantom.truth
        ],
        "when": when.isoformat() if when else None,
    }
    return ImagedPatient(
        ct, pet, lesions, _nearest(phantom.districts, pet_grid, pet),
        _nearest(phantom.organs, pet_grid, pet), _mean(phantom.suv, pet_grid, pet), truth,
    )  # fmt: skip


def _field(phantom: Phantom, what: FieldOfView, rng: np.random.Generator) -> tuple[Any, Any]:
    """Box (z, y, x) [mm] that is scanned."""
    v = phantom.suv
    low = np.asarray(v.origin)[::-1] - np.asarray(v.spacing) / 2
    high = low + np.asarray(v.extent_mm)
    height = phantom.spec.height_cm * 10
    if what == "eyes-to-thighs":
        low[0], high[0] = 0.38 * height, 0.955 * height
    elif what == "partial":
        length = rng.uniform(0.35, 0.7) * (high[0] - low[0])
        low[0] += rng.uniform(0, high[0] - low[0] - length)
        high[0] = low[0] + length
    return low, high


def _labelled_ml(labels: Volume, label: int) -> float:
    """Volume with a lesion's label in the PET [ml]; 0 outside its field of view or between its voxels."""
    return round(float((labels.array == label).sum()) * labels.voxel_ml, 3)


def _nearest(labels: Volume, grid: Grid, like: Volume) -> Volume:
    at = labels.index(np.stack([grid.x[0] * np.ones(1), grid.y[:1], grid.z[:1]], 1))[0]
    picks = []
    for k, (axis, n) in enumerate(zip((grid.z, grid.y, grid.x), labels.shape, strict=True)):
        index = np.rint(at[k] + (axis - axis[0]) / labels.spacing[k]).astype(int)
        picks.append(np.clip(index, 0, n - 1))
    return like.with_array(labels.array[np.ix_(*picks)], "label")


def _mean(volume: Volume, grid: Grid, like: Volume) -> Volume:
    from scantwin.phantoms.pet import axes_of
    from scantwin.phantoms.separable import apply, axis_weights

    weights = [
        axis_weights(a, b, 1e-3, s)
        for a, b, s in zip(axes_of(volume), (grid.z, grid.y, grid.x), like.spacing, strict=True)
    ]
    return like.with_array(
        apply(volume.array.astype(np.float32), (weights[0], weights[1], weights[2])), "SUV"
    )
