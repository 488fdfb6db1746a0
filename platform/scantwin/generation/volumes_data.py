"""A data set of made volumes: as many as asked for, from noise alone or following masks. SYNTHETIC.

    volume-0000/CT.nii.gz       the CT [HU], int16
    volume-0000/organs.nii.gz   its mask, or what its CT numbers tell: organ classes (organs.ORGAN_LABEL)
    volume-0000/study.json, manifest.json, picture.png
    dataset.json

Every other command reads a volume's folder as a study. SYNTHETIC, NOT FOR DIAGNOSIS.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from scantwin import NOTICE
from scantwin.errors import InputError
from scantwin.files import (
    claimed_folder,
    read_json,
    require_ours,
    whole_folder,
    whole_parts,
    write_json,
)
from scantwin.generation.fields import Field, check_size
from scantwin.generation.volumes import LowResource3D
from scantwin.generation.volumes_drawing import Order, draw
from scantwin.generation.volumes_masks import MaskFile
from scantwin.imaging.body import body_mask
from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.organs import ORGAN_FILE, ORGAN_LABEL, classes_of_ct
from scantwin.imaging.picture_marks import panel, with_notice
from scantwin.imaging.pictures import best_coronal_mm, ct_slice_image, save_png, slice_frame
from scantwin.imaging.study import District
from scantwin.imaging.volume import Volume
from scantwin.terminal import Advance, silent

_SPREAD: Final = 1.5
"""Sides of a field of view are drawn within this many standard deviations of their mean."""


@dataclass(frozen=True)
class VolumesOrder:
    """What is asked for."""

    count: int
    district: District
    seed: int = 0
    shape: tuple[int, int, int] | None = None
    """Voxels (z, y, x); without it and without masks, fields of view are drawn like those of the training."""
    masks: tuple[MaskFile, ...] = ()
    steps: int | None = None
    """Network evaluations of a volume; the recipe's by default."""
    asked: dict[str, Any] = field(default_factory=dict)
    """The model that it is made with: a data set belongs to one order."""

    def __post_init__(self) -> None:
        if self.shape:
            check_size(self.shape, "A volume of the shape that was asked for")

    def told(self) -> dict[str, Any]:
        """The order without its count, which may grow."""
        return {
            "district": self.district, "seed": self.seed, "shape_zyx": self.shape, "steps": self.steps,
            "masks": [mask.told() for mask in self.masks], **self.asked,
        }  # fmt: skip


def make_volumes(
    system: LowResource3D, order: VolumesOrder, out: Path, *, advance: Advance = silent
) -> dict[str, Any]:
    """Writes the data set and returns what is in it; existing volumes are kept."""
    if not system.learnt(order.district):
        raise InputError(
            f"This model has not learnt to make a {order.district}.",
            hint="Train longer, or choose another --district.",
        )
    adapter = system.adapter(order.district)
    if order.masks and adapter is None:
        raise InputError("This model cannot follow masks.", hint='Its recipe has masks = "none".')
    if order.masks and adapter is not None and not adapter.learnt:
        raise InputError(
            f"This model has not learnt to follow the masks of a {order.district}.",
            hint="Train it longer (volumes.masks_from says when it begins to), or leave --masks out.",
        )
    for number, mask in enumerate(order.masks[: order.count]):
        if not (_folder(out, number) / "manifest.json").is_file():
            mask.read(system.recipe.spacing_mm)  # one that cannot be followed ends the order before it begins
    asked = order.told()
    with claimed_folder(out, asked):
        folders = [_folder(out, number) for number in range(order.count)]
        for folder in folders:
            if not (folder / "manifest.json").is_file():
                require_ours(folder, "manifest.json")
        for number, folder in enumerate(folders):

            def told(done: float, total: float, text: str = "", number: int = number) -> None:
                advance(number + done / total, order.count, text)

            if not (folder / "manifest.json").is_file():
                _make_one(system, order, number, folder, told)
        advance(order.count, order.count)
        # All that are there: a smaller count than before removes none.
        there = whole_parts(out, "volume")
        volumes = [{"volume": one.name, **read_json(one / "manifest.json")} for one in there]
        said = {
            "notice": NOTICE, "out": str(out), "volumes": len(volumes), "masks": len(order.masks),
            "seconds": round(sum(volume["seconds"] for volume in volumes), 1),
            "shapes_zyx": [volume["shape_zyx"] for volume in volumes],
            "district": order.district, "seed": order.seed, **order.asked,
        }  # fmt: skip
        write_json(out / "dataset.json", {**said, "order": asked, "made": volumes})
        return said


def _folder(out: Path, number: int) -> Path:
    return out / f"volume-{number:04d}"


def _make_one(
    system: LowResource3D, order: VolumesOrder, number: int, folder: Path, advance: Advance
) -> None:
    began = time.monotonic()
    mask = order.masks[number % len(order.masks)] if order.masks else None
    grid, classes = _grid(system, order, number, mask)
    seed = order.seed * 1_000_003 + number
    wanted = Order(
        Field.of(grid.shape, grid.spacing), seed,
        _seen(system, classes) if classes is not None else None, order.steps,
    )  # fmt: skip
    ct = grid.with_array(draw(system, order.district, wanted, advance), "HU")
    told_from_ct = classes is None
    if classes is None:
        classes = classes_of_ct(np.asarray(ct.array, np.float32), body_mask(ct), ct.spacing)
    name = f"made-{order.seed}-{number:04d}"
    # study.json says what its numbers mean, so that whoever reads the folder knows which class is which.
    about = {
        "name": name, "synthetic": True, "notice": NOTICE,
        "organs": {str(label): organ for organ, label in ORGAN_LABEL.items()},
    }  # fmt: skip
    manifest = {
        "notice": NOTICE, "shape_zyx": ct.shape, "spacing_zyx_mm": ct.spacing, "seed": seed,
        "steps": order.steps or system.rules.sample_steps, "sampler": system.rules.sampler,
        "guidance": system.rules.guidance, "mask": None if mask is None else mask.name,
        "organs": "told from the made CT's numbers" if told_from_ct else "the mask that was asked for",
        "seconds": round(time.monotonic() - began, 2), **order.asked,
    }  # fmt: skip
    with whole_folder(folder) as aside:
        write_nifti(ct, aside / "CT.nii.gz")
        write_nifti(ct.with_array(classes, "label"), aside / ORGAN_FILE)
        write_json(aside / "study.json", about)
        picture = panel([_pictures(ct)], columns=("front", "side"), title=name)
        save_png(with_notice(picture), aside / "picture.png")
        write_json(aside / "manifest.json", manifest)


def _seen(system: LowResource3D, classes: np.ndarray) -> np.ndarray:
    """The mask as the adapter knows it: organ classes, or the body alone."""
    return classes if system.rules.masks == "organs" else (classes > 0).astype(np.uint8)


def _grid(
    system: LowResource3D, order: VolumesOrder, number: int, mask: MaskFile | None
) -> tuple[Volume, np.ndarray | None]:
    """The empty grid of a volume, and its mask if it has one."""
    spacing = system.recipe.spacing_mm
    if mask is not None:
        classes = mask.read(spacing)
        return classes, np.asarray(classes.array, np.uint8)
    shape = order.shape or _some_field(system, order, number)
    return Volume(np.broadcast_to(np.int16(0), shape), spacing, unit="HU"), None


def _some_field(system: LowResource3D, order: VolumesOrder, number: int) -> tuple[int, int, int]:
    """A field of view [voxels] like those of the training: as tall, deep and wide as some patient."""
    fields = system.denoiser(order.district).fields.double().cpu().numpy()
    mean = fields[1] / fields[0]
    sd = np.sqrt(np.maximum(fields[2] / fields[0] - mean**2, 0.0))
    drawn = np.random.default_rng([order.seed, number]).standard_normal(3)
    sides = mean + np.clip(drawn, -_SPREAD, _SPREAD) * sd
    z, y, x = (max(round(1000.0 * m / s), 1) for m, s in zip(sides, system.recipe.spacing_mm, strict=True))
    return z, y, x


def _pictures(ct: Volume) -> list[Any]:
    frame = slice_frame(ct, "coronal", best_coronal_mm(ct))
    return [ct_slice_image(ct, frame=frame), ct_slice_image(ct, plane="sagittal")]
