from __future__ import annotations

import numpy as np
import pytest

from scantwin.phantoms.canvas import Canvas, Grid, Lattice
from scantwin.phantoms.shapes import ellipsoid
from scantwin.phantoms.tissues import ORGANS, TISSUES

LOW, HIGH = np.array([0.0, -100.0, -100.0]), np.array([400.0, 100.0, 100.0])


def canvas(side: float, seed: int = 1) -> Canvas:
    spacing = (side, side, side)
    values = {name: (t.hu_plain, t.suv_mean) for name, t in TISSUES.items()}
    made = Canvas(Grid.over(LOW, HIGH, spacing), spacing, seed, values)
    made.labels[:] = ORGANS["muscle"]
    return made


def test_noise_has_unit_variance() -> None:
    lattice = Lattice(np.random.default_rng(0), LOW, HIGH, 12.0)
    field = lattice.at(*(np.arange(a + 30, b - 30, 3.0) for a, b in zip(LOW, HIGH, strict=True)))
    # About 27 x 12 x 12 independent cells: SD within a few percent.
    assert field.std() == pytest.approx(1.0, abs=0.08)
    assert abs(field.mean()) < 0.1


def test_noise_belongs_to_the_world_and_not_to_the_voxels() -> None:
    lattice = Lattice(np.random.default_rng(0), LOW, HIGH, 12.0)
    coarse = lattice.at(np.array([50.0, 90.0]), np.array([0.0]), np.array([10.0, 40.0]))
    fine = lattice.at(np.arange(50.0, 91.0, 2.0), np.array([-4.0, 0.0]), np.arange(10.0, 41.0, 5.0))
    assert fine[0, 1, 0] == pytest.approx(coarse[0, 0, 0], abs=1e-4)
    assert fine[-1, 1, -1] == pytest.approx(coarse[1, 0, 1], abs=1e-4)


def test_an_edge_voxel_gets_its_partial_volume() -> None:
    made = canvas(8.0)
    made.suv[:] = 0
    made.paint("liver", ellipsoid((0, 0, 200), (50, 50, 50)))
    inside = made.suv.sum() * 0.512 / made.values["liver"][1]
    # The warp of the world changes volumes by a few percent.
    assert inside == pytest.approx(4 / 3 * np.pi * 50**3 / 1000, rel=0.08)
    assert ((made.suv > 0) & (made.suv < 0.99 * made.values["liver"][1])).sum() > 0


def test_only_and_spare_are_kept_to() -> None:
    made = canvas(8.0)
    made.paint("liver", ellipsoid((0, 0, 200), (40, 40, 40)))
    made.paint("blood", ellipsoid((0, 0, 200), (60, 60, 60)), spare=("liver",))
    made.paint("bladder", ellipsoid((0, 0, 200), (80, 80, 80)), only=("blood",))
    labels = made.labels
    assert (labels == ORGANS["liver"]).any()
    assert not (labels == ORGANS["blood"]).any()
    made.labels[:] = 0
    made.paint("liver", ellipsoid((0, 0, 200), (40, 40, 40)))
    assert not made.labels.any(), "nothing is painted outside the body"
