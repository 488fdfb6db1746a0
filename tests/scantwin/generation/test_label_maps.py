from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scantwin.errors import InputError
from scantwin.generation.label_maps import check_labels
from scantwin.imaging.volume import Volume


def check(*values: float, kind: type[np.generic] = np.float32) -> None:
    check_labels(Volume(np.array(values, kind).reshape(-1, 1, 1), (1.0, 1.0, 1.0)), Path("map.nii.gz"))


@pytest.mark.parametrize("value", [-1.0, 1.5, np.inf, -np.inf])
def test_what_is_no_label_is_named(value: float) -> None:
    with pytest.raises(InputError, match=f"map.nii.gz is no label map: it holds values .* {value:g}\\.$"):
        check(0.0, 2.0, value)


@pytest.mark.filterwarnings("error")
def test_whole_numbers_are_labels_and_outside_a_field_there_are_none() -> None:
    check(0.0, 3.0, 255.0, np.nan)
    check(0, 3, 255, kind=np.uint8)
    check(0, 3, kind=np.int16)
