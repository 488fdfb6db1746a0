"""Conversion of jobs and replies to parts and back, and of parts to Flower's records and back.

Deltas may travel as float16: each tensor is divided by its largest magnitude first, so that the error is
at most 2^-12 of that magnitude whatever the learning rate (plain float16 loses changes below 6e-8).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as safetensors_load
from safetensors.numpy import save as safetensors_save

from scantwin.federation.wire import (
    ARRAYS,
    HEADER,
    Components,
    Job,
    JobHeader,
    Parts,
    ReplyHeader,
    SiteReply,
    Statistics,
)

if TYPE_CHECKING:
    from flwr.app import RecordDict

Precision = Literal["float32", "float16"]
"""The type in which deltas travel."""

RECORD = "parts"
"""The name of the only record in our messages."""

STYPE = "scantwin.parts"
"""The name of our serialisation in Flower's arrays: Flower itself must never try to read them."""

_COMPONENT = "component/"
_STATISTIC = "statistics|"
_SCALES = "scales"

_Header = TypeVar("_Header", bound=BaseModel)


class PartsError(ValueError):
    """Parts that cannot be read; the text says why."""


def encode_job(job: Job) -> Parts:
    """A job as parts; components at full precision, so that every site has the same bits."""
    return _parts(job.header, pack(job.components, job.statistics))


def decode_job(parts: Parts) -> Job:
    """Parts as a job. Raises `PartsError`."""
    return Job(_read_header(parts, JobHeader), *_read_arrays(parts))


def encode_reply(reply: SiteReply, precision: Precision = "float16") -> Parts:
    """A reply as parts; deltas at the given precision."""
    return _parts(reply.header, pack(reply.deltas, reply.statistics, precision))


def decode_reply(parts: Parts) -> SiteReply:
    """Parts as a reply: well-formed, but not yet checked against anything. Raises `PartsError`."""
    return SiteReply(_read_header(parts, ReplyHeader), *_read_arrays(parts))


def with_header(parts: Parts, header: BaseModel) -> Parts:
    """The same parts with another header."""
    return {**parts, HEADER: _header_bytes(header)}


def reply_header(parts: Parts) -> ReplyHeader:
    """The header of a reply, without reading its arrays. Raises `PartsError`."""
    return _read_header(parts, ReplyHeader)


def pack(components: Components, statistics: Statistics, precision: Precision = "float32") -> bytes:
    """All arrays as one safetensors blob, empty without any array; `float16` is for components only."""
    arrays: dict[str, NDArray[Any]] = {
        f"{_COMPONENT}{name}|{tensor}": np.asarray(array, order="C")
        for name, tensors in sorted(components.items())
        for tensor, array in sorted(tensors.items())
    }
    if precision == "float16" and arrays:
        arrays = _halve(arrays)
    for name, array in sorted(statistics.items()):
        arrays[_STATISTIC + name] = np.asarray(array, np.float64, order="C")
    return bytes(safetensors_save(arrays)) if arrays else b""


def unpack(content: bytes) -> tuple[Components, Statistics]:
    """The arrays that `pack` packed, float16 converted back to float32. Raises `PartsError`."""
    try:
        arrays: dict[str, NDArray[Any]] = dict(safetensors_load(content))
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise PartsError(f"its arrays are not safetensors ({type(error).__name__})") from None
    scales = arrays.pop(_SCALES, None)
    if scales is not None:
        arrays.update(_double(arrays, scales))
    components: Components = {}
    statistics: Statistics = {}
    for name, array in arrays.items():
        if name.startswith(_STATISTIC):
            statistics[name.removeprefix(_STATISTIC)] = array
            continue
        component, bar, tensor = name.removeprefix(_COMPONENT).partition("|")
        if not (name.startswith(_COMPONENT) and bar):
            raise PartsError(f"it has an array that nobody asked for: {name[:120]!r}")
        components.setdefault(component, {})[tensor] = array
    return components, statistics


def to_record(parts: Parts) -> RecordDict:
    """Parts as the content of a Flower message."""
    from flwr.app import Array, ArrayRecord, RecordDict

    return RecordDict(
        {
            RECORD: ArrayRecord(
                {
                    name: Array(dtype="uint8", shape=(len(content),), stype=STYPE, data=content)
                    for name, content in parts.items()
                }
            )
        }
    )


def from_record(record: RecordDict) -> Parts:
    """The parts of a Flower message. Raises `PartsError` on any other content."""
    try:
        arrays = record.array_records[RECORD]
    except KeyError:
        raise PartsError("it has no parts") from None
    if any(array.stype != STYPE for array in arrays.values()):
        raise PartsError("its parts are of an unknown kind")
    return {name: array.data for name, array in arrays.items()}


def _header_bytes(header: BaseModel) -> bytes:
    # Pydantic's own dump would write an infinity as null; a header never holds one, so refuse it here.
    return json.dumps(header.model_dump(mode="json"), allow_nan=False, separators=(",", ":")).encode()


def _read_header(parts: Parts, kind: type[_Header]) -> _Header:
    try:
        return kind.model_validate_json(parts[HEADER])
    except KeyError:
        raise PartsError("it has no header") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = "/".join(str(part) for part in first["loc"])[:120]
        raise PartsError(f"its header is not usable: {where}: {first['msg']}") from None


def _parts(header: BaseModel, arrays: bytes) -> Parts:
    return {HEADER: _header_bytes(header)} | ({ARRAYS: arrays} if arrays else {})


def _read_arrays(parts: Parts) -> tuple[Components, Statistics]:
    foreign = sorted(set(parts) - {HEADER, ARRAYS})
    if foreign:
        raise PartsError(f"it has a part that nobody asked for: {foreign[0][:120]!r}")
    return unpack(parts[ARRAYS]) if ARRAYS in parts else ({}, {})


def _halve(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """float32 arrays as float16, each divided by its largest magnitude, and the divisors with them."""
    scales = np.ones(len(arrays), np.float32)
    halves: dict[str, NDArray[Any]] = {}
    for position, name in enumerate(sorted(arrays)):
        array = arrays[name].astype(np.float32)
        largest = float(np.max(np.abs(array), initial=0.0))
        if largest > 0:
            scales[position] = largest
        # asarray: the quotient of a 0-d array is a scalar, which has no bytes to save.
        halves[name] = np.asarray(array / scales[position], np.float16)
    return {**halves, _SCALES: scales}


def _double(arrays: dict[str, NDArray[Any]], scales: NDArray[Any]) -> dict[str, NDArray[Any]]:
    names = sorted(name for name, array in arrays.items() if array.dtype == np.float16)
    if scales.shape != (len(names),) or scales.dtype != np.float32:
        raise PartsError("its scales do not match its arrays")
    # A hostile site's scale may overflow: validation refuses what is not finite.
    with np.errstate(over="ignore", invalid="ignore"):
        return {
            name: np.asarray(arrays[name].astype(np.float32) * scale)
            for name, scale in zip(names, scales, strict=True)
        }
