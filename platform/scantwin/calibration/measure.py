"""Measurements on QC phantoms: bias and noise of a uniform cylinder, recovery of six spheres."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scantwin.calibration.locate import find_cylinder, find_object
from scantwin.errors import InputError
from scantwin.imaging.volume import Volume

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

EDGE_MM: Final = 15.0
"""Smallest distance of a counted voxel from the wall [mm] (EARL: keeps out the blur of the edge)."""

EARL1_LIMITS: Final[dict[float, tuple[tuple[float, float], tuple[float, float]]]] = {
    37.0: ((0.76, 0.89), (0.95, 1.16)),
    28.0: ((0.72, 0.85), (0.91, 1.13)),
    22.0: ((0.63, 0.78), (0.83, 1.09)),
    17.0: ((0.57, 0.73), (0.73, 1.01)),
    13.0: ((0.44, 0.60), (0.59, 0.85)),
    10.0: ((0.27, 0.43), (0.34, 0.57)),
}
"""Accepted recovery of the mean and of the maximum by sphere diameter [mm] (EARL, first standard)."""

SPHERE_TOLERANCE: Final = 0.15
"""How far a hot spot's diameter, derived from its activity, may be from its sphere's (fraction). In phantoms
with 4 to 8 mm blur it is off by at most 6 % at 10 % noise and 11 % at 18 % (docs/calibration.md); from the
next sphere's it is off by 21 % or more."""
_REACH_MM: Final = 10.0
"""Distance from a hot spot within which its blurred activity counts [mm]; spheres are 24 mm apart or more."""

EARL_BIAS: Final = 0.10
"""Largest accepted bias of a uniform cylinder, as a fraction (EARL)."""


@dataclass(frozen=True)
class Measurement:
    """Counts and moments of one scan of a QC object."""

    kind: Literal["cylinder", "spheres", "liver"]
    bias: float
    """Shown over true, minus one: +0.08 reads 8 % high."""
    sd: float
    """SD of the voxels, as a fraction of the true value."""
    n_voxels: int
    n: int
    """What the minimum-count rule counts: voxels, or spheres."""
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """Whether the bias is within EARL's 10 %."""
        return abs(self.bias) <= EARL_BIAS


@dataclass(frozen=True)
class Recovery:
    """How much of one sphere's activity the PET shows."""

    diameter_mm: float
    mean: float
    """Mean inside the 50 % contour (adapted to the background) over the truth."""
    maximum: float
    """Hottest voxel over the truth."""
    inside: bool
    """Whether both are within the limits of EARL1."""


def measure_cylinder(pet: Volume, ct: Volume | None = None, expected_suv: float = 1.0) -> Measurement:
    """Bias and noise [fractions] of a uniform cylinder whose true SUV is `expected_suv` [g/ml].

    The cylinder is found in `ct` [HU] or, without one, in `pet` [g/ml]; voxels within 15 mm of its wall or
    ends are left out.
    """
    pet = pet.canonical()
    cylinder = find_cylinder(pet, ct)
    if cylinder.radius_mm <= EDGE_MM + 10:
        raise InputError(
            f"The cylinder is only {2 * cylinder.radius_mm:.0f} mm across.",
            hint="Give the scan of the 20 cm cylinder.",
        )
    z, y, x = (np.arange(n) for n in pet.shape)
    wx = pet.origin[0] + x * pet.spacing[2]
    wy = pet.origin[1] + y * pet.spacing[1]
    wz = pet.origin[2] + z * pet.spacing[0]
    away = np.hypot(
        wx[None, None, :] - cylinder.centre_x[:, None, None],
        wy[None, :, None] - cylinder.centre_y[:, None, None],
    )
    along = (wz >= cylinder.bottom_mm + EDGE_MM) & (wz <= cylinder.top_mm - EDGE_MM)
    core = (away <= cylinder.radius_mm - EDGE_MM) & along[:, None, None]
    values = pet.array[core].astype(np.float64)
    if len(values) < 10:
        raise InputError("Nothing of the cylinder is 15 mm from its wall.", hint="Scan the whole cylinder.")
    profile = [
        [round(float(wz[k]), 1), round(float(pet.array[k][core[k]].mean() / expected_suv), 4)]
        for k in np.flatnonzero(along)
    ]
    means = np.array([value for _, value in profile])
    detail = {
        "expected_suv": expected_suv,
        "mean_suv": float(values.mean()),
        "radius_mm": round(cylinder.radius_mm, 1),
        "length_mm": round(cylinder.top_mm - cylinder.bottom_mm, 1),
        "slice_profile": profile,
        "largest_slice_deviation": float(np.abs(means / means.mean() - 1).max()),
    }
    bias = float(values.mean() / expected_suv - 1)
    return Measurement(
        "cylinder", bias, float(values.std(ddof=1) / expected_suv), len(values), len(values), detail
    )


def measure_spheres(
    pet: Volume, *, ratio: float, expected_background: float = 1.0, ct: Volume | None = None
) -> tuple[Measurement, tuple[Recovery, ...]]:
    """Recovery of the six spheres. Their true activity is `ratio` times the background's, whose true SUV is
    `expected_background` [g/ml]. Spheres are identified by the activity in them, which blur does not change.

    The measurement's bias is that of the background; `n` counts the spheres. Raises `InputError` if one is
    missing or there is another hot spot, because a sphere could then be judged by another's limits.
    """
    pet = pet.canonical()
    inside = ndimage.binary_erosion(
        find_object(pet, ct), iterations=max(1, round(EDGE_MM / min(pet.spacing)))
    )
    if not inside.any():
        raise InputError("There is no phantom in this scan.", hint="Give the PET of the body phantom.")
    box = ndimage.find_objects(inside.astype(np.uint8))[0]
    values, inside = pet.array[box].astype(np.float64), inside[box]
    background = float(np.median(values[inside]))
    if background <= 0:
        raise InputError("The phantom's background has no activity.", hint="Fill it, and scan it again.")
    hot = values > 1.5 * background
    truth = ratio * expected_background
    recoveries = []
    for diameter, region in _spheres(values, hot & inside, background, ratio, pet.spacing).items():
        hottest = float(values[region].max())
        contour = region & (values >= (hottest + background) / 2)
        mean = float(values[contour].mean()) / truth
        limits = EARL1_LIMITS[diameter]
        good = limits[0][0] <= mean <= limits[0][1] and limits[1][0] <= hottest / truth <= limits[1][1]
        recoveries.append(Recovery(diameter, mean, hottest / truth, good))
    quiet = inside & ~ndimage.binary_dilation(hot, iterations=max(1, round(20 / min(pet.spacing))))
    calm = values[quiet] if quiet.sum() > 100 else values[inside & (values < 1.4 * background)]
    detail = {
        "ratio": ratio,
        "recovery": [
            {
                "diameter_mm": r.diameter_mm,
                "mean": round(r.mean, 4),
                "max": round(r.maximum, 4),
                "inside_earl1": r.inside,
            }
            for r in recoveries
        ],
    }
    measurement = Measurement(
        "spheres", float(calm.mean() / expected_background - 1),
        float(calm.std(ddof=1) / expected_background), len(calm),
        len(recoveries), detail,
    )  # fmt: skip
    return measurement, tuple(recoveries)


def _spheres(
    values: Floats, hot: Mask, background: float, ratio: float, spacing: tuple[float, float, float]
) -> dict[float, Mask]:
    """Masks (z, y, x) of the six spheres by their diameter [mm], the largest first.

    A hot spot's activity above the background gives its volume, and hence its diameter. The scale is the
    measured background, so it does not matter if the scanner reads too high or low. Anything smaller than the
    smallest sphere could be is noise.
    """
    spots, count = ndimage.label(hot)
    away, nearest = ndimage.distance_transform_edt(spots == 0, sampling=spacing, return_indices=True)
    owner = np.where(away <= _REACH_MM, spots[tuple(nearest)], 0)
    excess = ndimage.sum_labels(values - background, owner, np.arange(1, count + 1)) * np.prod(spacing)
    sizes = np.cbrt(6 / np.pi * np.maximum(excess, 0) / ((ratio - 1) * background))
    known = np.array(list(EARL1_LIMITS))
    found = [k for k in np.argsort(-sizes) if sizes[k] >= (1 - SPHERE_TOLERANCE) * known.min()]
    claims = {}
    for k in found:
        diameter = float(known[np.argmin(np.abs(np.log(sizes[k] / known)))])
        if abs(sizes[k] / diameter - 1) <= SPHERE_TOLERANCE:
            claims[diameter] = owner == k + 1
    seen = ", ".join(f"{sizes[k]:.0f}" for k in found[:12]) or "none"
    if missing := [f"{d:.0f}" for d in known if d not in claims]:
        raise InputError(
            f"The sphere{'s' * (len(missing) > 1)} of {', '.join(missing)} mm"
            f" {'is' if len(missing) == 1 else 'are'} missing (hot spots by their activity, in mm: {seen}).",
            hint="Fill all six with the same activity, and say with --ratio how many times the background's.",
        )
    if len(found) > len(known):
        raise InputError(
            f"There are {len(found)} hot spots where six spheres are (by their activity, in mm: {seen}).",
            hint="Scan the phantom without spilt activity or other sources.",
        )
    return claims
