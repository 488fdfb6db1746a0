"""Organs of one CT regenerated, or their surroundings. SYNTHETIC, NOT FOR DIAGNOSIS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scantwin import NOTICE
from scantwin.files import whole_folder, write_json
from scantwin.generation.before_after import before_and_after
from scantwin.generation.inpainting import CTInpainting, Method
from scantwin.generation.painting import regenerate
from scantwin.generation.scene import Scene, around_organs, inside_organs
from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.organs import OrganClass
from scantwin.imaging.pictures import save_png
from scantwin.terminal import Advance, silent


def make_organs(
    system: CTInpainting,
    scene: Scene,
    organs: Sequence[OrganClass],
    out: Path,
    *,
    outside_mm: float | None = None,
    method: Method = "diffusion",
    seed: int = 0,
    model_version: str = "",
    advance: Advance = silent,
) -> dict[str, Any]:
    """Writes CT.nii.gz, region.nii.gz, a picture and a manifest to `out`; returns the manifest and the paths.

    With `outside_mm`, the surroundings in a box with that margin are regenerated instead of the organs.
    """
    region = inside_organs(scene, organs) if outside_mm is None else around_organs(scene, organs, outside_mm)
    ct = regenerate(
        system, scene.ct, region, scene.classes, method=method, seed=seed, advance=advance
    )  # fmt: skip
    real, made = (np.asarray(v.array, np.float32)[region] for v in (scene.ct, ct))
    manifest = {
        "notice": NOTICE, "out": str(out), "organs": list(organs),
        "where": "inside" if outside_mm is None else "outside", "margin_mm": outside_mm, "method": method,
        "seed": seed, "model_version": model_version,
        "volume_ml": round(float(region.sum()) * ct.voxel_ml, 2),
        "hu_before": round(float(real.mean()), 1), "hu": round(float(made.mean()), 1),
    }  # fmt: skip
    with whole_folder(out) as aside:
        write_nifti(ct, aside / "CT.nii.gz")
        write_nifti(ct.with_array(region.astype(np.uint8), "label"), aside / "region.nii.gz")
        save_png(before_and_after(scene, ct, region), aside / "picture.png")
        write_json(aside / "study.json", {"name": f"{scene.name}-made", "synthetic": True, "notice": NOTICE})
        write_json(aside / "manifest.json", manifest)
    return {
        **manifest, "ct_nifti": str(out / "CT.nii.gz"), "region_nifti": str(out / "region.nii.gz"),
        "picture": str(out / "picture.png"), "manifest": str(out / "manifest.json"),
    }  # fmt: skip
