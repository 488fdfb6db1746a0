"""`PreparedStudy`: a study on the working grid, ready for patches, and the inputs that a network sees.

Besides the CT, the networks see where a voxel is: a 13 cm patch of liver and one of muscle look alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from scantwin.imaging.districts import split_districts
from scantwin.imaging.organs import ORGAN_LABEL, classes_of_ct
from scantwin.imaging.reasons import reject
from scantwin.imaging.resampling import grid_over, resample_like
from scantwin.imaging.study import DISTRICT_LABEL, DISTRICTS, District, Study
from scantwin.imaging.volume import Volume
from scantwin.units import AIR_HU

if TYPE_CHECKING:
    from torch import Tensor

INPUTS: Final = (
    "hu", "soft-tissue", "skin-depth", "below-top", "above-bottom", "back", "left", "from-side", "fat",
)  # fmt: skip
"""Channels of a network's input, in order. The last is one number per patient: how fat."""

FAT_HU: Final = (-190.0, -30.0)
"""CT numbers of adipose tissue [HU] (the usual window for body composition by CT)."""

FAT_SHARE: Final = (0.35, 0.15)
"""Share of fat in the body that becomes 0 in the channel `fat`, and how much more of it becomes 1: adults
have a quarter to a half."""

HU_SCALE: Final = 1500.0
"""CT number [HU] that becomes 1 in the channel `hu`."""

SOFT_HU: Final = (40.0, 200.0)
"""Level and half width [HU] of the channel `soft-tissue`: -160..240 HU, fat to enhanced organs."""

_DEPTH_MM: Final = 60.0
"""Depth under the skin [mm] at which the channel saturates: the rind of fat and muscle is shallower."""

_SOME_UPTAKE: Final = 0.12
"""SUV [g/ml] above which there is tissue: half that of subcutaneous fat (sources.md, 1)."""
_SMOOTH_MM: Final = 4.0
"""SD [mm] of the smoothing before that: wider than a PET's own blur, so that noise in air does not count."""

_RIM: Final = 4
"""Voxels of air kept around the body of a prepared CT, so that the body borders on something."""

_PLACE_MM: Final = 300.0
"""Distance [mm] that becomes 1 in the place channels: about half a trunk."""

_SIDE_MM: Final = 100.0
"""Distance [mm] from the nearest side of the CT's field of view at which the channel saturates: of a trunk
in 500 mm only the skin and the arms are nearer; for a piece of a limb it says what was worth scanning."""


@dataclass(frozen=True, eq=False)
class PreparedStudy:
    """One study on the working grid. Arrays have axes (z, y, x)."""

    name: str
    condition: str
    grid: Volume
    """The working grid (its array is empty)."""
    hu: NDArray[np.float32]
    """CT [HU]."""
    body: NDArray[np.bool_]
    labels: NDArray[np.uint8]
    """District labels (DISTRICT_LABEL) of the body, 0 outside it."""
    depth: NDArray[np.floating | np.uint8]
    """Distance to the skin [mm], 0 outside; 0 everywhere if the recipe makes CT."""
    suv: NDArray[np.float32] | None = None
    """PET [g/ml] on the working grid."""
    lesions: NDArray[np.uint8] | None = None
    pet: Volume | None = None
    """PET [g/ml] on its own grid, on which metrics are computed."""
    pet_lesions: NDArray[np.uint8] | None = None
    """Lesion labels on the PET's own grid."""
    confidence: float = 1.0
    """Confidence of the split into districts."""
    has_ct: bool = True
    """False for a PET without a CT, which only unpaired training can use; `hu` is then air."""
    organs: NDArray[np.uint8] | None = None
    """Organ classes (organs.ORGAN_LABEL), lesions as tumour; only if the recipe makes CT."""
    sides: tuple[tuple[float, float], tuple[float, float]] | None = None
    """Where the CT's field of view begins and ends along y and along x [voxels of the grid]; None if the grid
    covers just that field. A PET's is wider, and with a PET the grid is the PET's."""

    @cached_property
    def boxes(self) -> dict[District, tuple[slice, slice, slice]]:
        """Bounding box of each district that is present; `whole-body` is the whole body."""
        found = ndimage.find_objects(self.labels, max_label=max(DISTRICT_LABEL.values()))
        boxes = {
            d: found[DISTRICT_LABEL[d] - 1] for d in DISTRICTS if found[DISTRICT_LABEL[d] - 1] is not None
        }
        body = ndimage.find_objects(self.body.view(np.uint8))
        if body and body[0] is not None:
            boxes["whole-body"] = body[0]
        return boxes

    @cached_property
    def fat_share(self) -> float:
        """Share of the body's voxels that are fat, 0 to 1; that of FAT_SHARE if there is no CT.

        SUV is normalised by body weight and fat takes up little, so lean tissue has more in a fat patient.
        """
        if not self.has_ct or not self.body.any():
            return FAT_SHARE[0]
        hu = self.hu[self.body]
        return float(np.mean((hu > FAT_HU[0]) & (hu < FAT_HU[1])))

    @property
    def split(self) -> bool:
        """Whether the body was split into districts."""
        return bool(set(self.boxes) - {"whole-body"})

    def body_on(self, grid: Volume) -> NDArray[np.bool_]:
        """The body (z, y, x) on another grid: voxels more than half of which is body."""
        body = self.grid.with_array(self.body.view(np.uint8), "1")
        return np.asarray(resample_like(body, grid, how="area").array.astype(np.float32) > 0.5, np.bool_)

    def mask(self, district: District, z: int | None = None) -> NDArray[np.bool_]:
        """Voxels of `district`, only on slice `z` if given; `whole-body` is the whole body, split or not."""
        at = slice(None) if z is None else z
        return self.body[at] if district == "whole-body" else self.labels[at] == DISTRICT_LABEL[district]

    def inputs(
        self, district: District, start: tuple[int, int, int], shape: tuple[int, int, int]
    ) -> NDArray[np.float32]:
        """The network's input for a window: (channel, z, y, x), channels as in INPUTS.

        `start` may lie outside the grid; there the window holds air.
        """
        hu = cut(self.hu, start, shape, AIR_HU)
        z, y, x = (np.arange(a, a + n, dtype=np.float32) for a, n in zip(start, shape, strict=True))
        at = z[:, None, None], y[None, :, None], x[None, None, :]
        return self.seen(district, hu, cut(self.depth, start, shape, 0.0), at)

    def seen(
        self,
        district: District,
        hu: NDArray[np.float32],
        depth: NDArray[np.float32],
        at: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        """The network's input (channel, z, y, x) for voxels at the z, y and x of `at` [voxels of the grid].

        `hu` [HU] and `depth` [mm] (z, y, x) are the values there; `at` is broadcast to them.
        """
        box = self.boxes[district]
        z, y, x = (place * np.float32(s) for place, s in zip(at, self.grid.spacing, strict=True))
        sz, sy, sx = self.grid.spacing
        top, bottom = (box[0].stop - 1) * sz - z, z - box[0].start * sz
        back = y - (box[1].start + box[1].stop - 1) / 2 * sy
        left = x - (box[2].start + box[2].stop - 1) / 2 * sx
        out = np.empty((len(INPUTS), *hu.shape), np.float32)
        out[0] = np.clip(hu, -1024.0, 1976.0) / HU_SCALE
        out[1] = np.clip((hu - SOFT_HU[0]) / SOFT_HU[1], -1.0, 1.0)
        out[2] = np.minimum(depth, _DEPTH_MM) / _DEPTH_MM
        out[3] = np.clip(top, -_PLACE_MM, 3 * _PLACE_MM) / _PLACE_MM
        out[4] = np.clip(bottom, -_PLACE_MM, 3 * _PLACE_MM) / _PLACE_MM
        out[5] = np.clip(back, -_PLACE_MM, _PLACE_MM) / _PLACE_MM
        out[6] = np.clip(left, -_PLACE_MM, _PLACE_MM) / _PLACE_MM
        sides = self.sides or tuple((-0.5, n - 0.5) for n in self.hu.shape[1:])
        rows, columns = (
            (np.minimum(place - low, high - place) * s).astype(np.float32)
            for place, (low, high), s in zip(at[1:], sides, (sy, sx), strict=True)
        )
        out[7] = np.clip(np.minimum(rows, columns), 0.0, _SIDE_MM) / _SIDE_MM
        out[8] = np.clip((self.fat_share - FAT_SHARE[0]) / FAT_SHARE[1], -2.0, 2.0)
        return out


def channel(inputs: Tensor, name: str) -> Tensor:
    """The channel `name` (of INPUTS) of a network's inputs (B, C, D, H, W): (B, 1, D, H, W)."""
    at = INPUTS.index(name)
    return inputs[:, at : at + 1]


def windows_of(hu: Tensor) -> Tensor:
    """Both CT channels (B, 2, D, H, W), as in `PreparedStudy.inputs`, from the first (B, 1, D, H, W)."""
    import torch

    soft = ((hu * HU_SCALE - SOFT_HU[0]) / SOFT_HU[1]).clamp(-1.0, 1.0)
    return torch.cat([hu, soft], dim=1)


def cut(
    array: NDArray[np.generic], start: tuple[int, ...], shape: tuple[int, ...], fill: float
) -> NDArray[np.float32]:
    """The window [start, start + shape) of `array` as float32, `fill` where it lies outside."""
    out = np.full(shape, fill, np.float32)
    inside = tuple(slice(max(a, 0), min(a + n, m)) for a, n, m in zip(start, shape, array.shape, strict=True))
    if all(s.stop > s.start for s in inside):
        out[tuple(slice(s.start - a, s.stop - a) for s, a in zip(inside, start, strict=True))] = array[inside]
    return out


def _sides_on(grid: Volume, ct: Volume) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where the field of view of `ct` begins and ends on the canonical `grid`, along y and x [voxels]."""
    (_, y0, x0), (_, y1, x1) = (grid.index(corner).tolist() for corner in ct.bounds)
    return (y0, y1), (x0, x1)


def _labelled(given: NDArray[np.generic], body: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """District labels of the whole `body`: voxels that were `given` none, or an unknown one, are whole-body.

    Districts that come with a study may leave out any part of it, and a split may leave out a rim of skin.
    """
    known = np.isin(given, list(DISTRICT_LABEL.values()))
    labels = np.where(known, given, DISTRICT_LABEL["whole-body"])
    return np.where(body, labels, 0).astype(np.uint8)


def _body_of_ct(study: Study, grid: Volume) -> NDArray[np.bool_]:
    """The body on `grid`, found on the CT's own voxels: on coarser ones a table is as dense as fat."""
    found = study.ct.with_array(study.body.view(np.uint8), "1")
    return np.asarray(resample_like(found, grid, how="area").array.astype(np.float32) > 0.5, np.bool_)


def _under_the_skin(body: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> NDArray[np.float32]:
    """Distance [mm] (z, y, x) to the nearest voxel outside the body, 0 outside."""
    # ITK's map agrees with SciPy's to a hundred-thousandth and takes half the time.
    air = sitk.GetImageFromArray(np.pad(~body, 1, constant_values=True).view(np.uint8))
    air.SetSpacing(spacing_mm[::-1])
    signed = sitk.SignedMaurerDistanceMap(air, squaredDistance=False, useImageSpacing=True)
    inside = sitk.GetArrayViewFromImage(signed)[1:-1, 1:-1, 1:-1]
    return np.maximum(np.asarray(inside, np.float32), np.float32(0.0))


def prepare(study: Study, spacing_mm: tuple[float, float, float]) -> PreparedStudy:
    """`study` on a canonical grid of `spacing_mm` (z, y, x), split into districts by its CT.

    A PET alone is whole-body, unless districts were given with it. Raises the rejections `ct.empty` and
    `pet.implausible` if there is no body, `pair.far-apart` if none of it is on the PET.
    """
    reference = study.ct if study.pet is None else study.pet
    grid = grid_over(reference, spacing_mm)
    ct = study.ct_on(grid)
    hu = np.ascontiguousarray(ct.array, np.float32)
    if study.has_ct:
        body = _body_of_ct(study, grid)
        _require(body)
    else:
        body = _body_of_pet(resample_like(reference, grid, how="area"))
    labels, confidence = body.astype(np.uint8) * DISTRICT_LABEL["whole-body"], 1.0
    if study.districts is not None:
        labels = _labelled(resample_like(study.districts, grid, how="nearest").array, body)
    elif study.has_ct:
        split = split_districts(ct, body)
        labels, confidence = _labelled(split.labels.array, body), split.confidence
    lesions = study.lesions_on(grid)
    pet = study.pet
    pet_lesions = None if pet is None else study.lesions_on(pet)
    made = PreparedStudy(
        name=study.name, condition=study.condition,
        grid=grid, hu=hu, body=body, labels=labels, depth=_under_the_skin(body, spacing_mm),
        suv=None if pet is None else resample_like(pet, grid, how="area").array.astype(np.float32),
        lesions=_marked(lesions), pet=pet, pet_lesions=_marked(pet_lesions),
        confidence=float(confidence), has_ct=study.has_ct, sides=_sides_on(grid, study.ct),
    )  # fmt: skip
    if pet is not None and not made.body_on(pet).any():
        raise reject("pair.far-apart", found="no voxel of the PET lies in the body")
    return made


def prepare_ct(study: Study, spacing_mm: tuple[float, float, float], *, districts: bool) -> PreparedStudy:
    """The CT of `study`, cropped to the body, with organ classes: what systems that make CT learn from.

    Its voxels are finer than those for PET, so what such systems do not need (PET, skin depth) is left out.
    """
    grid = grid_over(study.ct, spacing_mm)
    body = _body_of_ct(study, grid)
    _require(body)
    occupied = np.argwhere(body)
    low = np.maximum(occupied.min(axis=0) - _RIM, 0)
    high = np.minimum(occupied.max(axis=0) + 1 + _RIM, body.shape)
    (z0, y0, x0), (z1, y1, x1) = (tuple(int(v) for v in corner) for corner in (low, high))
    grid, body = grid.crop((z0, y0, x0), (z1, y1, x1)), np.ascontiguousarray(body[z0:z1, y0:y1, x0:x1])
    ct = study.ct_on(grid)
    hu = np.ascontiguousarray(ct.array, np.float32)
    lesions = study.lesions_on(grid)
    labels, confidence = body.astype(np.uint8) * DISTRICT_LABEL["whole-body"], 1.0
    if districts and study.districts is not None:
        labels = _labelled(resample_like(study.districts, grid, how="nearest").array, body)
    elif districts:
        split = split_districts(ct, body)
        labels, confidence = _labelled(split.labels.array, body), float(split.confidence)
    return PreparedStudy(
        name=study.name, condition=study.condition, grid=grid, hu=hu, body=body, labels=labels,
        depth=np.broadcast_to(np.float32(0.0), hu.shape), lesions=_marked(lesions), confidence=confidence,
        has_ct=study.has_ct, organs=organ_classes(study, grid, hu, body),
    )  # fmt: skip


def _marked(lesions: Volume | None) -> NDArray[np.uint8] | None:
    """1 in lesions, whatever their labels."""
    return None if lesions is None else (np.asarray(lesions.array, np.float32) > 0).astype(np.uint8)


def _require(body: NDArray[np.bool_]) -> None:
    if not body.any():
        raise reject("ct.empty", found="no body was found in it")


def organ_classes(
    study: Study, grid: Volume, hu: NDArray[np.float32], body: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Organ classes (z, y, x) on `grid`: the study's labels, elsewhere in the body what `hu` [HU] tells."""
    classes = classes_of_ct(hu, body, grid.spacing)
    given = study.organs_on(grid)
    if given is not None:
        labels = given.array.astype(np.uint8)
        known = body & (labels > 0)
        classes[known] = labels[known]
    if (marked := _marked(study.lesions_on(grid))) is not None:
        classes[body & (marked > 0)] = ORGAN_LABEL["tumour"]
    return classes


def _body_of_pet(pet: Volume) -> NDArray[np.bool_]:
    """The patient in a PET [g/ml] (z, y, x): the largest part that takes up anything, its holes filled.

    Raises the rejection `pet.implausible`.
    """
    smooth = ndimage.gaussian_filter(pet.array.astype(np.float32), [_SMOOTH_MM / s for s in pet.spacing])
    parts, count = ndimage.label(smooth > _SOME_UPTAKE)
    if not count:
        raise reject("pet.implausible", found=f"nothing in it takes up {_SOME_UPTAKE} g/ml")
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return np.stack([ndimage.binary_fill_holes(plane) for plane in largest])
