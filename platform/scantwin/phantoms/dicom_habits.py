"""How each vendor writes a PET: units, times, private fields (survey of 3,433 PET series, SV).

Whatever the habit, the SUV rules recover exactly what the scanner showed (to 16 bits).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np
from pydicom.dataset import Dataset

if TYPE_CHECKING:
    from scantwin.phantoms.scanner import Vendor

BED_MM: Final = 180.0
"""Axial length that one bed position adds [mm]; assumed."""
FRAME_S: Final = 150.0
"""Duration of one bed position [s]; 74-180 s are usual (LD, CS)."""


@dataclass(frozen=True)
class Habit:
    """How one vendor writes its series."""

    manufacturer: str
    models: tuple[str, ...]
    ct_model: str
    units: str
    corrected: tuple[str, ...]
    reconstruction: str
    kernel: str
    slope_per_slice: bool


HABITS: Final[dict[Vendor, Habit]] = {
    "siemens": Habit(
        "SIEMENS", ("Biograph64_mCT", "Biograph128_Vision 600", "1094"), "Biograph64_mCT", "BQML",
        ("NORM", "DTIM", "ATTN", "SCAT", "DECY", "RAN"), "PSF+TOF 2i21s", "XYZ Gauss2.00", True,
    ),
    "ge": Habit(
        "GE MEDICAL SYSTEMS", ("Discovery 690", "Discovery 710", "Discovery STE"), "Discovery 690", "BQML",
        ("DECY", "ATTN", "SCAT", "DTIM", "RANSNG", "DCAL", "SLSENS", "NORM"), "VPFX", "", True,
    ),
    "philips": Habit(
        "Philips Medical Systems", ("GEMINI TF Big Bore", "GEMINI TF TOF 16", "Guardian Body(C)"),
        "GEMINI TF Big Bore",
        "CNTS", ("DECY", "RADL", "ATTN", "SCAT", "DTIM", "RAN", "NORM"), "BLOB-OS-TF", "", False,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Timing:
    """Times of injection and scan, and the half-life."""

    injected: datetime
    scan: datetime
    """Start of the PET: the time to which its decay is corrected."""
    half_life_s: float

    def at(self, bed: int) -> datetime:
        """Start of a bed position."""
        return self.scan + timedelta(seconds=bed * FRAME_S)

    def dose_at_scan(self, injected_bq: float) -> float:
        """What remains of `injected_bq` at the start of the scan [Bq]."""
        return injected_bq * 2 ** (-(self.scan - self.injected).total_seconds() / self.half_life_s)


def beds_of(z_mm: np.ndarray) -> np.ndarray:
    """Bed position of every slice, counted from the feet up."""
    return np.asarray((z_mm - z_mm.min()) // BED_MM, int)


def frame_fields(ds: Dataset, vendor: Vendor, timing: Timing, bed: int) -> None:
    """Sets the acquisition time, frame reference time and decay factor of a slice in `bed`."""
    decay = np.log(2) / timing.half_life_s
    x = decay * FRAME_S
    average = float(np.log(x / (1 - np.exp(-x))) / decay)  # when the activity equals the frame's mean [s]
    offset = bed * FRAME_S
    start = timing.at(bed)
    ds.AcquisitionDate, ds.AcquisitionTime = start.strftime("%Y%m%d"), clock(start)
    ds.ActualFrameDuration = round(FRAME_S * 1000)
    within = x / (1 - np.exp(-x))
    # Siemens gives the time of the mean activity, Philips the middle of the frame, GE its start.
    seconds = {"siemens": offset + average, "philips": offset + FRAME_S / 2, "ge": offset}[vendor]
    ds.FrameReferenceTime = round(seconds * 1000, 3)
    ds.DecayFactor = round(float(np.exp(decay * offset) * within), 7)


def private_fields(ds: Dataset, vendor: Vendor, timing: Timing, injected_bq: float) -> None:
    """Adds the vendor's private fields from which SUV can be read; Philips' come from `philips_fields`."""
    if vendor == "siemens":
        block = ds.private_block(0x0071, "SIEMENS MED PT", create=True)
        block.add_new(0x22, "DT", stamp(timing.scan))
    elif vendor == "ge":
        block = ds.private_block(0x0009, "GEMS_PETD_01", create=True)
        block.add_new(0x0D, "DT", stamp(timing.scan))
        block.add_new(0x36, "LO", "FDG -- fluorodeoxyglucose")
        block.add_new(0x38, "FL", injected_bq / 1e6)
        block.add_new(0x3B, "DT", stamp(timing.injected))
        block.add_new(0x3F, "FL", timing.half_life_s)


def philips_fields(ds: Dataset, suv_per_count: float, bq_per_count: float) -> None:
    """Adds Philips' factors from counts (after the rescale slope) to SUV [g/ml] and to activity [Bq/ml]."""
    block = ds.private_block(0x7053, "Philips PET Private Group", create=True)
    block.add_new(0x00, "DS", f"{suv_per_count:.9g}")
    block.add_new(0x09, "DS", f"{bq_per_count:.9g}")


def clock(at: datetime) -> str:
    """A DICOM time."""
    return at.strftime("%H%M%S.00")


def stamp(at: datetime) -> str:
    """A DICOM date and time."""
    return at.strftime("%Y%m%d%H%M%S.00")
