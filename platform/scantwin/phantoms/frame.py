"""The measures of one body, shared by all the anatomy files.

Reference: an adult man of 1760 mm (ICRP 89; height assumed). Positions are fractions of the height from
the soles (MIRD stylised phantom); lengths in the anatomy files are for the reference man and are scaled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

REFERENCE_MM: Final = 1760.0
"""Height of the reference man [mm]; assumed."""

Arms = Literal["up", "down", "one-up"]
Sex = Literal["M", "F"]

HEAD_FLOOR: Final = 0.845
"""Height fraction of the plane C7/T1: the district head lies above it."""
LEG_TOP: Final = 0.468
"""Height fraction of the crotch: the district legs lies below it."""
ARM_START_MM: Final = 62.0
"""Distance along the humerus from the centre of the humeral head to the plane of the axillary fold, where
the district arms begins (reference man) [mm]."""


@dataclass(frozen=True)
class Frame:
    """One body's measures."""

    height: float
    """[mm]."""
    sex: Sex
    bmi: float
    arms: Arms
    lean: float
    """Scale of the muscles' cross-sections, 1 for the reference man."""
    fat: float
    """Thickness of the fat rind, 1 for about BMI 25."""
    visceral: float
    """How far the belly extends beyond the reference [mm]."""
    seed: int
    """The patient's seed."""
    jitter: dict[str, NDArray[np.float64]]
    """Small standard normal random numbers by name, for positions and sizes."""

    @property
    def s(self) -> float:
        """Length scale relative to the reference man."""
        return self.height / REFERENCE_MM

    @property
    def female(self) -> bool:
        """Whether the body is a woman's."""
        return self.sex == "F"

    def z(self, fraction: float) -> float:
        """Height above the soles [mm] at a fraction of the height."""
        return fraction * self.height

    def at(self, x: float, y: float, fraction: float) -> NDArray[np.float64]:
        """A point: x, y for the reference man [mm], z as a fraction of the height."""
        return np.array([x * self.s, y * self.s, self.z(fraction)])

    def wobble(self, name: str, k: int = 3) -> NDArray[np.float64]:
        """`k` standard normal numbers that belong to `name` and to this patient."""
        return self.jitter[name][:k]


class Jitter(dict[str, "NDArray[np.float64]"]):
    """Random numbers by name: asking for another name does not change the others."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed

    def __missing__(self, name: str) -> NDArray[np.float64]:
        rng = np.random.default_rng([self._seed, 77, crc32(name.encode())])
        self[name] = np.clip(rng.standard_normal(8), -2.5, 2.5)
        return self[name]

    def even(self, name: str) -> float:
        """A uniform random number in 0..1 that belongs to `name`."""
        return float(np.random.default_rng([self._seed, 78, crc32(name.encode())]).random())
