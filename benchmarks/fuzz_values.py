"""What fields are set to by `fuzz_inputs`: right, odd, wrong and impossible values."""

from __future__ import annotations

from typing import Any

NUMBERS = (
    "0", "-1", "1", "70", "70.5", "7e1", "1e-30", "1e30", "1e400", "nan", "inf", "abc", "", None, "70,5",
    "0x46", "3.7e8", "370", "370000000", "99999", "100001", "999.9", "1000.1", "72000", "6586.2", "6588",
    "109.8", "4062.6", "65.9", "150000", "0.5", " 80 ", "1 2", "80\\90", "+75", "--5",
)  # fmt: skip
TIMES = (
    "000000", "235959", "240000", "246060", "1030", "10", "103000.123456", "10:30:00", "abc", "", None,
    "093000", "120000", "235959.999999", "1030.5", "-1", "999999", "080000 ",
)  # fmt: skip
DATES = (
    "20260302",
    "20260301",
    "20260303",
    "20250302",
    "19000101",
    "00000000",
    "20261399",
    "",
    None,
    "2026.03.02",
    "x",
)
ZONES = ("", "", "", "+0000", "+0100", "-0500", "&0000")
POOLS: dict[str, tuple[str | None, ...]] = {
    "units": ("BQML", "GML", "CNTS", "CPS", "PROPCNTS", "CM2ML", "bqml", "", None, "BQML "),
    "suv_type": ("BW", "", None, "LBM", "LBM", "BSA", "XX"),
    "decay": ("START", "ADMIN", "NONE", "", None, "start", "XX"),
    "corrected": ("ATTN\\DECY", "ATTN", "DECY", "", None, "DECY\\ATTN\\SCAT", "attn\\decy", "ATTN\\\\DECY"),
    "attenuation": ("YES", "NO", "", None),
    "decayed": ("YES", "NO", "", None),
}
MAPPED = ("Bq/ml", "{SUVbw}g/ml", "g/ml{SUVbw}", "1/s", "", "kBq/ml")
"""Units of a real world value mapping."""

EXTREMES: dict[str, tuple[Any, ...]] = {
    "Rows": (0, 1, 15, 65535), "Columns": (0, 1, 17, 65535), "BitsAllocated": (0, 1, 8, 12, 32, 64, 65535),
    "BitsStored": (0, 1, 17, 65535), "SamplesPerPixel": (0, 2, 3, 65535), "PixelRepresentation": (2, 65535),
    "NumberOfFrames": ("0", "-1", "2147483647", "x", "2"),
    "PixelSpacing": (["0", "0"], ["-1", "1"], ["nan", "1"], ["1e30", "1e30"], ["1e-30", "1"], ["1"], "abc"),
    "ImagePositionPatient": (["0", "0", "0"], ["1e300", "0", "0"], ["nan", "0", "0"], ["1", "2"], ["0", "0", "1e9"]),  # noqa: E501
    "ImageOrientationPatient": (["1", "0", "0", "1", "0", "0"], ["0"] * 6, ["nan"] * 6, ["1", "0"]),
    "SliceThickness": ("0", "-5", "1e30", "x"), "RescaleSlope": ("0", "nan", "1e30", "x"),
    "PhotometricInterpretation": ("RGB", "", "PALETTE COLOR"),
    "GantryDetectorTilt": ("89.9", "90", "nan", "1e9"),
    "SOPClassUID": ("", "1.2.840.10008.5.1.4.1.1.2.1", "x" * 200), "Modality": ("", "PT", "CT", "MR", "SEG"),
    "TransferSyntaxUID": ("", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1.99", "x"),
}  # fmt: skip
