from __future__ import annotations

import numpy as np
import pytest

from scantwin.calibration.liver import LIVER_SUV, measure_liver
from scantwin.errors import InputError
from scantwin.imaging.volume import Volume
from scantwin.phantoms.patient import ORGANS, build_patient
from scantwin.phantoms.scanner import ScannerSpec, image_patient
from scantwin.phantoms.spec import random_patient

SCANNER = ScannerSpec(
    ct_spacing_mm=(5.0, 5.0, 5.0),
    pet_spacing_mm=(5.0, 5.0, 5.0),
    suv_scale=0.9,
    field_of_view="eyes-to-thighs",
)


@pytest.mark.parametrize(("seed", "arms"), [(1, "up"), (3, "down")])
def test_the_liver_is_found_and_read(seed: int, arms: str) -> None:
    phantom = build_patient(random_patient(seed, arms=arms, condition="negative"), (5.0, 5.0, 5.0))
    imaged = image_patient(phantom, SCANNER, seed=seed)
    found = measure_liver(imaged.pet, imaged.ct)
    true = float(phantom.suv.array[phantom.organs.array == ORGANS["liver"]].mean())
    # Voxel noise 10 % over about 110 voxels that are correlated, and the liver's own texture.
    assert found.detail["mean_suv"] == pytest.approx(0.9 * true, rel=0.08)
    assert found.bias == pytest.approx(found.detail["mean_suv"] / LIVER_SUV - 1)
    centre = np.rint(phantom.organs.index(found.detail["centre_mm"])).astype(int)
    assert phantom.organs.array[tuple(centre)] in (ORGANS["liver"], ORGANS["vessels"])


def test_where_there_is_no_liver_it_says_so() -> None:
    air = Volume(np.full((40, 40, 40), -1000, np.int16), (5.0, 5.0, 5.0), unit="HU")
    with pytest.raises(InputError):
        measure_liver(air.with_array(np.zeros((40, 40, 40), np.float32), "SUV"), air)
