"""What crosses the wire: one job down and one reply up per site and exchange, and how large they may be.

A job or a reply travels as two *parts*:

    header    JSON: everything that is not an array
    arrays    safetensors: `component/NAME|TENSOR` (float32 down, deltas up) and `statistics|NAME` (float64)

Nothing else is read from a message, and no part of it is ever executed or unpickled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from scantwin.calibration.samples import CalibrationSample

FORMAT: Final = 1
"""Version of the parts' layout, raised when the layout changes. That both ends also mean the same by the
numbers in it, a site learns from the version in the ticket (`ticket.read_ticket`)."""

HEADER = "header"
"""The part that holds the JSON header."""

ARRAYS = "arrays"
"""The part that holds all arrays, in one blob because Flower makes several requests for each blob."""

MOST_SAMPLES: Final = 1_000
"""Most calibration samples in one reply."""

LARGEST_INTEGER: Final = 2**63 - 1
"""Largest seed of a run: a limit of a ticket's TOML, of Flower's run configuration and of the database."""

Components = dict[str, dict[str, NDArray[np.generic]]]
"""Component name -> tensor name -> array, in the network's own shapes."""

Statistics = dict[str, NDArray[np.float64]]
"""Statistic name -> additive array: the consortium's is the sum over sites."""

Phase = Literal["train", "final"]
"""`train`: measure the received model (not in round 1), then train it. `final`: only measure, against the
references."""

Parts = dict[str, bytes]
"""A message as named blobs."""

_Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
_Site = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.+/ -]{0,119}$")]
# Each patch is one window of one study: a billion of them is a broken counter, not a round.
_Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]
# No measure comes near this, and its sums and squares over all sites stay far from an overflow.
_Measure = Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)]
_Seconds = Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)]


class JobHeader(BaseModel):
    """The header of a job."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = FORMAT
    run: _Id
    round: Annotated[int, Field(ge=1)]
    rounds: Annotated[int, Field(ge=1)]
    phase: Phase
    site: _Site
    seed: Annotated[int, Field(ge=0, le=LARGEST_INTEGER)]
    recipe: dict[str, JsonValue]
    patches: dict[str, int] = Field(default_factory=dict)
    """Patches behind each component so far, over all sites; a component without any is not used in scans."""
    confirmed: list[_Id] = Field(default_factory=list)
    """Calibration samples of this site that the consortium has stored."""


class ReplyHeader(BaseModel):
    """The header of a reply; every number is finite and every count is bounded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = FORMAT
    run: _Id
    round: Annotated[int, Field(ge=1)]
    phase: Phase
    site: _Site
    patches: dict[_Name, _Count] = Field(default_factory=dict, max_length=1_000)
    losses: dict[_Name, _Measure] = Field(default_factory=dict, max_length=1_000)
    metrics: dict[_Name, _Measure] = Field(default_factory=dict, max_length=20_000)
    calibration: list[CalibrationSample] = Field(default_factory=list, max_length=MOST_SAMPLES)
    seconds: dict[_Name, _Seconds] = Field(default_factory=dict, max_length=64)


@dataclass(frozen=True)
class Job:
    """What one site is asked to do in one exchange."""

    header: JobHeader
    components: Components
    statistics: Statistics = field(default_factory=dict)
    """Merged training statistics: the references of the final exchange."""


@dataclass(frozen=True)
class SiteReply:
    """What one site answers. `deltas` are trained minus received, only for the components it trained."""

    header: ReplyHeader
    deltas: Components = field(default_factory=dict)
    statistics: Statistics = field(default_factory=dict)


@dataclass(frozen=True)
class TensorSpec:
    """Shape and type that a tensor must have."""

    shape: tuple[int, ...]
    dtype: str


Spec = dict[str, dict[str, TensorSpec]]
"""Component name -> tensor name -> what its delta must look like."""


@dataclass(frozen=True)
class Limits:
    """What a reply may hold at most."""

    patches: int = 1_000_000_000
    """Most patches that one site can have trained with in one round, all districts together."""
    header_bytes: int = 8_000_000
    statistics_bytes: int = 64_000_000
    largest_delta: float = 1e4
    """Largest magnitude of a weight's change: normalised networks live within a few units."""
    largest_sum: float = 2.0**53
    """Largest magnitude in a statistic, a count of voxels or a sum over them: beyond it a float64 counts no
    longer in ones. A million whole bodies in voxels of 1 mm have 5e14 voxels, with a mean SUV about 1."""


def spec_of(components: Components) -> Spec:
    """What the deltas of these components must look like: the floating-point tensors, nothing else.

    Integers (a batch norm's counter) are not averaged: a mean of counters means nothing.
    """
    return {
        name: {
            tensor: TensorSpec(array.shape, "float32")
            for tensor, array in tensors.items()
            if np.issubdtype(array.dtype, np.floating)
        }
        for name, tensors in components.items()
    }


def spec_bytes(spec: Spec) -> int:
    """Bytes of all tensors of the spec at full precision."""
    return sum(
        int(np.prod(tensor.shape, dtype=np.int64)) * np.dtype(tensor.dtype).itemsize
        for tensors in spec.values()
        for tensor in tensors.values()
    )
