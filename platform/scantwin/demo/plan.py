"""Who takes part in the demo, and how much of everything: sized for 2 cores and three to ten minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

RECIPE: Final = "demo"
"""The recipe shipped for the demo: the district Pix2Pix, small enough for minutes."""


class DemoSite(BaseModel):
    """One site of the demo."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    preset: str
    """Its scanner: a preset of `scantwin phantom cohort --site`."""
    kind: str = "hospital"
    """As in `scantwin site init --kind`."""
    patients: int
    shown: tuple[float, ...] = (1.0, 1.0, 1.0)
    """SUV that the scanner shows for a true 1.0 at each of QC_MONTHS; the last is for its patients, too."""


SITES: Final = (
    DemoSite(name="university-hospital", preset="university", patients=6, shown=(1.01, 0.99, 1.0)),
    DemoSite(name="regional-hospital", preset="regional", patients=5, shown=(1.02, 1.03, 1.03)),
    DemoSite(name="rural-clinic", preset="rural", kind="rural-clinic", patients=4, shown=(0.95, 0.90, 0.85)),
    DemoSite(name="district-hospital", preset="regional", patients=4),
    DemoSite(name="mission-clinic", preset="rural", kind="rural-clinic", patients=4),
)
"""The first three are the demo's own; `--sites` takes more or fewer."""

QC_MONTHS: Final = (4, 2, 0)
"""How many months ago each site scanned its cylinder."""


class DemoOptions(BaseModel):
    """What was asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    out: Path
    data: Path | None = None
    rounds: int = 4
    sites: int = 3
    patients: int | None = None
    """Patients of each site, instead of the plan's."""
    recipe: str = RECIPE
    """A shipped recipe's name or a TOML file."""
    seed: int = 2026
    serve: bool = True
