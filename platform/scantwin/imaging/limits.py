"""How much is read at most, checked on headers before anything is unpacked or decoded."""

from __future__ import annotations

from typing import Final

from scantwin.imaging.reasons import reject

MAX_VOXEL_BYTES: Final = 2 << 30
"""Voxels of one volume [bytes]: 2 GiB, four times a CT of 512 x 512 x 1000 as int16."""

MAX_INFLATED_BYTES: Final = 256 << 20
"""What a deflated DICOM file may inflate to [bytes]: 500 slices of 512 x 512. It is inflated whole."""


def check_bytes(size: int, shown: str) -> None:
    """Raises the rejection `dicom.too-large` if `size` [bytes] is above the limit."""
    if size > MAX_VOXEL_BYTES:
        found = f"{size / 2**30:.1f} GiB of voxels, the limit is {MAX_VOXEL_BYTES / 2**30:.0f} GiB"
        raise reject("dicom.too-large", path=shown, found=found)
