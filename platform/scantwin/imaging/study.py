"""`Study`: one patient's CT, maybe PET and lesions, on their own grids."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from scantwin.imaging.body import body_mask
from scantwin.imaging.resampling import resample_like
from scantwin.imaging.volume import Volume
from scantwin.units import AIR_HU

if TYPE_CHECKING:
    from scantwin.imaging.organs import OrganFile
    from scantwin.imaging.suv_times import PetOrigin

Condition = Literal["negative", "melanoma", "lymphoma", "lung-cancer", "sarcoma", "unknown"]
"""Oncological condition; the first four are those of FDG-PET-CT-Lesions."""

District = Literal["head", "trunk", "arms", "legs", "whole-body"]
"""A part of the body with a model of its own; `whole-body` is for what cannot be assigned to another."""

DISTRICTS: Final[tuple[District, ...]] = ("head", "trunk", "arms", "legs", "whole-body")
DISTRICT_LABEL: Final[dict[District, int]] = {"head": 1, "trunk": 2, "arms": 3, "legs": 4, "whole-body": 5}
"""Label of each district in a label volume; 0 is outside the body."""


@dataclass(frozen=True, eq=False)
class Study:
    """One patient's images. `name` is a pseudonym; nothing here but `origin` identifies the patient."""

    name: str
    ct: Volume
    """CT [HU], canonical."""
    pet: Volume | None = None
    """PET [g/ml] (SUVbw), canonical, on its own grid."""
    lesions: Volume | None = None
    """Lesion labels (0 none, 1.. lesions), canonical, on any grid."""
    condition: Condition = "unknown"
    districts: Volume | None = None
    """District labels given with the study (DISTRICT_LABEL), if any; otherwise they are found from the CT."""
    warnings: tuple[str, ...] = ()
    source: dict[str, str] = field(default_factory=dict)
    """How it was read: vendor, model, SUV rule, format. No identifiers."""
    organs: OrganFile | None = None
    """Where its organ labels lie, if there are any; they are read on demand."""
    has_ct: bool = True
    """False for a PET alone, which only unpaired training can use; its `ct` is `air_over` the PET."""
    origin: PetOrigin | None = field(default=None, repr=False)
    """The origin of a DICOM PET. Only the day of a QC object is ever passed on to others."""

    @cached_property
    def body(self) -> NDArray[np.bool_]:
        """The body mask (z, y, x) on the CT's own voxels; found once, whatever the study is prepared for."""
        return body_mask(self.ct)

    def ct_on(self, grid: Volume) -> Volume:
        """The CT [HU] on the voxels of `grid`, air outside its field of view."""
        return resample_like(self.ct, grid, how="area", outside=AIR_HU)

    def organs_on(self, grid: Volume) -> Volume | None:
        """The organ classes (organs.ORGAN_LABEL) on the voxels of `grid`, or None."""
        return None if self.organs is None else resample_like(self.organs.read(), grid, how="nearest")

    def lesions_on(self, grid: Volume) -> Volume | None:
        """The lesion labels on the voxels of `grid`, or None."""
        return None if self.lesions is None else resample_like(self.lesions, grid, how="nearest")


def air_over(pet: Volume) -> Volume:
    """Air [HU] on the PET's voxels, in place of the CT that a PET alone lacks."""
    return pet.with_array(np.full(pet.shape, AIR_HU, np.float32), "HU")
