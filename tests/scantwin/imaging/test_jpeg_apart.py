"""The process that decodes old JPEG; what it reads and survives is in test_dicom_read.py."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from scantwin.imaging import jpeg_apart

from .test_dicom_read import as_lossless_jpeg


def test_a_late_answer_is_not_taken_for_the_next_frame(tmp_path, ct_maker, monkeypatch):
    plain = ct_maker(slices=2).write(tmp_path / "plain")
    packed = as_lossless_jpeg(plain, tmp_path / "jpeg")
    late, next_one = sorted(path.name for path in plain.iterdir())
    apart = jpeg_apart.JpegApart()
    try:
        monkeypatch.setattr(jpeg_apart, "PATIENCE_S", 0.0)  # its start alone takes longer
        with pytest.raises(RuntimeError, match="hangs"):
            apart.decode((packed / late).read_bytes(), 0)
        monkeypatch.undo()
        found = apart.decode((packed / next_one).read_bytes(), 0)
    finally:
        apart.close()
    np.testing.assert_array_equal(found, pydicom.dcmread(plain / next_one).pixel_array)
