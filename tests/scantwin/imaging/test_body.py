"""The body mask on made scenes with known answers, on a phantom, and on real crops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scantwin.imaging.body import body_mask, coarsen
from scantwin.imaging.reading import read_ct
from scantwin.imaging.volume import Volume

SPACING = (5.0, 2.0, 2.0)


def ellipse(shape: tuple[int, int], centre: tuple[float, float], half: tuple[float, float]) -> np.ndarray:
    """A filled ellipse (y, x) on 2 mm pixels; centre and half-axes in mm from the middle of the picture."""
    y = (np.arange(shape[0]) - shape[0] / 2)[:, None] * 2.0 - centre[0]
    x = (np.arange(shape[1]) - shape[1] / 2)[None, :] * 2.0 - centre[1]
    return (y / half[0]) ** 2 + (x / half[1]) ** 2 < 1


def chest(slices: int = 20, size: int = 220) -> tuple[Volume, np.ndarray]:
    """A chest with lungs, on a table, under a blanket, with noise; and the truth."""
    rng = np.random.default_rng(1)
    shape = (size, size)
    body = ellipse(shape, (0, 0), (110, 170))
    lungs = ellipse(shape, (0, -75), (75, 55)) | ellipse(shape, (0, 75), (75, 55))
    hu = np.full((slices, *shape), -1000.0, np.float32)
    hu[:, body] = 40.0
    hu[:, lungs] = -830.0
    rows = np.arange(size) - size / 2
    hu[:, (rows > 62) & (rows < 64), 10:-10] = -60.0  # the table's shell
    hu[:, (rows >= 64) & (rows < 80), 10:-10] = -940.0  # its foam
    hu[:, (rows >= 80) & (rows < 82), 10:-10] = -60.0
    blanket = ellipse(shape, (0, 0), (122, 182)) & ~ellipse(shape, (0, 0), (119, 179))
    hu[:, blanket & (rows < 40)[:, None]] = -250.0
    hu += rng.normal(0, 40, hu.shape).astype(np.float32)
    return Volume(hu.astype(np.int16), SPACING, unit="HU"), np.broadcast_to(body, hu.shape)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_table_blanket_and_lungs() -> None:
    ct, truth = chest()
    mask = body_mask(ct)
    assert mask.shape == ct.shape
    assert mask.dtype == np.bool_
    assert dice(mask, truth) > 0.985
    assert not mask[:, 180:].any(), "the table is not the patient"


def test_foam_as_light_as_lung_is_not_lung() -> None:
    ct, truth = chest()
    array = np.where((ct.array < -900) & (np.arange(220)[None, :, None] >= 174), -860, ct.array).astype(
        np.int16
    )
    array[:, 192:] = -1000
    assert dice(body_mask(ct.with_array(array)), truth) > 0.985


@pytest.mark.parametrize("padding", [-1024, -2000, -3024])
def test_padding_outside_the_field_is_air(padding: int) -> None:
    ct, _ = chest()
    outside = ~ellipse(ct.shape[1:], (0, 0), (200, 200))
    array = np.where(outside, padding, ct.array).astype(np.int16)
    plain = np.where(outside, -1000, ct.array).astype(np.int16)
    assert (body_mask(ct.with_array(array)) == body_mask(ct.with_array(plain))).mean() > 0.9999


def test_what_is_not_a_number_is_air() -> None:
    ct, truth = chest(6)
    array = ct.array.astype(np.float32)
    array[:, :5] = np.nan
    assert dice(body_mask(ct.with_array(array)), truth) > 0.985


def test_nobody() -> None:
    air = Volume(np.full((4, 30, 30), -1000, np.int16), SPACING, unit="HU")
    assert not body_mask(air).any()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 40, 40), (3, 5, 7)])
def test_body_that_fills_the_field_of_view(shape: tuple[int, int, int]) -> None:
    full = Volume(np.full(shape, 40, np.int16), (3.27, 3.9, 3.9), unit="HU")
    assert body_mask(full).all()


def test_lung_cut_by_the_side_is_body_and_air_is_not() -> None:
    hu = np.full((8, 60, 60), 40, np.int16)
    hu[:, 20:40, :25] = -820
    lung = body_mask(Volume(hu, (4.0, 4.0, 4.0), unit="HU"))
    hu[:, 20:40, :25] = -1000
    air = body_mask(Volume(hu, (4.0, 4.0, 4.0), unit="HU"))
    assert lung[:, 20:40, :25].mean() > 0.99
    assert air[:, 22:38, :20].mean() == 0.0


def test_gap_under_a_raised_arm_stays_out() -> None:
    # A ring in a few slices, open above and below: head and arms. The same ring everywhere: gas inside.
    size = (120, 120)
    ring = ellipse(size, (0, 0), (100, 100)) & ~ellipse(size, (0, 0), (50, 50))
    half = ellipse(size, (0, -75), (30, 30)) | ellipse(size, (0, 75), (30, 30))
    hu = np.full((24, *size), -1000, np.int16)
    hu[:, half] = 40
    hu[10:13, ring] = 40
    mask = body_mask(Volume(hu, (5.0, 2.0, 2.0), unit="HU"))
    assert not mask[11, 60, 60], "the gap is outside"
    hu[:, ring] = 40
    assert body_mask(Volume(hu, (5.0, 2.0, 2.0), unit="HU"))[11, 60, 60], "enclosed gas is inside"


def test_thin_chest_wall_keeps_the_lung() -> None:
    size = (110, 150)
    body, inside = ellipse(size, (0, 0), (90, 130)), ellipse(size, (-1, 0), (82, 120))
    hu = np.full((12, *size), -1000, np.int16)
    hu[:, body] = 40
    hu[:, inside & ~ellipse(size, (60, 0), (45, 60))] = -800
    mask = body_mask(Volume(hu, (5.0, 2.0, 2.0), unit="HU"))
    assert dice(mask, np.broadcast_to(body, hu.shape)) > 0.97


def test_any_orientation() -> None:
    ct, _ = chest(10, 120)
    straight = body_mask(ct)
    turned = Volume(
        np.ascontiguousarray(ct.array[::-1].transpose(2, 0, 1)),
        (ct.spacing[2], ct.spacing[0], ct.spacing[1]),
        tuple(float(v) for v in ct.world((ct.shape[0] - 1, 0, 0))),  # type: ignore[arg-type]
        ct.direction[:, [2, 0, 1]] * np.array([1.0, -1.0, 1.0]),
        "HU",
    )
    back = body_mask(turned).transpose(1, 2, 0)[::-1]
    assert (back == straight).all()


@given(st.lists(st.floats(0.4, 9.0), min_size=3, max_size=3), st.integers(1, 23), st.integers(1, 19))
@settings(max_examples=40, deadline=None)
def test_blocks_cover_the_ct_and_keep_the_mean(spacing: list[float], ny: int, nx: int) -> None:
    rng = np.random.default_rng(ny * 100 + nx)
    array = rng.integers(-1000, 1000, (6, ny, nx)).astype(np.int16)
    ct = Volume(array, (spacing[0], spacing[1], spacing[2]), unit="HU")
    coarse = coarsen(ct)
    wide = coarse.expand(coarse.hu, ct.shape)
    assert wide.shape == ct.shape
    first = array[tuple(slice(0, f) for f in coarse.factor)]
    if all(n >= f for n, f in zip(ct.shape, coarse.factor, strict=True)):
        assert coarse.hu[0, 0, 0] == pytest.approx(first.mean(), abs=0.1)


@pytest.mark.data
def test_real_crops_and_trunk(shared_data: Path) -> None:
    for name in ("STS_004", "STS_010", "STS_025", "STS_028"):
        ct = read_ct(shared_data / "sts" / "nifti" / name / "CTres.nii.gz")
        mask = body_mask(ct)
        soft = (ct.array > -150) & (ct.array < 150)
        assert mask[soft].mean() > 0.93, "tissue is body, but for a few voxels of the table"
        assert (ct.array[mask] < -900).mean() < 0.02, "air is not"
    trunk = read_ct(shared_data / "ct" / "trunk_3mm.nii.gz")
    mask = body_mask(trunk)
    assert 0.60 < mask.mean() < 0.68
    assert not mask[trunk.array < -1100].any()
