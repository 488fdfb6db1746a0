"""A picture of a CT before and after a region was regenerated."""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image

from scantwin.generation.regions import Region
from scantwin.generation.scene import Scene
from scantwin.imaging.organs import ORGAN_LABEL
from scantwin.imaging.picture_marks import panel, with_notice
from scantwin.imaging.pictures import Plane, ct_slice_image, slice_frame
from scantwin.imaging.volume import Volume

_SOFT_WINDOW: Final = (-160.0, 240.0)
_LUNG_WINDOW: Final = (-1200.0, 300.0)
"""Windows [HU] that radiologists use for soft tissue and lung."""
_AROUND_MM: Final = 60.0
"""Margin shown around a region [mm]."""


def before_and_after(scene: Scene, made: Volume, region: Region) -> Image.Image:
    """Axial and coronal slices through the middle of `region`, before and after, cropped around it."""
    index = np.argwhere(region)
    world = scene.ct.world(index.mean(axis=0))
    reach = np.ceil(_AROUND_MM / np.asarray(scene.ct.spacing)).astype(int)
    low = np.maximum(index.min(axis=0) - reach, 0)
    high = np.minimum(index.max(axis=0) + 1 + reach, region.shape)
    lungs = (scene.classes[region] == ORGAN_LABEL["lung"]).mean() > 0.5
    window = _LUNG_WINDOW if lungs else _SOFT_WINDOW
    z0, y0, x0, z1, y1, x1 = (int(n) for n in (*low, *high))
    near = [volume.crop((z0, y0, x0), (z1, y1, x1)) for volume in (scene.ct, made)]
    places: tuple[tuple[Plane, float], ...] = (("axial", float(world[2])), ("coronal", float(world[1])))
    rows = []
    for plane, at_mm in places:
        frame = slice_frame(near[0], plane, at_mm)
        rows.append([ct_slice_image(volume, frame=frame, window=window) for volume in near])
    return with_notice(panel(rows, columns=("real CT", "with made tissue")))
