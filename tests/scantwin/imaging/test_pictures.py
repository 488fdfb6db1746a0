"""Pictures: sides, aspect, windows, scales, the notice, and the files of a study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from scantwin.imaging import pictures as pic
from scantwin.imaging.picture_marks import colours, notice_band, panel, round_ticks, scale_bar
from scantwin.imaging.volume import Volume


def ct_with_marker() -> Volume:
    """Fat all over (-100 HU); bone at the patient's upper right front corner. Voxels of 5 x 2 x 3 mm."""
    array = np.full((40, 30, 50), -100, np.int16)
    array[30:, :8, :12] = 1000
    return Volume(array, (5.0, 2.0, 3.0), (-70.0, -30.0, 100.0), unit="HU")


def grey(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L")).astype(float)


@pytest.mark.parametrize(
    ("plane", "where"), [("coronal", "top left"), ("axial", "top left"), ("sagittal", "top left")]
)
def test_sides(plane: pic.Plane, where: str) -> None:
    """Right of the patient on the left; head up; front up (axial) or on the left (sagittal)."""
    ct = ct_with_marker()
    at = {"coronal": -20.0, "axial": 280.0, "sagittal": -50.0}[plane]
    image = grey(pic.ct_slice_image(ct, plane=plane, at_mm=at))
    h, w = image.shape
    # Inside the marker, away from the letters R and L.
    assert image[int(h * 0.16), int(w * 0.16)] == 255
    for y, x in ((0.16, 0.8), (0.8, 0.16), (0.8, 0.8)):
        assert image[int(h * y), int(w * x)] == pytest.approx(38, abs=2)  # (-100 + 160) / 400


@pytest.mark.parametrize("plane", ["coronal", "axial", "sagittal"])
def test_square_pixels(plane: pic.Plane) -> None:
    z, y, x = ct_with_marker().extent_mm
    height, width = {"coronal": (z, x), "axial": (y, x), "sagittal": (z, y)}[plane]
    image = pic.ct_slice_image(ct_with_marker(), plane=plane)
    assert image.width / image.height == pytest.approx(width / height, rel=0.01)
    assert max(image.size) == pic.PIXELS


def test_any_orientation_gives_the_same_picture() -> None:
    ct = ct_with_marker()
    turned = Volume(
        np.ascontiguousarray(ct.array[:, ::-1].transpose(1, 0, 2)),
        (ct.spacing[1], ct.spacing[0], ct.spacing[2]),
        tuple(float(v) for v in ct.world((0, ct.shape[1] - 1, 0))),  # type: ignore[arg-type]
        ct.direction[:, [1, 0, 2]] * np.array([-1.0, 1.0, 1.0]),
        "HU",
    )
    straight, other = grey(pic.ct_slice_image(ct)), grey(pic.ct_slice_image(turned))
    assert straight.shape == other.shape
    assert np.abs(straight - other).mean() < 1.0


def hot_spot(value: float = 5.0) -> Volume:
    array = np.zeros((20, 16, 16), np.float32)
    array[12:16, 6:10, 6:10] = value
    return Volume(array, (6.0, 6.0, 6.0), (-60.0, -60.0, 100.0), unit="SUV")


def test_pet_is_inverse_grey_from_0_to_10() -> None:
    image = grey(pic.pet_slice_image(hot_spot(5.0), synthetic=False))
    h, w = image.shape
    assert image[int(h * 0.31), w // 2] == pytest.approx(127, abs=3)
    assert image[int(h * 0.7), w // 2] == 255
    black = grey(pic.pet_slice_image(hot_spot(25.0), synthetic=False))
    assert black[int(h * 0.31), w // 2] == 0


def test_projections() -> None:
    pet = hot_spot(10.0)
    array = np.array(pet.array)
    array[4, 2, 13] = 10.0  # low, in front, on the left
    pet = pet.with_array(array)
    front = grey(pic.mip_image(pet, synthetic=False))
    side = grey(pic.mip_image(pet, view="lateral", synthetic=False))
    h, w = front.shape
    assert front[int(h * (1 - 4.5 / 20)), int(w * 13.5 / 16)] < 20, "the patient's left is on the right"
    assert side[int(h * (1 - 4.5 / 20)), int(w * 2.5 / 16)] < 20, (
        "the front is on the left: seen from the left"
    )


def test_the_side_projection_says_from_where_it_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who stands at the patient's left and looks at him has the face on his own left hand."""
    said: list[str] = []
    monkeypatch.setattr(pic, "panel", lambda rows, columns, **_: said.extend(columns) or rows[0][0])
    pic.study_pictures(ct_with_marker(), hot_spot(), tmp_path)
    assert "left side" in said
    assert "right side" not in said
    assert "patient's left" in str(pic.mip_image.__doc__)


def test_fused_keeps_the_ct_where_nothing_is_taken_up() -> None:
    ct = Volume(np.full((20, 16, 16), 40, np.int16), (6.0, 6.0, 6.0), (-60.0, -60.0, 100.0), unit="HU")
    image = np.asarray(pic.fused_image(ct, hot_spot(6.0), synthetic=False)).astype(int)
    h, w, _ = image.shape
    cold, hot = image[int(h * 0.7), w // 2], image[int(h * 0.31), w // 2]
    assert np.ptp(cold) == 0
    assert hot[0] > hot[2] + 80, "uptake is warm"
    lesion = hot_spot(1.0)
    outlined = np.asarray(pic.fused_image(ct, hot_spot(6.0), lesions=lesion, synthetic=False))
    assert ((outlined == (0, 255, 255)).all(axis=2)).sum() > 100


@pytest.mark.parametrize("make", [pic.pet_slice_image, pic.mip_image], ids=["slice", "projection"])
def test_the_notice_is_burnt_in(make: object) -> None:
    assert callable(make)
    plain, marked = (np.asarray(make(hot_spot(), synthetic=s)).astype(int) for s in (False, True))
    assert (marked[: len(plain)] == plain).all(), "nothing of the picture is covered"
    foot = marked[len(plain) :]
    red = (foot[..., 0] > 200) & (foot[..., 2] < 120)
    assert red.mean() > 0.02, "the letters can be read"


@pytest.mark.parametrize("width", [1, 40, 77, 100, 118, 131, 139, 480, 2000])
def test_the_notice_is_whole_at_any_width(width: int) -> None:
    band = np.asarray(notice_band(width)).astype(int)
    assert band.shape[1] >= width
    red = (band[..., 0] > 120) & (band[..., 2] < 120)
    assert not red[:, :2].any() and not red[:, -2:].any(), "no letter is cut off"
    assert red.any(axis=1).sum() >= 5, "letters that can be read"


@given(st.floats(0.01, 5000))
def test_a_scale_has_few_round_numbers(top: float) -> None:
    ticks = round_ticks(top)
    assert 3 <= len(ticks) <= 6 and ticks[0] == 0 and top * 0.65 < ticks[-1] <= top * (1 + 1e-6)
    assert all(len(f"{tick:.9g}".replace(".", "").strip("0")) <= 3 for tick in ticks)


def test_district_colours() -> None:
    ct = Volume(np.full((20, 16, 16), 40, np.int16), (6.0, 6.0, 6.0), unit="HU")
    labels = ct.with_array(
        np.repeat(np.arange(1, 6, dtype=np.uint8), 4)[:, None, None] * np.ones_like(ct.array, np.uint8)
    )
    image = np.asarray(pic.districts_image(ct, labels))
    column = image[:, image.shape[1] // 2]
    assert len({tuple(c) for c in column[5::16]}) == 5


def test_palettes_and_bars() -> None:
    for palette in ("inverse-grey", "hot", "spread"):
        table = colours(palette)  # type: ignore[arg-type]
        light = table.astype(float) @ (0.299, 0.587, 0.114)
        steps = np.diff(light)
        assert (steps >= -1).all() or (steps <= 1).all(), f"{palette}: light runs one way"
    bar = scale_bar(300, 10.0, "hot", "SUV")
    assert bar.height == 300
    assert np.asarray(bar)[40, 7].sum() > np.asarray(bar)[270, 7].sum()


def test_panel() -> None:
    tile = Image.new("RGB", (100, 60), (0, 90, 0))
    image = panel([[tile, tile], [tile]], columns=("truth", "synthetic"), names=("one", "two"), title="all")
    assert image.width > 200 + 16
    assert image.height > 120 + 30
    assert (np.asarray(image) == (0, 90, 0)).all(axis=2).sum() == 3 * 100 * 60


@pytest.mark.parametrize("synthetic", [True, False])
def test_pictures_of_a_study(tmp_path: Path, synthetic: bool) -> None:
    ct, pet = ct_with_marker(), hot_spot(4.0)
    std = pet.with_array(np.asarray(pet.array) * 0.1)
    paths = pic.study_pictures(ct, pet, tmp_path, std=std, synthetic=synthetic, title="twin 1")
    assert [p.name for p in paths] == ["coronal.png", "mip.png", "uncertainty.png"]
    for path in paths:
        with Image.open(path) as image:
            assert image.mode == "RGB"
            assert min(image.size) > 200
    without = pic.study_pictures(ct, pet, tmp_path / "b", lesions=hot_spot(1.0), synthetic=synthetic)
    assert [p.name for p in without] == ["coronal.png", "mip.png"]


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 4, 5), (1, 90, 120)])
def test_pictures_of_nothing(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    """An all-air CT and an empty PET still give pictures: a failed scan must be seen, not crash."""
    air = Volume(np.full(shape, -1000, np.int16), (5.0, 4.0, 4.0), unit="HU")
    empty = Volume(np.zeros(shape, np.float32), (5.0, 4.0, 4.0), unit="SUV")
    assert len(pic.study_pictures(air, empty, tmp_path, std=empty)) == 3


def test_beside_a_flat_picture_stands_a_flat_scale() -> None:
    assert [scale_bar(height, 10.0, "hot", "SUV").height for height in (1, 20, 34)] == [1, 20, 34]


def test_best_slice_goes_through_the_lesion() -> None:
    ct = ct_with_marker()
    lesions = np.zeros(ct.shape, np.uint8)
    lesions[5:9, 22, 5:9] = 1
    at = pic.best_coronal_mm(ct, ct.with_array(lesions, "label"))
    assert at == pytest.approx(-30.0 + 22 * 2.0)
    assert pic.best_coronal_mm(ct) == pytest.approx(-30.0 + 14.5 * 2.0, abs=3.0)
