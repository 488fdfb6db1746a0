"""`Recipe`: everything that makes one model what it is. A variant is a value here, never a subclass.

Frozen, unknown keys refused. `Recipe.load("pix2pix")` reads a recipe shipped with the package,
`Recipe.load("my.toml")` one of the user's.
"""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from scantwin.errors import InputError
from scantwin.imaging.study import District
from scantwin.units import SUV_RANGE

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Network(_Part):
    """The networks of one district."""

    channels: tuple[Positive, ...] = (16, 32, 64)
    """Channels of the generator's U-Net, finest level first; each level halves the resolution."""
    discriminator_channels: tuple[Positive, ...] = (16, 32, 64)
    """Channels of the patch discriminator; each layer halves the resolution."""


class Sampling(_Part):
    """How training patches are drawn from a study."""

    patch: Positive = 32
    """Edge of a training patch [voxels] (arXiv 2503.15555, III.B)."""
    window: Positive = 160
    """Largest edge of a window at inference [voxels]. The networks have no normalisation layers, so a
    window may be larger than a training patch; a whole district in one has no seams and costs least."""
    overlap: Annotated[int, Field(ge=0)] = 16
    """Overlap of neighbouring windows at inference [voxels] (arXiv 2503.15555, III.B)."""
    lesions: Share = 0.25
    """Share of patches centred on a lesion where the study has any in the district."""
    hot: Share = 0.25
    """Share of patches centred where the PET is hot: most of the body is not, most of the error is."""
    flip: tuple[Literal["z", "y", "x"], ...] = ("x",)
    """Axes that patches are mirrored along at random."""
    hu_jitter: Annotated[float, Field(ge=0)] = 10.0
    """SD of a shift of a patch's CT numbers [HU]: scanners differ by 8-10 HU (TISSUES.md, 4)."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.overlap >= self.window:
            raise ValueError("the overlap must be smaller than the window")
        return self


class Optimisation(_Part):
    """How the weights are moved."""

    batch: Positive = 4
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    discriminator_rate: Annotated[float, Field(gt=0)] = 2e-4
    betas: tuple[Share, Share] = (0.5, 0.99)
    """Adam's decay rates; 0.5 for the first moment as Pix2Pix has it (arXiv 1611.07004, 3.3)."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Of the learning rate over the whole training, to a twentieth at its end."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.97
    """Decay of the moving average of weights that is delivered; 0 delivers the last weights."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the forward pass; weights and optimiser stay fp32. `auto` is bf16 where the processor
    has it (2-3 times faster there, slower elsewhere)."""


class Losses(_Part):
    """Weights of the terms of the generator's loss; 0 switches a term off."""

    l1: Annotated[float, Field(ge=0)] = 100.0
    """Of the mean absolute error of the PET scaled to [-1, 1] (lambda of arXiv 1611.07004)."""
    adversarial: Annotated[float, Field(ge=0)] = 1.0
    """Of the least-squares adversarial term (arXiv 1611.04076)."""
    air: Share = 0.05
    """Weight of voxels outside the body in the L1 term; inside it is 1."""


class Recipe(_Part):
    """One system's whole configuration."""

    system: Literal["pix2pix"]
    name: str = ""
    districts: tuple[District, ...] = ("head", "trunk", "arms", "legs", "whole-body")
    """Districts with a model of their own. `whole-body` learns from every part of every study and
    serves what cannot be told apart."""
    shares: dict[District, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """How the training steps are shared among the districts; 1 where nothing is said."""
    spacing_mm: tuple[float, float, float] = (4.0, 4.0, 4.0)
    """Working voxel size (z, y, x) [mm]: about that of a clinical PET (TISSUES.md, 5)."""
    suv_range: tuple[float, float] = SUV_RANGE
    """SUV [g/ml] that the model can say; beyond it is clipped."""
    steps_per_round: Positive = 200
    """Training steps of a site in one round, over all its districts."""
    network: Network = Network()
    sampling: Sampling = Sampling()
    optimisation: Optimisation = Optimisation()
    losses: Losses = Losses()

    @property
    def patch(self) -> int:
        """Edge of a training patch [voxels]."""
        return self.sampling.patch

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        levels = 2 ** (len(self.network.channels) - 1)
        for edge in (self.sampling.patch, self.sampling.window):
            if edge % levels:
                raise ValueError(f"{edge} voxels cannot be halved {len(self.network.channels) - 1} times")
        if not self.districts or len(set(self.districts)) != len(self.districts):
            raise ValueError("districts must be named once each, and at least one")
        return self

    @classmethod
    def load(cls, name_or_path: str | Path) -> Self:
        """A shipped recipe by its name, or one in a TOML file. Raises `InputError`."""
        text = str(name_or_path)
        shipped = files("scantwin.learning") / "recipes"
        if text.endswith(".toml"):
            path = Path(text)
            if not path.is_file():
                raise InputError(f"There is no recipe file {path}.", hint="Check the path.")
            source, data = str(path), path.read_text()
        elif (shipped / f"{text}.toml").is_file():
            source, data = text, (shipped / f"{text}.toml").read_text()
        else:
            raise InputError(
                f"There is no recipe called {text!r}.", hint=f"Known: {', '.join(shipped_recipes())}."
            )
        try:
            values = tomllib.loads(data)
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"The recipe {source} is not TOML: {error}.", hint="Mend the file.") from None
        return cls.read({"name": Path(text).stem, **values}, source)

    @classmethod
    def read(cls, values: dict[str, Any], source: str) -> Self:
        """The recipe of a mapping that came from `source`. Raises `InputError`."""
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
