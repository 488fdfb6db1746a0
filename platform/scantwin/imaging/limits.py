"""Limits on how much is read, checked against headers before anything is unpacked or decoded."""

from __future__ import annotations

from typing import Final

from scantwin.imaging.reasons import reject

MAX_VOXEL_BYTES: Final = 2 << 30
"""Size of one volume's voxels [bytes]: 2 GiB, four times a CT of 512 x 512 x 1000 as int16."""

MAX_INFLATED_BYTES: Final = 256 << 20
"""Size that a deflated DICOM file may inflate to [bytes]: 500 slices of 512 x 512. It is inflated whole."""


def check_bytes(size: int, shown: str) -> None:
    """Raises the rejection `dicom.too-large` if `size` [bytes] is above the limit."""
    if size > MAX_VOXEL_BYTES:
        found = f"{size / 2**30:.1f} GiB of voxels, the limit is {MAX_VOXEL_BYTES / 2**30:.0f} GiB"
        raise reject("dicom.too-large", path=shown, found=found)
