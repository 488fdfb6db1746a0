"""Lesions: how many, where, how large and how hot, by condition.

Priors: 1-30 a patient, median 3, heavy tail; volume log-normal, median 2-5 ml, 0.3-500 ml; SUVmean 0.55-0.65
of SUVmax (assumed). SUVmax: Hodgkin 7.5 +- 3.7 (HD); indolent lymphoma 7.0 +- 3.1, aggressive 19.6 +- 9.3
(SD); lung cancer 10 +- 6 (assumed; 10 +- 5 here), diameter 3.7 +- 2.0 cm (KA); melanoma 4-20 (assumed).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scantwin.phantoms.canvas import Canvas
from scantwin.phantoms.frame import Frame
from scantwin.phantoms.shapes import Array, Points, Shape, ellipsoid
from scantwin.phantoms.spec import PatientSpec
from scantwin.phantoms.tissues import ORGANS

_CORE: Final = 0.30
"""SUV at the rim over the maximum: with a square-root rise towards the core, SUVmean is 0.62 of SUVmax."""
_MOST: Final = 30
"""Largest number of lesions in one patient; assumed."""

# Nodes: x, y [mm] for the reference man, height fraction; on either side unless near the midline. Assumed.
NODES: Final[dict[str, tuple[tuple[float, float, float], ...]]] = {
    "neck": ((42, 4, 0.875), (46, 10, 0.862), (38, -16, 0.878), (40, -4, 0.850), (50, -14, 0.838)),
    "axilla": ((138, 4, 0.785), (132, -18, 0.79), (140, 14, 0.775)),
    "mediastinum": ((-18, 8, 0.806), (14, 6, 0.79), (2, 26, 0.778), (-8, -30, 0.80), (8, -38, 0.81)),
    "hilum": ((44, 14, 0.772),),
    "retroperitoneum": ((20, 22, 0.63), (-2, 20, 0.64), (26, 20, 0.615), (-24, 18, 0.62), (4, -14, 0.635)),
    "pelvis": ((56, -6, 0.545), (48, 14, 0.555), (66, -28, 0.525)),
    "groin": ((64, -62, 0.49), (72, -58, 0.478), (58, -60, 0.50)),
}

# Shares of the lesions by location; assumed, from what each disease is known to do.
SITES: Final[dict[str, dict[str, float]]] = {
    "melanoma": {
        "skin": 0.16, "subcutaneous-fat": 0.12, "groin": 0.12, "axilla": 0.12, "neck": 0.08, "lung": 0.16,
        "liver": 0.1, "bone": 0.07, "muscle": 0.04, "grey-matter": 0.03,
    },
    "lymphoma": {
        "neck": 0.24, "mediastinum": 0.2, "axilla": 0.14, "retroperitoneum": 0.18, "pelvis": 0.07,
        "groin": 0.07,
        "spleen": 0.05, "bone": 0.05,
    },
    "lung-cancer": {
        "lung": 0.28, "hilum": 0.14, "mediastinum": 0.26, "neck": 0.04, "adrenal": 0.05, "liver": 0.08,
        "bone": 0.13,
        "grey-matter": 0.02,
    },
    "sarcoma": {"muscle": 0.7, "lung": 0.3},
}  # fmt: skip

_BONES: Final = ("vertebral-marrow", "red-marrow", "trabecular-bone")


@dataclass(frozen=True)
class Lesion:
    """One lesion, with its true properties."""

    label: int
    kind: str
    """Where it lies."""
    centre_mm: tuple[float, float, float]
    """World x, y, z, LPS [mm]."""
    volume_ml: float
    """Volume of the voxels with its label [ml]: those that a later lesion has grown over do not count."""
    suvmax: float
    """Highest true uptake of these voxels [g/ml], including what spills in from a neighbour."""
    hu: float
    necrotic: bool

    def as_json(self) -> dict[str, Any]:
        """The lesion as a dictionary of plain values."""
        return asdict(self)


def paint_lesions(
    canvas: Canvas, f: Frame, spec: PatientSpec
) -> tuple[NDArray[np.uint8], tuple[Lesion, ...]]:
    """Paints the lesions of the patient's condition; returns their labels (z, y, x) and their properties.

    A lesion that later ones have wholly grown over is left out, and its label is missing.
    """
    labels = np.zeros(canvas.grid.shape, np.uint8)
    found: list[Lesion] = []
    if spec.condition not in SITES:
        return labels, ()
    rng = np.random.default_rng([spec.seed, 31])
    # Log-normal: median 3, one patient in ten above 12.
    count = int(np.clip(np.rint(np.exp(rng.normal(np.log(3.0), 1.05))), 1, _MOST))
    aggressive = bool(rng.random() < 0.45)
    level = float(np.exp(rng.normal(0.0, 0.3)))  # one patient's lesions resemble each other
    shares = SITES[spec.condition]
    for k in range(count):
        own = np.random.default_rng([spec.seed, 32, k])
        kind = str(own.choice(list(shares), p=np.array(list(shares.values())) / sum(shares.values())))
        if k == 0 and spec.condition in ("lung-cancer", "sarcoma"):
            kind = "lung" if spec.condition == "lung-cancer" else "muscle"  # the primary
        centre = _place(canvas, f, kind, own)
        if centre is None:
            continue
        primary = k == 0 and spec.condition in ("lung-cancer", "sarcoma")
        volume = _volume(spec.condition, kind, own, primary=primary)
        suvmax = _suvmax(spec.condition, own, aggressive=aggressive) * level
        lesion = _paint(
            canvas, len(found) + 1, kind, centre, volume, float(np.clip(suvmax, 2.0, 43.0)), spec, own, labels
        )
        found.append(lesion)
    return labels, _as_painted(found, labels, canvas)


def _as_painted(found: list[Lesion], labels: NDArray[np.uint8], canvas: Canvas) -> tuple[Lesion, ...]:
    """The lesions whose labels remain once all are painted, with the volume and SUVmax they then have."""
    inside = labels > 0
    voxels = np.bincount(labels[inside], minlength=len(found) + 1)
    hottest = np.zeros(len(found) + 1)
    np.maximum.at(hottest, labels[inside], canvas.suv[inside])
    voxel_ml = float(np.prod(canvas.spacing)) / 1000
    return tuple(
        replace(
            one, volume_ml=round(float(voxels[one.label]) * voxel_ml, 3),
            suvmax=round(float(hottest[one.label]), 2),
        )
        for one in found if voxels[one.label]
    )  # fmt: skip


def _volume(condition: str, kind: str, rng: np.random.Generator, *, primary: bool) -> float:
    if primary:
        if condition == "sarcoma":
            return float(np.clip(np.exp(rng.normal(np.log(120), 0.9)), 8, 500))
        diameter = float(np.clip(rng.normal(3.7, 2.0), 1.0, 9.5))  # [cm] (KA)
        return float(np.pi / 6 * diameter**3)
    median = {"lymphoma": 4.5, "melanoma": 2.0, "lung-cancer": 2.5}.get(condition, 3.0)
    largest = {"grey-matter": 15.0, "skin": 6.0, "adrenal": 30.0, "bone": 25.0}.get(kind, 300.0)
    return float(np.clip(np.exp(rng.normal(np.log(median), 1.05)), 0.3, largest))


def _suvmax(condition: str, rng: np.random.Generator, *, aggressive: bool) -> float:
    mean, sd = {
        "lymphoma": (19.6, 9.3) if aggressive else (7.2, 3.4),
        "melanoma": (9.5, 4.5),
        "lung-cancer": (10.0, 5.0),
    }.get(condition, (12.0, 6.0))
    return float(rng.gamma((mean / sd) ** 2, sd**2 / mean))


def _place(canvas: Canvas, f: Frame, kind: str, rng: np.random.Generator) -> NDArray[np.float64] | None:
    """A world point (x, y, z) for a lesion: at a nodal station, or anywhere in a tissue."""
    if kind in NODES:
        stations = NODES[kind]
        x, y, z = stations[int(rng.integers(len(stations)))]
        side = float(rng.choice([-1, 1])) if abs(x) > 30 else 1.0
        return f.at(side * x, y, z) + rng.normal(0, 5, 3) * f.s
    wanted = [ORGANS[name] for name in (_BONES if kind == "bone" else (kind,))]
    # The box is the same on every grid, so that the location does not depend on the voxels.
    low = np.array([-0.2 * f.height, -170 * f.s, 0.02 * f.height])
    high = np.array([0.2 * f.height, 150 * f.s, 0.995 * f.height])
    if kind in ("muscle", "bone", "subcutaneous-fat", "skin"):
        low[2] = f.z(0.12)
    if kind == "bone":
        low[2] = f.z(0.42)  # red marrow, where metastases go, is in the trunk
    for _ in range(60):
        points = rng.uniform(low, high, (1500, 3))
        index = [
            np.clip(np.rint((points[:, 2 - k] - axis[0]) / s).astype(int), 0, len(axis) - 1)
            for k, (axis, s) in enumerate(
                zip((canvas.grid.z, canvas.grid.y, canvas.grid.x), canvas.spacing, strict=True)
            )
        ]
        hits = np.flatnonzero(np.isin(canvas.labels[index[0], index[1], index[2]], wanted))
        if len(hits):
            return np.asarray(points[hits[0]], float)
    return None


def _hu_of(kind: str, canvas: Canvas, spec: PatientSpec, rng: np.random.Generator) -> float:
    hu = {name: value[0] for name, value in canvas.values.items()}
    if kind == "lung":
        return float(rng.normal(-600, 60)) if rng.random() < 0.08 else float(rng.normal(30, 12))
    if kind == "liver":
        return hu["liver"] - float(rng.uniform(10, 20))
    if kind == "bone":
        return float(rng.choice([rng.normal(70, 25), rng.normal(420, 120)]))  # lytic or sclerotic
    if kind in NODES:
        return float(rng.normal(80, 15)) if spec.contrast else float(rng.normal(35, 8))
    if kind == "grey-matter":
        return hu["grey-matter"] + (15.0 if spec.contrast else -2.0)
    return float(rng.uniform(30, 48))


def _paint(
    canvas: Canvas, label: int, kind: str, centre: NDArray[np.float64], volume: float, suvmax: float,
    spec: PatientSpec, rng: np.random.Generator, labels: NDArray[np.uint8],
) -> Lesion:  # fmt: skip
    radius = float(np.cbrt(volume * 1000 * 3 / (4 * np.pi)))
    axes = np.exp(rng.normal(0, 0.15, 3))
    axes *= radius / np.cbrt(np.prod(axes))
    shape: Shape = ellipsoid(centre, axes, rng.uniform(0, 180, 3)).rough(
        min(0.12 * radius, 3.0), max(radius, 8.0)
    )
    hu = _hu_of(kind, canvas, spec, rng)
    necrotic = volume > 25 and bool(rng.random() < 0.4)
    box = canvas.box(shape)
    if box is not None:
        # The centre is a world point in the body as painted, so no warp applies here.
        p = canvas.plain_points(box)
        distance = shape.distance(p)
        _fill(canvas, box, p, distance, radius, suvmax, hu, necrotic=necrotic)
        part = labels[box]
        inside = (distance < 0) & (canvas.labels[box] > 0)
        if not inside.any():
            inside = distance == distance.min()
        part[inside] = label
    x, y, z = (float(v) for v in centre)
    return Lesion(label, kind, (x, y, z), volume, suvmax, round(hu, 1), necrotic)


def _fill(
    canvas: Canvas, box: tuple[slice, slice, slice], p: Points, distance: Array, radius: float, suvmax: float,
    hu: float, *, necrotic: bool,
) -> None:  # fmt: skip
    depth = np.clip(-distance / np.float32(radius), 0, 1)
    profile = _CORE + (1 - _CORE) * np.sqrt(depth)
    hot = np.float32(suvmax) * profile * (1 + np.float32(0.06) * p.noise("lesion", 10.0))
    hot = np.minimum(hot, np.float32(suvmax))
    dense = np.full_like(hot, hu)
    if necrotic:
        dead = np.clip((depth - 0.55) * radius / 3, 0, 1)
        # The ring keeps the maximum; the core is dead fluid.
        hot = np.minimum(suvmax, hot * (1 + 0.25 * np.exp(-(((depth - 0.45) / 0.15) ** 2)))) * (
            1 - 0.75 * dead
        )
        dense = dense * (1 - dead) + 15 * dead
    body = canvas.labels[box] > 0
    alpha = np.clip(np.float32(0.5) - distance / canvas.voxel, 0, 1) * body
    canvas.suv[box] += alpha * (np.maximum(hot, canvas.suv[box] * 0.9) - canvas.suv[box])
    canvas.hu[box] += alpha * (dense - canvas.hu[box])
    canvas.labels[box][alpha >= 0.5] = ORGANS["lesion"]
