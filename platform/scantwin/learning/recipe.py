"""`Recipe`: everything that makes one model what it is. A variant is a value here, never a subclass.

Recipes are frozen and refuse unknown keys. `Recipe.load("pix2pix")` reads a recipe shipped with the package,
`Recipe.load("my.toml")` one of the user's.
"""

from __future__ import annotations

import math
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from scantwin.errors import InputError
from scantwin.imaging.study import District
from scantwin.learning.recipe_generation import Inpainting, Volumes
from scantwin.learning.recipe_parts import (
    BODY_WEIGHT,
    Diffusion,
    Losses,
    Network,
    Optimisation,
    Part,
    Positive,
    Sampling,
    Unpaired,
)
from scantwin.units import SUV_RANGE

SystemName = Literal["pix2pix", "cyclegan", "coarse-diffusion", "ct-inpainting", "low-resource-3d"]

GENERATORS: Final[tuple[SystemName, ...]] = ("ct-inpainting", "low-resource-3d")
"""Systems that make CT; the others make PET of CT."""

_SECTIONS: Final[dict[str, dict[str, type[Part]]]] = {
    "pix2pix": {},
    "cyclegan": {"unpaired": Unpaired},
    "coarse-diffusion": {"diffusion": Diffusion},
    "ct-inpainting": {"inpainting": Inpainting},
    "low-resource-3d": {"volumes": Volumes},
}
"""Sections that belong to one system only: absent from other recipes, defaults where not written."""

_PAIRED_ONLY: Final = ("losses.l1", "losses.hottest", "losses.uptake")
_CYCLE_ONLY: Final = ("losses.cycle", "losses.identity", "losses.held")
_CRITIC: Final = ("losses.adversarial", "network.discriminator_channels", "optimisation.discriminator_rate")
_BY_UPTAKE: Final = ("sampling.lesions", "sampling.hot", "sampling.swap_uptake")
_UPTAKE_ONLY: Final = (
    "suv_range", "network.start", "network.dropout", "sampling.window", "sampling.overlap", "sampling.hot",
    "sampling.average_flips", "sampling.flip_trunk", "sampling.flip_unsplit", "sampling.swap_uptake",
    "losses.neighbour", "losses.lesions", "losses.hottest", "losses.uptake",
)  # fmt: skip
_TEACHES: Final[dict[str, tuple[str, ...]]] = {
    "pix2pix": ("l1", "adversarial", "hottest", "uptake"),
    "cyclegan": ("adversarial", "cycle", "identity", "held"),
    "coarse-diffusion": ("l1", "hottest", "uptake", "denoising"),
    "ct-inpainting": ("l1", "denoising"),
    "low-resource-3d": ("l1", "adversarial", "denoising"),
}
"""Losses of which a system needs at least one: with all of them off there is nothing to learn from."""

_NO_USE: Final[dict[str, tuple[str, ...]]] = {
    "pix2pix": (*_CYCLE_ONLY, "losses.denoising"),
    "cyclegan": (*_PAIRED_ONLY, *_BY_UPTAKE, "losses.denoising"),
    "coarse-diffusion": (*_CYCLE_ONLY, *_CRITIC),
    "ct-inpainting": (*_CYCLE_ONLY, *_UPTAKE_ONLY, "losses.air", "sampling.turn_deg", "sampling.stretch"),
    "low-resource-3d": (*_CYCLE_ONLY, *_UPTAKE_ONLY, "network.channels", "sampling.turn_deg"),
}
"""Values of the recipe and its common sections that a system does not read: setting them is a mistake."""


_FINEST_MM: Final = 0.3
"""Smallest voxel edge [mm]. No CT has finer ones: a slipped decimal point, and more memory than there is."""


class Recipe(Part):
    """The whole configuration of one system."""

    system: SystemName
    name: str = ""
    districts: tuple[District, ...] = ("head", "trunk", "arms", "legs", "whole-body")
    """Districts with a model of their own. `whole-body` learns from every part of every study and serves
    studies that cannot be split into districts."""
    shares: dict[District, Annotated[float, Field(gt=0, le=1e6)]] = Field(default_factory=dict)
    """How the training steps are divided among the districts; 1 for those not named."""
    spacing_mm: tuple[float, float, float] = (4.0, 4.0, 4.0)
    """Working voxel size (z, y, x) [mm]: about that of a clinical PET (sources.md, 5)."""
    suv_range: tuple[float, float] = SUV_RANGE
    """SUV [g/ml] that the model can predict; values beyond it are clipped."""
    steps_per_round: Positive = 200
    """Training steps of a site in one round, over all its districts."""
    network: Network = Network()
    sampling: Sampling = Sampling()
    optimisation: Optimisation = Optimisation()
    losses: Losses = Losses()
    unpaired: Unpaired | None = None
    """Only for `cyclegan`."""
    diffusion: Diffusion | None = None
    """Only for `coarse-diffusion`."""
    inpainting: Inpainting | None = None
    """Only for `ct-inpainting`."""
    volumes: Volumes | None = None
    """Only for `low-resource-3d`."""

    @property
    def patch(self) -> int:
        """Edge of a training patch [voxels]."""
        return self.sampling.patch

    @property
    def makes_ct(self) -> bool:
        """Whether its system makes CT: such systems learn from CT and organ classes and need no PET."""
        return self.system in GENERATORS

    def used(self) -> dict[str, Any]:
        """Its values as JSON, without those that its system does not read."""
        values = self.model_dump(mode="json", exclude_none=True)
        for path in _NO_USE[self.system]:
            section, _, key = path.rpartition(".")
            del (values[section] if section else values)[key]
        return values

    @model_validator(mode="before")
    @classmethod
    def _sections(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("system") not in [*_SECTIONS]:  # may be of any type
            return values
        own = _SECTIONS[values["system"]]
        every = {name for sections in _SECTIONS.values() for name in sections}
        for name in every - set(own):
            if values.get(name) is not None:
                raise ValueError(f"a {values['system']} recipe has no section [{name}]")
        given = {name: values.get(name) for name in own}
        return {**values, **{name: section or {} for name, section in given.items()}}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        levels = 2 ** (len(self.network.channels) - 1)
        for edge in (self.sampling.patch, self.sampling.window):
            if edge % levels:
                raise ValueError(f"{edge} voxels cannot be halved {len(self.network.channels) - 1} times")
        if not all(_FINEST_MM <= edge < math.inf for edge in self.spacing_mm):
            raise ValueError(f"voxels have edges of at least {_FINEST_MM:g} mm")
        low, high = self.suv_range
        if low or not 0 < high <= SUV_RANGE[1]:
            raise ValueError(f"suv_range is from 0 to {SUV_RANGE[1]:g} at most: errors are measured there")
        critic = 2 ** len(self.network.discriminator_channels)
        judged = self.losses.adversarial and "losses.adversarial" not in _NO_USE[self.system]
        if judged and self.sampling.patch < critic:
            raise ValueError(f"the discriminator needs patches of {critic} voxels and more")
        weights = self.losses
        beside = max(weights.air, weights.neighbour)
        if (self.diffusion or weights.hottest or weights.uptake) and beside > BODY_WEIGHT:
            # A voxel that weighs as much as the district's own body is taken for it (`Batch.body`).
            raise ValueError(
                f"losses.air and losses.neighbour must be {BODY_WEIGHT:g} at most: the body is "
                "recognised by its weight"
            )
        if not any(getattr(weights, name) for name in _TEACHES[self.system]):
            raise ValueError(f"one of the losses {', '.join(_TEACHES[self.system])} must be above 0")
        from_nothing = self.network.start == "zero"
        if self.unpaired and from_nothing and (self.unpaired.by_place or self.losses.held):
            raise ValueError("unpaired.by_place and losses.held need network.start = tissue-curve")
        if not self.districts or len(set(self.districts)) != len(self.districts):
            raise ValueError("districts must be named once each, and at least one")
        if self.diffusion and len(self.diffusion.channels) > len(self.network.channels):
            raise ValueError("the denoiser may not have more levels than the coarse network")
        for path in _NO_USE[self.system]:
            *section, key = path.split(".")
            part = getattr(self, section[0]) if section else self
            if getattr(part, key) != type(part).model_fields[key].default:
                raise ValueError(f"a {self.system} recipe does not use {path}")
        return self

    @classmethod
    def load(cls, name_or_path: str | Path) -> Self:
        """A shipped recipe by its name, or one from a TOML file. Raises `InputError`."""
        text = str(name_or_path)
        shipped = files("scantwin.learning") / "recipes"
        if text.endswith(".toml"):
            path = Path(text)
            if not path.is_file():
                raise InputError(f"There is no recipe file {path}.", hint="Check the path.")
            source, data = str(path), path.read_bytes()
        elif (shipped / f"{text}.toml").is_file():
            source, data = text, (shipped / f"{text}.toml").read_bytes()
        else:
            raise InputError(
                f"There is no recipe called {text!r}.", hint=f"Known: {', '.join(shipped_recipes())}."
            )
        try:
            values = tomllib.loads(data.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"The recipe {source} is not TOML: {error}.", hint="Mend the file.") from None
        except RecursionError:
            raise InputError(f"The recipe {source} is nested too deeply.", hint="Mend the file.") from None
        system = values.get("system")
        for place in _NO_USE.get(system, ()) if isinstance(system, str) else ():
            *section, key = place.split(".")
            part = values.get(section[0]) if section else values
            if isinstance(part, dict) and key in part:
                raise InputError(
                    f"The recipe {source} sets {place}, which a {system} recipe does not use.",
                    hint="Take it out.",
                )
        return cls.read({"name": Path(text).stem, **values}, source)

    @classmethod
    def read(cls, values: dict[str, Any], source: str) -> Self:
        """The recipe from a mapping that was read from `source`. Raises `InputError`."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "as a whole"
            raise InputError(
                f"The recipe {source} is wrong at {where}: {first['msg']}.", hint="Mend it."
            ) from None


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = files("scantwin.learning") / "recipes"
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))
