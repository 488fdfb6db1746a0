"""QC objects with exactly known activity: a uniform cylinder and a body phantom with six spheres.

The cylinder (20 cm across, 30 cm long) holds water of uniform activity. Its weight is that of its fill, so
its SUV is 1.0 by construction. The spheres (37, 28, 22, 17, 13, 10 mm) sit on a circle 114.4 mm across, as in
the NEMA NU 2 body phantom that EARL uses; the "dose" and "weight" stored with it make the background SUV 1.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final, Literal

import numpy as np

from scantwin import NOTICE
from scantwin.files import whole_folder, write_json
from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.volume import Volume
from scantwin.phantoms.canvas import Grid
from scantwin.phantoms.ct import image_ct
from scantwin.phantoms.dicom_out import Subject, write_dicom
from scantwin.phantoms.pet import image_pet
from scantwin.phantoms.scanner import ScannerSpec
from scantwin.phantoms.shapes import Array, Points, Shape, ellipsoid, everywhere, half_space, no_noise, stack
from scantwin.units import AIR_HU

CYLINDER_RADIUS_MM: Final = 100.0
CYLINDER_LENGTH_MM: Final = 300.0
SPHERES_MM: Final = (37.0, 28.0, 22.0, 17.0, 13.0, 10.0)
"""Diameters of the NEMA NU 2 spheres [mm]."""
SPHERE_CIRCLE_MM: Final = 57.2
"""Radius of the circle through the centres of the spheres [mm] (NEMA NU 2)."""
WALL_HU: Final = 120.0
"""Acrylic [HU]; assumed."""
_PLACE_MM: Final = (6.0, -4.0, 0.0)
"""Position of the object (x, y, z) [mm]; nobody centres it perfectly."""

QcKind = Literal["cylinder", "spheres"]


@dataclass(frozen=True)
class Sphere:
    """One hot sphere."""

    diameter_mm: float
    centre_mm: tuple[float, float, float]
    """World x, y, z [mm]."""


@dataclass(frozen=True, eq=False)
class QcScan:
    """Images of a QC object, with its exactly known truth."""

    kind: QcKind
    ct: Volume
    """[HU]."""
    pet: Volume
    """SUV [g/ml] as the scanner shows it."""
    weight_kg: float
    """Weight to enter as the patient's weight [kg]."""
    dose_bq: float
    """Activity at the start of the scan, to enter as the injected dose [Bq]."""
    spheres: tuple[Sphere, ...] = ()
    ratio: float = 1.0
    """Activity of the spheres over that of the background."""
    suv_factor: float = 1.0
    """Shown SUV over true SUV."""
    when: date | None = None


def uniform_cylinder(
    scanner: ScannerSpec, *, seed: int = 0, when: date | None = None, activity_bq_ml: float = 5000.0
) -> QcScan:
    """The cylinder as `scanner` shows it; `activity_bq_ml` [Bq/ml] is that at the start of the scan."""
    place = np.asarray(_PLACE_MM)
    end = CYLINDER_LENGTH_MM / 2
    ends = half_space(2, place[2] - end, above=True) & half_space(2, place[2] + end, above=False)
    fill = everywhere(lambda p: _round(p, place) - np.float32(CYLINDER_RADIUS_MM)) & ends
    volume_ml = np.pi * CYLINDER_RADIUS_MM**2 * CYLINDER_LENGTH_MM / 1000
    ct, pet = _image(fill, [], 1.0, scanner, seed, when, reach=(end + 40, 140, 140))
    # Water weighs 1 g/ml: SUV = (A/V) / (A/W) = 1 exactly.
    return QcScan(
        "cylinder", ct, pet, volume_ml / 1000, activity_bq_ml * volume_ml,
        suv_factor=scanner.suv_factor(when), when=when
    )  # fmt: skip


def sphere_phantom(
    scanner: ScannerSpec, *, seed: int = 0, when: date | None = None, ratio: float = 9.8,
    activity_bq_ml: float = 2000.0,
) -> QcScan:  # fmt: skip
    """The body phantom as `scanner` shows it. `ratio` is the activity of the spheres over the background's,
    which is `activity_bq_ml` [Bq/ml] at the start of the scan (EARL: about 2000 and 1:10)."""
    place = np.asarray(_PLACE_MM)
    rows = [
        (place[2] + z, place[0], 147.0, place[1] - 105, place[1] + 95, 2.4, place[1]) for z in (-90, 0, 90)
    ]
    body = stack(rows)
    spheres = []
    for k, diameter in enumerate(SPHERES_MM):
        turn = np.radians(60.0 * k)
        x, y = SPHERE_CIRCLE_MM * np.cos(turn), SPHERE_CIRCLE_MM * np.sin(turn)
        spheres.append(Sphere(diameter, (float(place[0] + x), float(place[1] + y), float(place[2] + 20))))
    ct, pet = _image(body, spheres, ratio, scanner, seed, when, reach=(140, 160, 190))
    weight = 9.7  # [kg]: the NEMA body holds 9.7 l
    return QcScan(
        "spheres", ct, pet, weight, activity_bq_ml * weight * 1000, tuple(spheres), ratio,
        scanner.suv_factor(when), when
    )  # fmt: skip


def _image(
    fill: Shape, spheres: list[Sphere], ratio: float, scanner: ScannerSpec, seed: int, when: date | None,
    reach: tuple[float, float, float],
) -> tuple[Volume, Volume]:  # fmt: skip
    """CT and PET of `fill` at SUV 1 with `spheres` at SUV `ratio`, painted on 2 mm voxels."""
    spacing = (2.0, 2.0, 2.0)
    high = np.asarray(reach, float)
    grid = Grid.over(-high, high, spacing)
    p = Points(
        grid.x.astype(np.float32)[None, None, :], grid.y.astype(np.float32)[None, :, None],
        grid.z.astype(np.float32)[:, None, None], no_noise,
    )  # fmt: skip
    distance = np.broadcast_to(fill.distance(p), grid.shape)
    inside = np.clip(0.5 - distance / 2, 0, 1)
    wall = np.clip(0.5 - (distance - 4) / 2, 0, 1)
    hu = AIR_HU + (WALL_HU - AIR_HU) * wall
    hu += inside * (0.0 - hu)
    suv = inside.astype(np.float32)
    for sphere in spheres:
        ball = ellipsoid(sphere.centre_mm, np.full(3, sphere.diameter_mm / 2)).distance(p)
        suv += np.clip(0.5 - ball / 2, 0, 1) * np.float32(ratio - 1)
    origin = (float(grid.x[0]), float(grid.y[0]), float(grid.z[0]))
    true_hu = Volume(hu.astype(np.float32), spacing, origin, unit="HU")
    ct_grid = Grid.over(-high, high, scanner.ct_spacing_mm)
    pet_grid = Grid.over(-high, high, scanner.pet_spacing_mm)
    ct = image_ct(true_hu, scanner, ct_grid, np.random.default_rng([seed, 12]), table_y=float(high[1] - 40))
    pet = image_pet(true_hu.with_array(suv, "SUV"), scanner, pet_grid, np.random.default_rng([seed, 13]))
    return ct, pet.with_array(np.asarray(pet.array, np.float32) * np.float32(scanner.suv_factor(when)))


def _round(p: Points, place: np.ndarray) -> Array:
    return np.asarray(np.hypot(p.x - np.float32(place[0]), p.y - np.float32(place[1])), np.float32)


def write_qc(
    folder: Path | str,
    scan: QcScan,
    scanner: ScannerSpec,
    *,
    form: Literal["nifti", "dicom"] = "nifti",
    seed: int = 0,
) -> Path:
    """Writes CT and PET of a QC object, and truth.json with its exactly known truth."""
    target = Path(folder)
    with whole_folder(target) as aside:
        if form == "dicom":
            subject = Subject(f"QC-{scan.kind}", weight_kg=scan.weight_kg, dose_at_scan_bq=scan.dose_bq)
            write_dicom(aside, scan.ct, scan.pet, subject, scanner.vendor, seed=seed, when=scan.when)
        else:
            write_nifti(scan.ct, aside / "CT.nii.gz")
            write_nifti(scan.pet, aside / "SUV.nii.gz")
        truth = {
            "kind": scan.kind,
            "expected_suv": 1.0,
            "weight_kg": scan.weight_kg,
            "dose_at_scan_bq": scan.dose_bq,
            "ratio": scan.ratio,
            "spheres": [{"diameter_mm": s.diameter_mm, "centre_mm": s.centre_mm} for s in scan.spheres],
            "suv_factor": scan.suv_factor,
            "when": scan.when.isoformat() if scan.when else None,
            "scanner": scanner.model_dump(mode="json"),
            "notice": NOTICE,
        }
        write_json(aside / "truth.json", truth)
    return target
