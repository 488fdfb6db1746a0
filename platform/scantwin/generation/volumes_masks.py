"""Masks that made volumes follow: organ label maps of a folder, on a model's own grid."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from scantwin.errors import InputError
from scantwin.generation.fields import check_size
from scantwin.imaging.nifti import read_nifti
from scantwin.imaging.organs import (
    ORGAN_CLASSES,
    ORGAN_FILE,
    ORGAN_LABEL,
    PHANTOM_TRUTH,
    OrganMapping,
    load_organ_mapping,
)
from scantwin.imaging.resampling import grid_over, resample_like
from scantwin.imaging.volume import Volume

OWN: Final = OrganMapping(
    name="organ classes", source="scantwin.imaging.organs.ORGAN_LABEL",
    classes={label: name for name, label in ORGAN_LABEL.items()},
)  # fmt: skip
"""Of label maps that ScanTwin wrote itself."""

_DEFAULT: Final = "totalsegmentator-total"

_RIM: Final = 4
"""Voxels of air around what is labelled, as around a body that is learnt from (prepared.prepare_ct)."""


@dataclass(frozen=True)
class MaskFile:
    """One label map of a folder."""

    path: Path
    name: str
    """Its place in the folder: what it is called in manifests."""
    mapping: OrganMapping

    def told(self) -> dict[str, str]:
        """Which map it is, by its content and not by its name alone."""
        content = hashlib.sha256(self.path.read_bytes()).hexdigest()
        return {"name": self.name, "mapping": self.mapping.name, "sha256": content}

    def read(self, spacing_mm: tuple[float, float, float]) -> Volume:
        """Organ classes (ORGAN_LABEL) on voxels of `spacing_mm`, cropped to what is labelled, with a rim.

        The model knows bodies that reach from the top to the bottom of their field of view.
        """
        labels = read_nifti(self.path, "label").canonical()
        classes = labels.with_array(self.mapping.of(labels.array), "label")
        grid = grid_over(classes, spacing_mm)
        check_size(grid.shape, f"The mask {self.path} on voxels of the model's size")
        moved = resample_like(classes, grid, how="nearest")
        array = np.asarray(moved.array, np.uint8)
        if not array.any():
            raise InputError(
                f"Nothing in {self.path} is labelled ({self.mapping.name}).",
                hint=f"The classes are {', '.join(ORGAN_CLASSES)}; --mapping says whose numbers a map has.",
            )
        occupied = np.argwhere(array)
        low = np.maximum(occupied.min(axis=0) - _RIM, 0)
        high = np.minimum(occupied.max(axis=0) + 1 + _RIM, array.shape)
        (z0, y0, x0), (z1, y1, x1) = (tuple(int(v) for v in corner) for corner in (low, high))
        return moved.with_array(array, "label").crop((z0, y0, x0), (z1, y1, x1))


def find_masks(folder: Path, mapping: str | None = None) -> list[MaskFile]:
    """The label maps of `folder`: NIfTI files in it, and `organs.nii.gz` of studies below it.

    `mapping` names whose numbers they have. Without it a phantom's truth is known as one, a map that ScanTwin
    wrote (there is a manifest beside it) or that lies in `folder` itself has organ classes, any other
    TotalSegmentator's numbers. Raises `InputError` where there is none.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.", hint="--masks is a folder of label maps.")
    named = None if mapping is None else load_organ_mapping(mapping)
    found = [path for path in folder.rglob("*.nii*") if path.parent == folder or path.name == ORGAN_FILE]
    if not found:
        raise InputError(
            f"There is no label map in {folder}.",
            hint=f"It reads NIfTI files in it, and {ORGAN_FILE} of studies below it.",
        )
    return [
        MaskFile(path, str(path.relative_to(folder)), named or _mapping_of(path, folder))
        for path in sorted(found)
    ]


def _mapping_of(path: Path, folder: Path) -> OrganMapping:
    if path.parent.name == PHANTOM_TRUTH:
        return load_organ_mapping("phantom")
    if path.parent == folder or (path.parent / "manifest.json").is_file():
        return OWN
    return load_organ_mapping(_DEFAULT)
