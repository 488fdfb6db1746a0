"""Every reply is checked before it is aggregated: one that no honest site can have sent is left out.

Only gross errors are caught. Well-formed, finite weights that are wrong are not told from right ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scantwin.federation.codec import PartsError, decode_reply
from scantwin.federation.layouts import Layout, never_negative
from scantwin.federation.wire import (
    ARRAYS,
    HEADER,
    Limits,
    Parts,
    Phase,
    SiteReply,
    Spec,
    Statistics,
    spec_bytes,
)

_OVERHEAD = 1.1  # names, shapes and alignment of safetensors, as a share of the tensors
_SLACK = 1_000_000


class RefusalError(ValueError):
    """A reply that is left out; the text says why, in words for the site's physicist."""


@dataclass(frozen=True)
class Expected:
    """What was asked of the site."""

    run: str
    round: int
    phase: Phase
    site: str
    spec: Spec
    layout: Layout = field(default_factory=dict)
    """The layout of its statistics."""


def read_reply(parts: Parts, expected: Expected, limits: Limits | None = None) -> SiteReply:
    """The reply in `parts`, if all of it is as it must be. Raises `RefusalError` otherwise."""
    limits = limits or Limits()
    _check_sizes(parts, expected.spec, limits)
    try:
        reply = decode_reply(parts)
    except PartsError as error:
        raise RefusalError(f"The reply cannot be read: {error}.") from None
    _check_header(reply, expected)
    _check_deltas(reply, expected, limits)
    _check_metrics(reply.header.metrics)
    for sample in reply.header.calibration:
        if not sample.may_leave:
            raise RefusalError(f"Too little is behind the calibration sample {sample.id} ({sample.n}).")
    _check_statistics(reply.statistics, expected.layout, limits)
    return reply


def _check_sizes(parts: Parts, spec: Spec, limits: Limits) -> None:
    """Checks, before anything is parsed, that no part is larger than a valid one could be."""
    arrays = int(spec_bytes(spec) * _OVERHEAD) + limits.statistics_bytes + _SLACK
    bounds = {HEADER: limits.header_bytes, ARRAYS: arrays}
    for name, content in parts.items():
        bound = bounds.get(name, 0)
        if len(content) > bound:
            raise RefusalError(
                f"The part {name[:120]!r} is larger than it can be ({len(content)} > {bound} bytes)."
            )


def _check_header(reply: SiteReply, expected: Expected) -> None:
    header = reply.header
    for what, got, wanted in (
        ("run", header.run, expected.run),
        ("round", header.round, expected.round),
        ("phase", header.phase, expected.phase),
        ("site", header.site, expected.site),
    ):
        if got != wanted:
            raise RefusalError(f"The reply names another {what}: {got} instead of {wanted}.")


def _check_deltas(reply: SiteReply, expected: Expected, limits: Limits) -> None:
    if expected.phase == "final" and reply.deltas:
        raise RefusalError("The final exchange only measures, but the reply changes weights.")
    if expected.phase == "train" and not reply.deltas:
        raise RefusalError("The reply changes no weights: the site trained nothing.")
    if set(reply.header.patches) != set(reply.deltas):
        raise RefusalError("The reply does not say for each component how many patches are behind it.")
    for component, tensors in reply.deltas.items():
        wanted = expected.spec.get(component)
        if wanted is None:
            raise RefusalError(f"The model has no component {component[:120]!r}.")
        if set(tensors) != set(wanted):
            raise RefusalError(f"{component} does not have exactly the tensors of the model.")
        for name, array in tensors.items():
            if array.shape != wanted[name].shape:
                raise RefusalError(
                    f"{component}: {name} has the shape {array.shape}, not {wanted[name].shape}."
                )
            if str(array.dtype) != wanted[name].dtype:
                raise RefusalError(f"{component}: {name} is {array.dtype}, not {wanted[name].dtype}.")
            _check_numbers(array, f"{component}: {name}", limits.largest_delta)
    _check_patches(reply.header.patches, limits)


def _check_patches(patches: Mapping[str, int], limits: Limits) -> None:
    """Checks what the districts claim together: a step trains the components of one district."""
    claimed: dict[str, int] = {}
    for component, count in patches.items():
        district = component.split("/")[1]
        claimed[district] = max(count, claimed.get(district, 0))
    total = sum(claimed.values())
    if total > limits.patches:
        raise RefusalError(f"The reply claims {total} patches; a round has {limits.patches} at most.")


def _check_metrics(metrics: Mapping[str, float]) -> None:
    """Refuses sums that no values have, and incomplete ones: both would spoil the means over all sites."""
    for stem in {name.rpartition("/")[0] for name in metrics}:
        total, squares, count = (metrics.get(f"{stem}/{part}") for part in ("sum", "sumsq", "n"))
        if total is None or squares is None or count is None:
            raise RefusalError(f"The measure {stem!r} lacks its sum, its sumsq or its n.")
        if count < 0 or count != int(count):
            raise RefusalError(f"The measure {stem!r} is of {count:g} patients.")
        # Cauchy-Schwarz; a site's own rounding is far below the tolerance.
        if squares < 0 or total * total > count * squares * (1 + 1e-6) + 1e-9:
            raise RefusalError(f"No values have the sum and the sumsq of the measure {stem!r}.")


def _check_statistics(statistics: Statistics, layout: Layout, limits: Limits) -> None:
    """Refuses sums of another layout, which cannot be added to those of other sites, and impossible ones.

    A single negative or enormous count would bend the references, or the error bar of every scan.
    """
    if odd := sorted(set(statistics) ^ set(layout)):
        what = "is missing" if odd[0] in layout else "was not asked for"
        raise RefusalError(f"The statistic {odd[0][:120]!r} {what}: the site may run another ScanTwin.")
    for name, array in statistics.items():
        if array.shape != layout[name]:
            raise RefusalError(f"The statistic {name!r} has the shape {array.shape}, not {layout[name]}.")
        if array.dtype != np.float64:
            raise RefusalError(f"The statistic {name!r} is {array.dtype}, not float64.")
        _check_numbers(array, f"the statistic {name!r}", limits.largest_sum)
        if (never_negative(name, array) < 0).any():
            raise RefusalError(f"The statistic {name!r} holds a negative count or sum.")


def _check_numbers(array: NDArray[Any], what: str, largest: float) -> None:
    if not np.isfinite(array).all():
        raise RefusalError(f"Not all numbers of {what} are finite.")
    if array.size and float(np.max(np.abs(array))) > largest:
        raise RefusalError(f"{what} holds a number beyond {largest:g}.")
