"""Organ classes: what a voxel belongs to, in a short list that every label map can be mapped to.

A label map lies beside its CT: `organs.nii.gz` of TotalSegmentator or another program (study.json names the
mapping under "organs", or holds one; otherwise TotalSegmentator's numbers are assumed), or
`truth/organs.nii.gz` of a phantom. What no map labels is classified by CT number, so a CT alone has classes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy import ndimage

from scantwin.errors import InputError
from scantwin.imaging.dicom_files import FileRef
from scantwin.imaging.nifti import read_nifti_stream
from scantwin.imaging.reasons import reject
from scantwin.imaging.volume import Volume
from scantwin.imaging.world import axis_aligned

OrganClass = Literal[
    "lung", "liver", "kidney", "spleen", "pancreas", "heart", "vessel", "brain", "bowel", "fluid", "bone",
    "fat", "gas", "soft-tissue", "tumour",
]  # fmt: skip
"""`fluid` is urine and bile, `gas` lies outside the lungs, `soft-tissue` is muscle, glands and the rest."""

ORGAN_CLASSES: Final[tuple[OrganClass, ...]] = get_args(OrganClass)
ORGAN_LABEL: Final[dict[OrganClass, int]] = {name: k for k, name in enumerate(ORGAN_CLASSES, start=1)}
"""Label of each class in a class volume; 0 is outside the body."""

ORGAN_FILE: Final = "organs.nii.gz"
PHANTOM_TRUTH: Final = "truth"
"""Folder of a phantom's true organs."""

_PACKAGED = files("scantwin.imaging") / "organ_mappings"
_DEFAULT: Final = "totalsegmentator-total"
_ITS_OWN: Final = "its own"
"""Name given to a mapping that a study.json holds."""

_GAS_HU: Final = -300.0
"""Below this is gas or lung: nearer to fat (-100) than to lung (-760), whose rim is raised by blur."""
_FAT_HU: Final = -25.0
"""Between fat (-100) and soft tissue (50): sources.md, 1."""
_BONE_HU: Final = 160.0
"""Above enhanced blood (150), below most marrow and all cortex (sources.md, 1)."""
_SMOOTH_MM: Final = 2.0
"""SD of the smoothing before thresholds are applied [mm]: noise of 30 HU must not turn muscle into fat."""
_LUNG_ML: Final = 150.0
"""A connected region of gas of at least this size [ml] is lung: a stomach bubble or colon loop is smaller."""


class OrganMapping(BaseModel):
    """A program's label numbers -> organ classes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    source: str = ""
    """Whose label numbers these are."""
    classes: dict[Annotated[int, Field(gt=0, le=65535)], OrganClass] = Field(min_length=1)
    """Label number -> class. Labels not listed here count as unlabelled."""

    def told(self) -> str | dict[str, str]:
        """What distinguishes it from others: its name, or its classes if a study.json holds it."""
        if self.name != _ITS_OWN:
            return self.name
        return {str(label): name for label, name in sorted(self.classes.items())}

    def of(self, labels: NDArray[np.generic]) -> NDArray[np.uint8]:
        """The classes (ORGAN_LABEL) of label numbers; 0 for numbers that the mapping does not list."""
        table = np.zeros(max(self.classes) + 2, np.uint8)
        for label, name in self.classes.items():
            table[label] = ORGAN_LABEL[name]
        whole = np.rint(np.nan_to_num(np.asarray(labels, np.float32)))
        known = (whole >= 0) & (whole < len(table))
        return table[np.where(known, whole, len(table) - 1).astype(np.int32)]


@dataclass(frozen=True)
class OrganFile:
    """Where a study's organ labels lie; nothing is read until `read` is called."""

    ref: FileRef
    mapping: OrganMapping

    def read(self) -> Volume:
        """The organ classes (ORGAN_LABEL) on the file's own grid, canonical."""
        with self.ref.open() as stream:
            labels = read_nifti_stream(stream, "label", self.ref.shown)
        return axis_aligned(labels.with_array(self.mapping.of(labels.array), "label"))


def organ_mapping_names() -> tuple[str, ...]:
    """The organ mappings that come with the package."""
    return tuple(sorted(f.name.removesuffix(".json") for f in _PACKAGED.iterdir()))


def load_organ_mapping(named: object) -> OrganMapping:
    """The mapping of that name in the package, or the given {"1": "liver", ..}. Raises `InputError`."""
    if isinstance(named, dict):
        try:
            return OrganMapping.model_validate({"name": _ITS_OWN, "classes": named})
        except ValidationError as error:
            raise InputError(
                f"The organ mapping cannot be used ({error.errors()[0]['msg']}).",
                hint=f"It reads {{'5': 'liver'}}; the classes are {', '.join(ORGAN_CLASSES)}.",
            ) from None
    if named not in organ_mapping_names():
        known = ", ".join(organ_mapping_names())
        raise InputError(f"There is no organ mapping {named}.", hint=f"Known: {known}.")
    return OrganMapping.model_validate(json.loads((_PACKAGED / f"{named}.json").read_text(encoding="utf-8")))


def organ_file(refs: Sequence[FileRef], said: dict[str, Any]) -> OrganFile | None:
    """The organ labels among the files of a study; `said` is what its study.json says.

    Raises `study.bad-json` for an unknown mapping.
    """
    for ref in refs:
        if ref.name == ORGAN_FILE:
            phantom = ref.folder.rpartition("/")[2].rpartition("!")[2] == PHANTOM_TRUTH
            named = said.get("organs", "phantom" if phantom else _DEFAULT)
            try:
                return OrganFile(ref, load_organ_mapping(named))
            except InputError as error:
                found = f"{error.message} {error.hint}"
                raise reject("study.bad-json", path=ref.shown, found=found) from None
    return None


def classes_of_ct(
    hu: NDArray[np.float32], body: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> NDArray[np.uint8]:
    """Classes from CT numbers [HU] (z, y, x) alone: lung, gas, fat, soft tissue, bone; 0 outside the body."""
    smooth = ndimage.gaussian_filter(np.asarray(hu, np.float32), [_SMOOTH_MM / s for s in spacing_mm])
    out = np.full(hu.shape, ORGAN_LABEL["soft-tissue"], np.uint8)
    out[smooth < _FAT_HU] = ORGAN_LABEL["fat"]
    out[smooth > _BONE_HU] = ORGAN_LABEL["bone"]
    gas = body & (smooth < _GAS_HU)
    out[gas] = ORGAN_LABEL["gas"]
    parts, count = ndimage.label(gas)
    voxels = np.bincount(parts.ravel(), minlength=count + 1)
    large = voxels * float(np.prod(spacing_mm)) / 1000.0 >= _LUNG_ML
    large[0] = False
    out[large[parts]] = ORGAN_LABEL["lung"]
    out[~body] = 0
    return out
