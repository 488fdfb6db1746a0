"""What in a CT tells the districts apart: brain, lungs, spine, the neck, the crotch.

Everything here is looked for on blocks of about 5 mm of a canonical CT, cut to the body.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scantwin.imaging.body import Coarse, coarsen
from scantwin.imaging.volume import Volume

Mask = NDArray[np.bool_]

BLOCK_MM: Final = (4.5, 6.0, 6.0)
"""Voxel size (z, y, x) [mm] the landmarks are looked for on: a skull and a wrist are still seen."""
BONE_HU: Final = 200.0
"""Above this a voxel is bone (or contrast in a vessel at its peak); enhanced organs stay below 180."""
BONE_SHARE: Final = 0.25
"""Share of bone voxels that makes a block bone: a thin skull fills a quarter of it, noise much less."""
BRAIN_HU: Final = (0.0, 70.0)
"""Mean HU of the inside of a skull: white matter 27, grey 37, with contrast +5 (TISSUES.md)."""
BRAIN_ML: Final = 250.0
"""A brain cut by the field of view still has this volume [ml]; a whole one about 1,300."""
BRAIN_CM2: Final = 40.0
"""Cross-section [cm2] from which on the inside of a head is looked at; a neck has less inside its rim."""
SCALP_SKULL_MM: Final = 16.0
"""Scalp and skull together [mm], with half a block to spare."""
SKULL_AROUND: Final = 0.8
"""Share of directions with bone: a skull has it all around, but for what thin bone loses to averaging."""
LUNG_HU: Final = (-960.0, -500.0)
"""HU of lung; bowel gas is below, its edges are thin."""
LUNG_ML: Final = 300.0
"""The lungs in the field of view together have this volume [ml]: the tips in a neck CT are not taken."""
NECK_WIDE_MM: Final = 170.0
"""Wider than this [mm] no neck is; the field of view ends in the shoulders."""
APEX_TO_NECK_MM: Final = 10.0
"""From the top of the lung to the plane C7/T1: the apex lies at the neck of the first rib (assumed)."""
WIDER_NECK: Final = 1.42
"""Where the neck has become so much wider than where it is narrowest, the shoulders begin (phantoms)."""
NECK_SLACK_MM: Final = 20.0
"""The width may put C7/T1 this far from where the lung puts it [mm]; further it is of something else."""
THIN: Final = 0.84
"""Thickness on the middle line over that of the thighs below which a slice is of two legs: above the crotch
it is 0.96 and more, below it 0.8 and less also where the thighs touch (phantoms of BMI 17 to 38)."""
BRAIN_TO_CROTCH_MM: Final = 400.0
"""The crotch of the smallest adult lies further below the brain than this [mm]."""
HANGING_MM: Final = 10.0
"""What lies between the thighs hangs this far below the crotch [mm] before the tissue there thins out."""
APART_MM: Final = 60.0
"""A cross-section whose middle lies further off the middle line than this [mm] is an arm, or has one arm."""
SPINE_MM: Final = 60.0
"""Less than two vertebrae and their discs [mm] are not called a spine."""
IN_SLICE: Final = ndimage.generate_binary_structure(3, 1) & np.array([False, True, False])[:, None, None]
"""Neighbours within an axial slice only."""


@dataclass(frozen=True, eq=False)
class Scene:
    """The coarse CT, cut to the body. Arrays (z, y, x), z towards the head."""

    hu: NDArray[np.float32]
    """[HU]."""
    body: Mask
    depth: NDArray[np.float32]
    """Distance to the skin within the slice [mm]; 0 outside."""
    bone: Mask
    """Blocks with bone, in the body."""
    spacing: tuple[float, float, float]
    """(z, y, x) [mm]."""
    x0: NDArray[np.float64]
    """Column of the body's middle line, per slice [blocks]."""
    inside: tuple[slice, slice, slice]
    """Where the scene lies in the coarse CT."""
    cut_sides: float
    """Share of the body's rim on flat sides: a few percent of a person, more of a crop."""

    @property
    def lateral(self) -> NDArray[np.float32]:
        """Distance of each block (z, 1, x) from the middle line [mm], the patient's left positive."""
        columns = np.arange(self.body.shape[2])
        away = (columns[None, :] - self.x0[:, None]) * self.spacing[2]
        return np.asarray(away[:, None, :], np.float32)

    @property
    def area(self) -> NDArray[np.float64]:
        """Cross-section of the body per slice [cm2]."""
        return np.asarray(self.body.sum(axis=(1, 2)) * (self.spacing[1] * self.spacing[2] / 100.0), float)


@dataclass(frozen=True, eq=False)
class Landmarks:
    """What was found. Slices are indices of the scene; None where it was not found."""

    brain: Mask | None
    brain_slices: tuple[int, int] | None
    """First and last slice of the brain."""
    lung_slices: tuple[int, int] | None
    """First and last slice of the lungs."""
    spine: NDArray[np.bool_]
    """Per slice: bone on the middle line at the back of one large piece, as in the trunk."""
    neck: int | None
    """First slice of the head: C7/T1. None when the field of view ends below it."""
    crotch: int | None
    """First slice of the trunk. None when the field of view ends above it."""


def look(ct: Volume, body: Mask) -> tuple[Scene, Coarse] | None:
    """The scene of a canonical CT [HU] with its body mask; None when there is no body."""
    coarse = coarsen(ct, BLOCK_MM)
    inner = coarsen(ct.with_array(body.astype(np.uint8), "label"), BLOCK_MM).hu >= 0.5
    boxes = ndimage.find_objects(inner.astype(np.uint8))
    if not boxes:
        return None
    box: tuple[slice, slice, slice] = boxes[0]
    hu, mask = coarse.hu[box], inner[box]
    apart = (1e6, coarse.spacing[1], coarse.spacing[2])  # slices are far apart: distance within the slice
    # The side of the field of view is no skin: the body goes on there.
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)), constant_values=False)
    depth = ndimage.distance_transform_edt(padded, sampling=apart)[:, 1:-1, 1:-1].astype(np.float32)
    hard = coarsen(ct.with_array((np.asarray(ct.array) > BONE_HU).astype(np.uint8), "label"), BLOCK_MM).hu[
        box
    ]
    bone = mask & (hard >= BONE_SHARE)
    middle = _middle_line(mask, coarse.spacing[2])
    return Scene(hu, mask, depth, bone, coarse.spacing, middle, box, _cut_sides(mask)), coarse


def find_landmarks(scene: Scene, axial: Mask) -> Landmarks:
    """The landmarks of a scene; `axial` is the body without what was taken for arms."""
    brain = find_brain(scene)
    brain_slices = None if brain is None else _slices(brain)
    lungs = find_lungs(scene)
    spine = spine_slices(scene, axial)
    neck = find_neck(scene, axial, brain_slices, lungs)
    crotch = find_crotch(scene, axial, spine, brain_slices, lungs)
    return Landmarks(brain, brain_slices, lungs, spine, neck, crotch)


def find_brain(scene: Scene) -> Mask | None:
    """The inside of the skull: soft, even tissue with bone all around it under the skin; or None."""
    near = np.abs(scene.lateral) < 110.0
    inner = (scene.depth > SCALP_SKULL_MM) & near
    soft = inner & (scene.hu > BRAIN_HU[0] - 60) & (scene.hu < BRAIN_HU[1] + 60)
    unlike = inner & ~soft & ~scene.bone  # fat, air: the base of the skull, or no head at all
    cm2 = scene.spacing[1] * scene.spacing[2] / 100.0
    area = soft.sum(axis=(1, 2))
    mean = np.where(soft, scene.hu, 0).sum(axis=(1, 2)) / np.maximum(area, 1)
    skull = (area * cm2 > BRAIN_CM2) & (mean > BRAIN_HU[0]) & (mean < BRAIN_HU[1])
    skull &= (unlike.sum(axis=(1, 2)) < 0.15 * area) & (area > 0.5 * inner.sum(axis=(1, 2)))
    shell = scene.bone & near & (scene.depth <= SCALP_SKULL_MM + 4)
    skull &= _around(scene, inner, shell) > SKULL_AROUND
    runs, found = ndimage.label(ndimage.binary_closing(np.pad(skull, 4), np.ones(3))[4:-4])
    volume = [soft[runs == k].sum() * float(np.prod(scene.spacing)) / 1000 for k in range(1, found + 1)]
    if not volume or max(volume) < BRAIN_ML:
        return None
    brain = np.zeros_like(soft)
    slices = runs == int(np.argmax(volume)) + 1
    brain[slices] = soft[slices]
    return brain


def head_top(scene: Scene, brain: Mask) -> int:
    """The last slice of the head: what hangs on the brain from slice to slice, at most 80 mm on."""
    last = _slices(brain)[1]
    under = brain[last]
    for z in range(last + 1, min(last + 1 + round(80 / scene.spacing[0]), scene.body.shape[0])):
        labels, _ = ndimage.label(scene.body[z] & (np.abs(scene.lateral[z]) < 110.0))
        hit = np.bincount(labels[under], minlength=1)
        hit[0] = 0
        if not hit.any():
            return z - 1
        on = labels == int(np.argmax(hit))
        # The vertex gets smaller; hands on top of it would not.
        if on.sum() > 1.2 * under.sum() and z > last + round(20 / scene.spacing[0]):
            return z - 1
        under = on
    return last + round(20 / scene.spacing[0])


def _around(scene: Scene, inner: Mask, shell: Mask) -> NDArray[np.float64]:
    """Per slice, the share of 24 directions from the middle of `inner` in which there is `shell`."""
    row, column = _mean_row(inner), _mean_row(inner.transpose(0, 2, 1))
    z, y, x = np.nonzero(shell)
    angle = np.arctan2((y - row[z]) * scene.spacing[1], (x - column[z]) * scene.spacing[2])
    sector = ((angle + np.pi) / (2 * np.pi) * 24).astype(int) % 24
    seen = np.zeros((shell.shape[0], 24), bool)
    seen[z, sector] = True
    return np.asarray(seen.mean(axis=1))


def find_lungs(scene: Scene) -> tuple[int, int] | None:
    """First and last slice of the lungs, or None."""
    air = scene.body & (scene.hu > LUNG_HU[0]) & (scene.hu < LUNG_HU[1])
    air = ndimage.binary_opening(air, IN_SLICE)
    labels, count = ndimage.label(air)
    if not count:
        return None
    size = np.bincount(labels.ravel()) * float(np.prod(scene.spacing)) / 1000
    size[0] = 0
    large = size > max(LUNG_ML / 4, 0.2 * size.max())  # gas in the bowel is not lung
    if size[large].sum() < LUNG_ML:
        return None
    return _slices(large[labels])


def spine_slices(scene: Scene, axial: Mask) -> NDArray[np.bool_]:
    """Per slice, whether there is a spine: bone on the middle line, in the back half of one large piece."""
    cm2 = scene.spacing[1] * scene.spacing[2] / 100.0
    bone = scene.bone & axial & (np.abs(scene.lateral) < 30.0)
    middle = np.abs(scene.lateral[:, 0]) < 12.0
    crossed = (axial.any(axis=1) & middle).sum(axis=1) >= 0.9 * middle.sum(axis=1)
    large = axial.sum(axis=(1, 2)) * cm2 > 180.0
    # Knees that touch have bone near the middle too, but not at the back.
    back = _mean_row(bone) > _mean_row(axial)
    found = (bone.sum(axis=(1, 2)) * cm2 > 1.0) & crossed & large & back
    # A disc between two vertebrae is no end of the spine; a few slices are none.
    found = ndimage.binary_closing(np.pad(found, 8), np.ones(7))[8:-8]
    runs, _ = ndimage.label(found)
    long = np.bincount(runs) * scene.spacing[0] >= SPINE_MM
    long[0] = False
    return np.asarray(long[runs])


def find_neck(
    scene: Scene, axial: Mask, brain: tuple[int, int] | None, lungs: tuple[int, int] | None
) -> int | None:
    """First slice of the head: by the width of the neck where there is a head, else by the lung."""
    count = axial.shape[0]
    dz = scene.spacing[0]
    by_lung = None if lungs is None else lungs[1] + 1 + APEX_TO_NECK_MM / dz
    if by_lung is not None and lungs is not None and lungs[1] >= count - 2:
        by_lung = None  # the lung goes on above the field of view
    width = _width(scene, axial)
    if brain is None:
        return None if by_lung is None or by_lung >= count - 1 else _neck_above(width, by_lung, dz)
    # The neck is narrowest within 180 mm below the brain; from there down it widens to the shoulders.
    low = max(0, brain[0] - round(180 / dz))
    stretch = width[low : brain[0] + 1]
    if len(stretch) < 3:
        return 0
    thin = low + int(np.argmin(stretch))
    by_width = _widens(width[: thin + 1], WIDER_NECK * width[thin])
    if by_width is None:
        return 0 if by_lung is None else round(by_lung)
    if by_lung is None:
        return round(by_width)
    slack = NECK_SLACK_MM / dz
    return round((by_lung + float(np.clip(by_width, by_lung - slack, by_lung + slack))) / 2)


def _neck_above(width: NDArray[np.float64], by_lung: float, dz: float) -> int:
    """First slice of a neck without a head: between where the lung and where the width puts it."""
    slack = NECK_SLACK_MM / dz
    start = max(0, round(by_lung - slack))
    stretch = width[start:]
    if stretch.min() > NECK_WIDE_MM:
        return round(by_lung)
    # Down from the narrowest place: above it the jaw is wide again.
    below = stretch[: int(np.argmin(stretch)) + 1]
    by_width = start + (_widens(below, WIDER_NECK * below[-1]) or 0.0)
    return round((by_lung + min(by_width, by_lung + slack)) / 2)


def _widens(width: NDArray[np.float64], limit: float) -> float | None:
    """Where, from the top down, the width first exceeds `limit`, in slices from the first; or None."""
    wider = np.flatnonzero(width > limit)
    if not len(wider):
        return None
    return int(wider[-1]) + _crossing(width, int(wider[-1]), limit)


def _crossing(values: NDArray[np.float64], k: int, limit: float) -> float:
    """Where between the centres of slices k and k + 1 `values` cross `limit`, above the lower edge of k."""
    if k + 1 >= len(values):
        return 1.0
    return 0.5 + float(np.clip((limit - values[k]) / (values[k + 1] - values[k]), 0.0, 1.0))


def find_crotch(
    scene: Scene,
    axial: Mask,
    spine: NDArray[np.bool_],
    brain: tuple[int, int] | None,
    lungs: tuple[int, int] | None,
) -> int | None:
    """First slice of the trunk: below it the tissue between the thighs is thin or gone."""
    ratio = middle_thickness(scene, axial)
    dz = scene.spacing[0]
    top = len(ratio)
    runs, count = ndimage.label(spine)
    if count:  # the crotch is below the longest run of the spine
        longest = int(np.argmax(np.bincount(runs.ravel())[1:])) + 1
        top = int(np.flatnonzero(runs == longest)[0]) + round(60 / dz)
    if lungs is not None:
        top = min(top, lungs[0])
    if brain is not None:
        top = min(top, brain[0] - round(BRAIN_TO_CROTCH_MM / dz))
    thin = ratio < THIN
    # The last thin slice, such that most slices below it are thin too (a fold of the belly is not).
    for k in np.flatnonzero(thin[: max(top, 0)])[::-1]:
        if thin[max(0, k - round(60 / dz)) : k + 1].mean() > 0.8:
            return min(round(int(k) + _crossing(ratio, int(k), THIN) + HANGING_MM / dz), len(ratio))
    return None


def middle_thickness(scene: Scene, axial: Mask) -> NDArray[np.float64]:
    """Front-to-back tissue on the middle line, over that of the thicker side, per slice."""
    thick = axial.sum(axis=1) * scene.spacing[1]  # (z, x) [mm]
    away = np.abs(scene.lateral[:, 0])
    middle = (thick * (away < 12)).sum(axis=1) / np.maximum((away < 12).sum(axis=1), 1)
    side = np.where((away > 45) & (away < 130), thick, 0).max(axis=1)
    return np.asarray(middle / np.maximum(side, 1.0))


def _middle_line(body: Mask, width_mm: float) -> NDArray[np.float64]:
    """Column of the middle line per slice: a straight line through slices of one piece or of two alike."""
    labels, count = ndimage.label(body, IN_SLICE)
    z, _, x = np.nonzero(labels)
    piece = labels[labels > 0]
    size = np.bincount(piece, minlength=count + 1).astype(float)
    column = np.bincount(piece, weights=x, minlength=count + 1) / np.maximum(size, 1)
    slices = np.zeros(count + 1, int)
    slices[piece] = z
    widest = int(np.argmax(body.sum(axis=(1, 2))))  # legs are below it, a head beside a raised arm above
    rows: list[tuple[int, float, float]] = []
    for k in range(body.shape[0]):
        here = np.flatnonzero(slices == k)
        here = here[here > 0][np.argsort(size[here[here > 0]])[::-1]]
        total = size[here].sum()
        if len(here) and size[here[0]] > 0.85 * total:
            rows.append((k, float(column[here[0]]), total))
        elif (
            k <= widest
            and len(here) > 1
            and size[here[1]] > 0.6 * size[here[0]]
            and size[here[:2]].sum() > 0.85 * total
        ):
            rows.append((k, float(column[here[:2]].mean()), total))
    if len(rows) < 5:
        return np.full(body.shape[0], float(x.mean()))
    return _straight(np.array(rows, float), body.shape[0], APART_MM / width_mm)


def _straight(table: NDArray[np.float64], count: int, apart: float) -> NDArray[np.float64]:
    """A line through rows of (slice, column, area), without those that lie further than `apart` columns off.

    A raised arm alone, above the head, is such a row, and may be in more slices than the head.
    """
    slices, columns, area = table.T
    order = np.argsort(columns)
    slope, middle = 0.0, float(columns[order][np.searchsorted(area[order].cumsum(), area.sum() / 2)])
    for _ in range(5):
        near = np.abs(columns - slope * slices - middle) < apart
        if np.ptp(slices[near]) <= 20:
            middle = float(np.average(columns[near], weights=area[near])) if near.any() else middle
            break
        slope, middle = np.polyfit(slices[near], columns[near], 1, w=area[near])
    return np.asarray(slope * np.arange(count) + middle)


def _cut_sides(body: Mask) -> float:
    """Share of the in-slice rim of the body that lies on the left, right or front of its own bounding box.

    A person touches it here and there; a crop of a person has flat sides. (The back lies flat on a table.)
    """
    rim = body & ~ndimage.binary_erosion(body, IN_SLICE, border_value=0)
    flat = rim[:, :, 0].sum() + rim[:, :, -1].sum() + rim[:, 0, :].sum()
    return float(flat / max(rim.sum(), 1))


def _mean_row(mask: Mask) -> NDArray[np.float64]:
    """Mean row of a mask per slice [blocks]; -1 where it is empty."""
    count = mask.sum(axis=(1, 2))
    total = (mask.sum(axis=2) * np.arange(mask.shape[1])).sum(axis=1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), -1.0))


def _width(scene: Scene, axial: Mask) -> NDArray[np.float64]:
    """Left-to-right extent [mm] of the piece on the middle line, per slice."""
    any_row: Mask = np.asarray(axial.any(axis=1))
    width = np.zeros(len(any_row))
    for z, row in enumerate(any_row):
        runs, count = ndimage.label(row)
        if count:
            middle = int(np.clip(round(float(scene.x0[z])), 0, len(row) - 1))
            run = runs[middle] or runs[np.argmin(np.where(row, np.abs(np.arange(len(row)) - middle), 10**6))]
            width[z] = (runs == run).sum() * scene.spacing[2]
    return width


def _slices(mask: Mask) -> tuple[int, int]:
    """First and last slice of a mask."""
    found = np.flatnonzero(mask.any(axis=(1, 2)))
    return int(found[0]), int(found[-1])
