"""Where a lesion goes and what shape it has: sampled, taken from another patient, or drawn by a person."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scantwin.errors import InputError
from scantwin.generation.regions import Region, Spacing, ellipsoid
from scantwin.generation.scene import Scene
from scantwin.imaging.organs import ORGAN_LABEL, OrganClass
from scantwin.imaging.resampling import resample_like, to_spacing
from scantwin.imaging.volume import Volume

LESION_ORGANS: Final[tuple[OrganClass, ...]] = (
    "lung", "liver", "kidney", "spleen", "pancreas", "brain", "bowel", "bone", "fat", "soft-tissue",
)  # fmt: skip
"""Organs that get lesions: not blood, urine or gas."""

_MEDIAN_ML: Final = 4.0
_LOG_SD: Final = 0.9
_LIMITS_ML: Final = (0.5, 80.0)
"""Volumes: log-normal, median 2-5 ml (sources.md, 3); larger ones are left to drawing by hand."""
_SHARE: Final = 0.12
"""Largest share of its organ that a lesion takes: a kidney of 150 ml gets none of 80."""
_INSIDE: Final = 0.6
"""Share of a shape that must lie in the organ; the rest is cut off at the organ's border."""
_TRIES: Final = 40
_FEWEST_VOXELS: Final = 6
_MOST_DRAWN: Final = 300
"""Most parts of a drawn mask: each takes passes over the whole CT, and nobody draws more by hand."""
_MOST_DRAWN_ML: Final = 2000.0
"""Most that a drawn mask may mark in a body: tumours of a litre exist, more is an organ or a CT; assumed."""


@dataclass(frozen=True, eq=False)
class Shape:
    """A lesion's shape, cut out of its patient's study."""

    mask: Region
    spacing: Spacing
    study: str
    """Pseudonym of the study it comes from."""
    patient: str
    """The patient it is from, the same in all studies of a patient. Identifying: it stays on this machine."""


def sampled(scene: Scene, organ: OrganClass, random: np.random.Generator, taken: Region) -> Region | None:
    """A random lesion in `organ` outside `taken`, or None if the CT has no room for one."""
    ct = scene.ct
    largest = _SHARE * _organ_ml(scene, organ)
    if largest < _LIMITS_ML[0]:
        return None

    def draw() -> Region:
        volume = float(np.clip(np.exp(random.normal(np.log(_MEDIAN_ML), _LOG_SD)), *_LIMITS_ML))
        diameter = 2.0 * float(np.cbrt(min(volume, largest) * 1000 * 3 / (4 * np.pi)))
        half = [int(np.ceil(0.8 * diameter / s)) for s in ct.spacing]
        shape, centre = tuple(2 * h + 1 for h in half), tuple(half)
        return ellipsoid(shape, ct.spacing, centre, (0.8 * diameter, 1.25 * diameter), random)

    return _placed(scene, organ, random, draw, taken)


def borrowed(
    scene: Scene, organ: OrganClass, random: np.random.Generator, shapes: list[Shape], taken: Region
) -> tuple[Region, Shape] | None:
    """Another patient's lesion in `organ` outside `taken`, mirrored at random, and the shape it came from."""
    largest = _SHARE * _organ_ml(scene, organ)
    fitting = [s for s in shapes if s.mask.sum() * np.prod(s.spacing) / 1000.0 <= largest]
    if not fitting:
        return None
    shape = fitting[int(random.integers(len(fitting)))]

    def draw() -> Region:
        axes = tuple(axis for axis in range(3) if random.random() < 0.5)
        return _on_spacing(np.flip(shape.mask, axes), shape.spacing, scene.ct.spacing)

    region = _placed(scene, organ, random, draw, taken)
    return None if region is None else (region, shape)


def drawn(scene: Scene, mask: Volume) -> tuple[NDArray[np.int32], int]:
    """The lesions of a mask drawn by hand, one per connected part, on the CT's grid, and their number.

    They are numbered from 1; what lies outside the body or over a known lesion is left out. Raises
    `InputError` if nothing is left, or more than anybody draws (parts, or litres).
    """
    moved = resample_like(mask, scene.ct, how="nearest").array.astype(np.float32) > 0.5
    inside = moved & (scene.classes > 0)
    # A known lesion stays as it is: numbered among the made ones it would be a wrong label.
    free = inside & (scene.lesions == 0)
    if not free.any():
        raise _nothing_left(scene, anything=bool(moved.any()), in_body=bool(inside.any()))
    if (volume := float(free.sum()) * scene.ct.voxel_ml) > _MOST_DRAWN_ML:
        raise InputError(
            f"The drawn mask marks {volume / 1000:.1f} litres of the body of {scene.name} as lesions.",
            hint=f"Its most is {_MOST_DRAWN_ML / 1000:g} litres. Is it a CT, or a mask of organs?",
        )
    parts, count = ndimage.label(free, ndimage.generate_binary_structure(3, 3))
    if count > _MOST_DRAWN:
        raise InputError(
            f"The drawn mask has {count:,} parts, and each would be a lesion; the most are {_MOST_DRAWN}.",
            hint="Are they specks of a threshold? Clean the mask, so that it holds whole lesions only.",
        )
    return np.asarray(parts, np.int32), int(count)


def _nothing_left(scene: Scene, *, anything: bool, in_body: bool) -> InputError:
    """Why a drawn mask has no lesion for this CT: whether it marks `anything` on it, and `in_body`."""
    if in_body:
        return InputError(
            f"In the body of {scene.name} the drawn mask marks nothing but known lesions.",
            hint="They stay as they are, with their labels (SEG.nii.gz): draw beside them.",
        )
    where = "lies wholly outside of the body" if anything else "marks nothing on the CT"
    return InputError(
        f"The drawn mask {where} of {scene.name}.",
        hint="Draw it on this very CT: where it lies is told by the coordinates in its file.",
    )


def shapes_of(name: str, lesions: Volume, patient: str | None = None) -> list[Shape]:
    """The lesions of the study `name` as shapes; the tiniest and the largest are left out.

    Without a `patient` the study counts as a patient of its own.
    """
    labels = np.asarray(lesions.array) > 0
    parts, _ = ndimage.label(labels, ndimage.generate_binary_structure(3, 3))
    shapes = []
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        mask = np.asarray(parts[box] == number, np.bool_)
        volume = mask.sum() * float(np.prod(lesions.spacing)) / 1000.0
        if _LIMITS_ML[0] <= volume <= _LIMITS_ML[1]:
            shapes.append(Shape(np.pad(mask, 1), lesions.spacing, name, name if patient is None else patient))
    return shapes


def organ_at(scene: Scene, region: Region) -> OrganClass:
    """The organ in which most of a lesion lies."""
    counts = np.bincount(scene.classes[region], minlength=max(ORGAN_LABEL.values()) + 1)
    counts[[0, ORGAN_LABEL["tumour"]]] = 0
    found = int(np.argmax(counts))
    return next((name for name, label in ORGAN_LABEL.items() if label == found), "soft-tissue")


def _organ_ml(scene: Scene, organ: OrganClass) -> float:
    return float(scene.organ(organ).sum()) * scene.ct.voxel_ml


def _placed(
    scene: Scene, organ: OrganClass, random: np.random.Generator, draw: Callable[[], Region], taken: Region
) -> Region | None:
    """The result of `draw`, placed at a random voxel of the organ where most of it fits."""
    allowed = scene.organ(organ) & (scene.lesions == 0) & ~taken
    voxels = np.flatnonzero(allowed)
    if not voxels.size:
        return None
    for _ in range(_TRIES):
        shape = draw()
        centre = np.unravel_index(int(random.choice(voxels)), allowed.shape)
        region = _pasted(shape, tuple(int(c) for c in centre), allowed.shape) & allowed
        if region.sum() >= max(_INSIDE * shape.sum(), _FEWEST_VOXELS):
            parts, _ = ndimage.label(region)
            return np.asarray(parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:])), np.bool_)
    return None


def _pasted(shape: Region, centre: tuple[int, ...], size: tuple[int, ...]) -> Region:
    """`shape` with its middle at `centre` of an empty region of `size`; what extends beyond is lost."""
    out = np.zeros(size, bool)
    start = [c - n // 2 for c, n in zip(centre, shape.shape, strict=True)]
    into = tuple(slice(max(a, 0), min(a + n, m)) for a, n, m in zip(start, shape.shape, size, strict=True))
    out[into] = shape[tuple(slice(s.start - a, s.stop - a) for s, a in zip(into, start, strict=True))]
    return out


def _on_spacing(mask: NDArray[np.bool_], old: Spacing, new: Spacing) -> Region:
    """A mask resampled to voxels of another size."""
    volume = Volume(np.ascontiguousarray(mask, np.float32), old, (0.0, 0.0, 0.0), unit="1")
    return np.asarray(to_spacing(volume, new, how="linear").array.astype(np.float32) > 0.5, np.bool_)
