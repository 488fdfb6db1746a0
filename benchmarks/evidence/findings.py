"""What an experiment is given and what it gives back.

An experiment is a module of this package with `def run(setting, workshop, advance) -> Findings`. It trains
and measures; `report.py` writes. `Findings` holds plain data only, so it can be kept as JSON between runs,
and a report can be written without training anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.recipe import Recipe
from scantwin.learning.weights import Model
from scantwin.terminal import Advance

T = TypeVar("T")
Role = Literal["training", "held-out"]


@dataclass(frozen=True)
class Setting:
    """How much is trained and measured. Two exist: `settings.QUICK` and `settings.FULL`."""

    name: Literal["quick", "full"]
    training: int
    """Phantom patients that models learn from."""
    held_out: int
    """Phantom patients on whom figures are taken; no model has seen them."""
    spacing_mm: float
    """Voxel edge of the phantoms' PETs and of the models' working grid [mm]."""
    steps: int
    """Training steps of a translation model, over all its districts."""
    seed: int = 0

    def pick(self, quick: T, full: T) -> T:
        """`quick` or `full`, whichever this setting is; for values that only one experiment needs."""
        return quick if self.name == "quick" else full


@dataclass(frozen=True)
class Spread:
    """A figure over patients (or whatever `n` counts): mean, standard deviation, number."""

    mean: float
    sd: float
    n: int

    @classmethod
    def of(cls, values: list[float]) -> Spread | None:
        """The spread of `values`; missing ones (NaN) are left out, None if none is left."""
        known = [v for v in values if math.isfinite(v)]
        if not known:
            return None
        mean = sum(known) / len(known)
        sd = math.sqrt(sum((v - mean) ** 2 for v in known) / (len(known) - 1)) if len(known) > 1 else 0.0
        return cls(mean, sd, len(known))


_RESAMPLES: Final = 2000
"""Of a bootstrap: fifty of them then lie beyond each end of a 95 % interval."""


@dataclass(frozen=True)
class Ratio:
    """A mean over patients, or lesions of patients, over that of something else on the same ones."""

    value: float
    low: float
    high: float
    """The ratio lies between `low` and `high` in 95 % of bootstrap resamples of the patients. That is the
    chance in who was measured; another training would have given yet another value."""
    n: int
    """Number of figures in each mean."""
    patients: int | None = None
    """Number of patients, where one may have several figures; None where each has exactly one."""

    @classmethod
    def of(
        cls, one: Sequence[float], other: Sequence[float] | None = None, of: Sequence[Hashable] | None = None
    ) -> Ratio | None:
        """The ratio of the means of `one` and `other`, in the same order; without `other`, the mean of `one`.

        `of` says whose each figure is; without it each is another patient's. Figures that are missing in
        either (NaN) are left out; None if none is left or the mean of `other` is zero.
        """
        pairs = np.array([one, [1.0] * len(one) if other is None else other], float)
        known = np.isfinite(pairs).all(0)
        pairs = pairs[:, known]
        n = pairs.shape[1]
        above, below = pairs.mean(1) if n else (0.0, 0.0)
        if below <= 0:
            return None
        # A patient is drawn with all lesions: they share a scanner, a body and the errors of the model there.
        owners = np.arange(n) if of is None else _numbered(of)[known]
        patients, whose = np.unique(owners, return_inverse=True)
        sums = np.stack([np.bincount(whose, weights=row) for row in pairs])  # (2, patients)
        count = len(patients)
        drawn = sums[:, np.random.default_rng(0).integers(count, size=(_RESAMPLES, count))].sum(2)
        low, high = np.quantile(drawn[0] / np.maximum(drawn[1], 1e-12), (0.025, 0.975))
        return cls(float(above / below), float(low), float(high), n, None if of is None else count)


def _numbered(names: Sequence[Hashable]) -> NDArray[np.int64]:
    """Equal numbers for equal names."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


Cell = str | int | float | Spread | None
"""A cell of a table; None is shown as a dash."""


Measured = Ratio | float | None
"""The value of an aim; None if it could not be measured."""
Fits = Callable[[float], bool]


@dataclass(frozen=True)
class Table:
    """One table of the report."""

    title: str
    columns: tuple[str, ...]
    """Headings, with units in brackets: `MAE [SUV]`."""
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    """What a reader must know: what n counts, the extractor of a Frechet distance."""


@dataclass(frozen=True)
class Picture:
    """One picture of the report, a file below `Workshop.pictures`."""

    file: str
    caption: str


@dataclass(frozen=True)
class Aim:
    """One aim of issue 4: what came out, what was asked for, and, where it is missed, what was tried."""

    name: str
    """Such as `district-beats-whole-body/trunk`."""
    value: float | None
    """What was measured; None if it could not be."""
    aim: str
    """What was asked for, in words and numbers."""
    met: bool
    tried: tuple[str, ...] = ()
    """For a missed aim: other ways that were tried, with their results."""
    ratio: Ratio | None = None
    """The ratio behind `value`, if it is one over patients."""
    decided: bool = True
    """Whether both ends of the ratio's interval say the same as the value: other patients would, too."""

    @classmethod
    def _of(cls, name: str, measured: Measured, words: str, tried: tuple[str, ...], fits: Fits) -> Aim:
        ratio = measured if isinstance(measured, Ratio) else None
        value = measured.value if isinstance(measured, Ratio) else measured
        met = value is not None and fits(value)
        ends = () if ratio is None else (ratio.low, ratio.high)
        return cls(name, value, words, met, tried, ratio, all(fits(end) == met for end in ends))

    @classmethod
    def at_most(cls, name: str, measured: Measured, limit: float, words: str, *tried: str) -> Aim:
        """Met when `measured` <= `limit`; `words` say what is measured, and the limit."""
        return cls._of(name, measured, words, tried, lambda value: value <= limit)

    @classmethod
    def below(cls, name: str, measured: Measured, limit: float, words: str, *tried: str) -> Aim:
        """Met when `measured` < `limit`."""
        return cls._of(name, measured, words, tried, lambda value: value < limit)

    @classmethod
    def at_least(cls, name: str, measured: Measured, limit: float, words: str, *tried: str) -> Aim:
        """Met when `measured` >= `limit`."""
        return cls._of(name, measured, words, tried, lambda value: value >= limit)

    @classmethod
    def between(cls, name: str, measured: Measured, low: float, high: float, words: str, *tried: str) -> Aim:
        """Met when `low` <= `measured` <= `high`."""
        return cls._of(name, measured, words, tried, lambda value: low <= value <= high)


@dataclass(frozen=True)
class Findings:
    """What an experiment found: one chapter of the report."""

    title: str
    text: str
    """Paragraphs in Markdown: what was done, what came out, where a published claim does not hold and why."""
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    aims: tuple[Aim, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)
    """Everything else worth keeping, for machines; in the JSON only."""

    def as_json(self) -> dict[str, Any]:
        """The content for the work folder and docs/evidence.json; `read` is the inverse."""
        return cast(dict[str, Any], _finite(asdict(self)))

    @classmethod
    def read(cls, data: dict[str, Any]) -> Findings:
        """From what `as_json` gave, with lists for tuples and so on."""

        def cell(value: Any) -> Cell:
            return Spread(**value) if isinstance(value, dict) else value

        tables = tuple(
            Table(t["title"], tuple(t["columns"]), tuple(tuple(map(cell, r)) for r in t["rows"]), t["note"])
            for t in data["tables"]
        )
        pictures = tuple(Picture(**p) for p in data["pictures"])
        aims = tuple(
            Aim(**{**a, "tried": tuple(a["tried"]), "ratio": a.get("ratio") and Ratio(**a["ratio"])})
            for a in data["aims"]
        )
        return cls(data["title"], data["text"], tables, pictures, aims, data["figures"])


def _finite(value: Any) -> Any:
    """`value` with None for what JSON cannot express."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Workshop(Protocol):
    """What experiments share: phantom patients, made once, and models, trained once."""

    @property
    def folder(self) -> Path:
        """The work folder; an experiment's own cache goes into a sub-folder with the experiment's name."""

    @property
    def pictures(self) -> Path:
        """Where pictures of the report are saved (docs/pictures/evidence)."""

    def cohort(self, role: Role, advance: Advance = ...) -> Path:
        """Folder of the phantom patients of `role`: site / patient / NIfTI and `truth/`.

        PET voxels are those of the setting; CT voxels are two thirds as wide, within 2 to 4 mm. Made on first
        use.
        """

    def studies(self, role: Role, recipe: Recipe, advance: Advance = ...) -> list[PreparedStudy]:
        """The same patients as `recipe` needs them: on its voxels, with organ classes if it makes CT."""

    def trained(
        self, recipe: Recipe, *, steps: int, seed: int | None = None, advance: Advance = ...
    ) -> Model:
        """The model of `recipe` (any of `scantwin.systems`) after `steps` steps on the training patients.

        Trained once per recipe, steps, seed and patients; a kill loses a minute. `record` holds `seconds`,
        `steps`, `losses`, `patches`.
        """


class Experiment(Protocol):
    """An experiment's module. `RECIPES`, if it has that, names the shipped recipes on which it depends;
    without it, the experiment is run again when any recipe changes."""

    def run(self, setting: Setting, workshop: Workshop, advance: Advance) -> Findings:
        """Train what it needs and measure it. `advance(done, total, text)` reports progress."""
