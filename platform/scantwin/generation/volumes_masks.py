"""Masks for made volumes to follow: organ label maps of a folder, on a model's own grid."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from scantwin.errors import InputError
from scantwin.generation.fields import check_size
from scantwin.generation.label_maps import check_labels
from scantwin.imaging.dicom_files import FileRef, files_under
from scantwin.imaging.nifti import is_nifti, read_nifti
from scantwin.imaging.organs import (
    ORGAN_CLASSES,
    ORGAN_FILE,
    ORGAN_LABEL,
    PHANTOM_TRUTH,
    OrganMapping,
    load_organ_mapping,
    organ_file,
)
from scantwin.imaging.reading import find_studies
from scantwin.imaging.resampling import grid_over, resample_like
from scantwin.imaging.study_files import DESCRIPTION, description, is_ct
from scantwin.imaging.volume import Volume

OWN: Final = OrganMapping(
    name="organ classes", source="scantwin.imaging.organs.ORGAN_LABEL",
    classes={label: name for name, label in ORGAN_LABEL.items()},
)  # fmt: skip
"""The mapping of label maps that ScanTwin wrote itself."""

_RIM: Final = 4
"""Voxels of air around what is labelled, as around the bodies of the training (prepared.prepare_ct)."""


@dataclass(frozen=True)
class MaskFile:
    """One label map of a folder."""

    path: Path
    name: str
    """Its path in the folder, used as its name in manifests."""
    mapping: OrganMapping

    def told(self) -> dict[str, Any]:
        """What identifies the map: its content, not its name alone."""
        content = hashlib.sha256(self.path.read_bytes()).hexdigest()
        return {"name": self.name, "mapping": self.mapping.told(), "sha256": content}

    def read(self, spacing_mm: tuple[float, float, float]) -> Volume:
        """Organ classes (ORGAN_LABEL) on voxels of `spacing_mm`, cropped to what is labelled, with a rim.

        The model knows bodies that reach from the top to the bottom of their field of view. Raises
        `InputError` if the file is not a label map or nothing in it is labelled.
        """
        labels = read_nifti(self.path, "label").canonical()
        check_labels(labels, self.path)
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


def find_masks(path: Path, mapping: str | None = None) -> tuple[MaskFile, ...]:
    """The label map at `path`, or those of a folder: maps in it, and `organs.nii.gz` of studies below it.

    `mapping` says what their numbers mean. Without it an `organs.nii.gz` has the mapping its study states, as
    wherever studies are read; any other map has organ classes. Raises `InputError` if there is none.
    """
    if path.is_file():
        found, folder = [path], path.parent
    elif path.is_dir():
        found, folder = _maps_of(path), path
    else:
        raise InputError(f"There is no folder {path}.", hint="--masks is a label map, or a folder of them.")
    if not found:
        raise InputError(
            f"There is no label map in {folder}.",
            hint=f"It reads NIfTI files in it, in a study's folder its {ORGAN_FILE} alone, and {ORGAN_FILE} "
            "of studies below it.",
        )
    named = None if mapping is None else load_organ_mapping(mapping)
    return tuple(
        MaskFile(one, str(one.relative_to(folder)), named or _mapping_of(one)) for one in sorted(found)
    )


def _maps_of(folder: Path) -> list[Path]:
    """Organ maps of studies in and below `folder`; unless it is a study's own, also all NIfTI files in it."""
    files = [ref.path for ref in files_under(folder)]
    organs = [path for path in files if path.name == ORGAN_FILE]
    # For a study that has organ labels of its own, its phantom's true ones are not read.
    found = {path for path in organs if _home(path) == path.parent or _home(path) / ORGAN_FILE not in organs}
    mine = [path for path in files if path.parent == folder]
    is_study = any(one.name in (DESCRIPTION, ORGAN_FILE) or is_ct(one.name) for one in mine)
    if not is_study and folder / PHANTOM_TRUTH / ORGAN_FILE not in organs:
        found |= {path for path in mine if is_nifti(path)}
    return list(found)


def _home(organs: Path) -> Path:
    """The folder of the study that an organ map belongs to."""
    return organs.parent.parent if organs.parent.name == PHANTOM_TRUTH else organs.parent


def _mapping_of(path: Path) -> OrganMapping:
    if path.name != ORGAN_FILE:
        return OWN
    found = organ_file([FileRef(path)], _said_of(path))
    return OWN if found is None or found.mapping.classes == OWN.classes else found.mapping


def _said_of(organs: Path) -> dict[str, Any]:
    """What study.json says about the study that an organ map belongs to."""
    home = _home(organs)
    if (home / DESCRIPTION).is_file():
        return description([FileRef(home / DESCRIPTION)])
    if (home.parent / DESCRIPTION).is_file():  # of DICOM series in a folder below it, or of another study
        of_it = [source.files for source in find_studies(home.parent) if FileRef(organs) in source.files]
        return description(of_it[0]) if of_it else {}
    return {}
