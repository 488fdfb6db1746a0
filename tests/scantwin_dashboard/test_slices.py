"""Slices of a scan's folder: where they lie, what they show, and what is said when they are gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scantwin.errors import InputError
from scantwin.imaging.nifti import read_nifti, write_nifti
from scantwin_dashboard import slices
from scantwin_dashboard.slices import ScanVolumes


@pytest.fixture
def volumes(filled: Path) -> ScanVolumes:
    return slices.load(filled / "scans" / "done")


def test_every_layer_of_every_plane_has_the_same_size(volumes: ScanVolumes) -> None:
    for plane in slices.PLANES:
        sizes = {
            slices.slice_image(volumes, layer, plane, volumes.first[plane], 10.0).size
            for layer in volumes.layers
        }
        assert len(sizes) == 1


def test_a_body_is_shown_from_three_sides(volumes: ScanVolumes) -> None:
    assert volumes.planes == slices.PLANES


def test_the_last_slice_can_be_shown(volumes: ScanVolumes) -> None:
    for plane in slices.PLANES:
        for index in (0, slices.count(volumes, plane) - 1):
            slices.slice_image(volumes, "CT + PET", plane, index, 5.0)


def test_a_slice_lies_where_its_voxels_lie(volumes: ScanVolumes) -> None:
    # 12 mm voxels from (x, y, z) = (-240, -168, -360) mm, LPS
    assert slices.place_mm(volumes, "sagittal", 0) == pytest.approx(-240)
    assert slices.place_mm(volumes, "coronal", 2) == pytest.approx(-144)
    assert slices.place_mm(volumes, "axial", 10) == pytest.approx(-240)


def test_the_first_slice_shows_the_body(volumes: ScanVolumes) -> None:
    axial = volumes.pet.array[volumes.first["axial"]]
    assert (axial > 0.3).mean() > 0.1
    assert (volumes.pet.array[:, volumes.first["coronal"]] > 0.3).mean() > 0.1


def test_a_brighter_scale_changes_the_pet_and_not_the_ct(volumes: ScanVolumes) -> None:
    def seen(layer: slices.Layer, top: float) -> np.ndarray:
        return np.asarray(slices.slice_image(volumes, layer, "coronal", volumes.first["coronal"], top))

    assert (seen("CT", 5.0) == seen("CT", 10.0)).all()
    assert (seen("PET", 5.0) != seen("PET", 10.0)).any()


def test_an_unknown_deviation_is_grey_and_not_the_lowest(volumes: ScanVolumes, filled: Path) -> None:
    assert volumes.std is not None and volumes.partly_unknown
    assert volumes.spread_top == 1.0  # 0.1 + 0.12 * 7.5 SUV in the brain
    index = volumes.first["coronal"]
    assert np.isnan(np.asarray(volumes.std.array)[:, index]).any(), "its conftest leaves some unknown"
    grey = (np.asarray(slices.slice_image(volumes, "Uncertainty", "coronal", index, 10.0)) == 110).all(axis=2)
    assert grey.any()
    folder = filled / "scans" / "done"
    std = read_nifti(folder / "std.nii.gz", "SUV")
    nowhere = np.where(np.asarray(std.array) > 0, np.nan, std.array).astype(np.float32)
    write_nifti(std.with_array(nowhere), folder / "std.nii.gz")
    assert "Uncertainty" not in slices.load(folder).layers, "where it is known nowhere there is no picture"


def test_a_scan_without_deviation_and_districts_shows_the_rest(filled: Path) -> None:
    folder = filled / "scans" / "done"
    (folder / "std.nii.gz").unlink()
    (folder / "districts.nii.gz").unlink()
    volumes = slices.load(folder)
    assert volumes.layers == ("CT", "PET", "CT + PET")
    with pytest.raises(InputError, match="no standard deviation"):
        slices.slice_image(volumes, "Uncertainty", "coronal", 3, 10.0)


@pytest.mark.parametrize("count", [1, 2])
def test_a_pet_of_a_few_slices_is_shown_from_above(count: int, thin: Callable[[int], Path]) -> None:
    volumes = slices.load(thin(count))
    assert volumes.planes == ("axial",)
    assert slices.slice_image(volumes, "PET", "axial", volumes.first["axial"], 5.0).height > 100
    # What the page does not offer does not fail either.
    for plane in slices.PLANES:
        for layer in volumes.layers:
            slices.slice_image(volumes, layer, plane, 0, 5.0)
    slices.projection(volumes, "anterior", 5.0)


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not on this machine") as told:
        slices.load(tmp_path / "gone")
    assert told.value.hint
