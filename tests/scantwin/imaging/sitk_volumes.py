"""Volumes of SimpleITK, to compare ours with."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from scantwin.imaging.volume import Volume
from scantwin.units import Unit


def from_sitk(image: sitk.Image, unit: Unit) -> Volume:
    """The volume of a 3D SimpleITK image (its axes are x, y, z)."""
    direction = np.asarray(image.GetDirection()).reshape(3, 3)[:, ::-1].copy()
    z, y, x = image.GetSpacing()[::-1]
    return Volume(sitk.GetArrayFromImage(image), (z, y, x), image.GetOrigin(), direction, unit)
