"""One case of a labelled data set: the CT with its made lesions, their labels, a manifest and a picture.

    CT.nii.gz       the CT [HU]; outside region.nii.gz as it was read, bit for bit
    SEG.nii.gz      lesion labels, from 1: known lesions first, then the made ones
    region.nii.gz   1 where the CT was regenerated: the lesion and a ring around it
    study.json, manifest.json, picture.png

An oblique CT was moved to the patient's axes when it was read: its file's own voxels do not come back.
Every other command reads this layout. SYNTHETIC, NOT FOR DIAGNOSIS.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scantwin import NOTICE
from scantwin.files import whole_folder, write_json
from scantwin.generation.before_after import before_and_after
from scantwin.generation.inpainting import CTInpainting
from scantwin.generation.lesion_orders import Order
from scantwin.generation.painting import regenerate
from scantwin.generation.regions import Region, with_ring
from scantwin.generation.scene import Scene
from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.organs import ORGAN_LABEL, OrganClass
from scantwin.imaging.pictures import save_png


@dataclass(frozen=True, eq=False)
class Found:
    """A lesion's place, and the origin of its shape."""

    parts: NDArray[np.generic]
    """The array that holds it (z, y, x), perhaps with others: one drawing of many is shared, not copied."""
    organ: OrganClass
    origin: str
    number: int = 1
    """Its number in `parts`."""

    @property
    def region(self) -> Region:
        """Its voxels."""
        return np.asarray(self.parts == self.number, np.bool_)


def write_case(
    system: CTInpainting, scene: Scene, found: list[Found], order: Order, number: int, folder: Path, *,
    healthy: bool,
) -> None:  # fmt: skip
    """Makes and writes the case; a `healthy` one has its regions regenerated without a tumour."""
    spacing, rules = scene.ct.spacing, system.rules
    region = np.zeros(scene.ct.shape, bool)
    classes, labels = scene.classes.copy(), scene.lesions.copy()
    for one in found:
        inside = one.region
        region |= with_ring(inside, spacing, rules.ring_mm) & (scene.classes > 0) & (scene.lesions == 0)
        if not healthy:
            classes[inside] = ORGAN_LABEL["tumour"]
            labels[inside] = int(labels.max()) + 1
    ct = regenerate(
        system, scene.ct, region, classes, method=order.method, seed=order.seed * 1_000_003 + number
    )  # fmt: skip
    lesions = [] if healthy else [_told(scene, ct.array, labels, one) for one in found]
    name = f"{scene.name}-made-{number:04d}"
    manifest = {
        "notice": NOTICE, "ct": scene.name, "lesions": lesions, "known_lesions": int(scene.lesions.max()),
        "voxels_changed": int(region.sum()), "seed": order.seed, "method": order.method, **order.asked,
    }  # fmt: skip
    if healthy:
        manifest["remade"] = [one.organ for one in found]
    with whole_folder(folder) as aside:
        write_nifti(ct, aside / "CT.nii.gz")
        write_nifti(ct.with_array(labels, "label"), aside / "SEG.nii.gz")
        write_nifti(ct.with_array(region.astype(np.uint8), "label"), aside / "region.nii.gz")
        write_json(aside / "study.json", {"name": name, "synthetic": True, "notice": NOTICE})
        save_png(before_and_after(scene, ct, found[0].region), aside / "picture.png")
        write_json(aside / "manifest.json", manifest)


def case_files(folder: Path) -> dict[str, str]:
    """Paths of a written case, by content."""
    names = {
        "ct_nifti": "CT.nii.gz", "labels_nifti": "SEG.nii.gz", "region_nifti": "region.nii.gz",
        "picture": "picture.png", "manifest": "manifest.json",
    }  # fmt: skip
    return {"folder": str(folder), **{what: str(folder / name) for what, name in names.items()}}


def _told(scene: Scene, made: NDArray[np.generic], labels: NDArray[np.uint16], one: Found) -> dict[str, Any]:
    inside = one.region
    real, new = (np.asarray(array[inside], np.float32) for array in (scene.ct.array, made))
    return {
        "label": int(labels[inside].max()), "organ": one.organ, "shape": one.origin,
        "volume_ml": round(float(inside.sum()) * scene.ct.voxel_ml, 3),
        "hu_before": round(float(real.mean()), 1), "hu": round(float(new.mean()), 1),
    }  # fmt: skip
