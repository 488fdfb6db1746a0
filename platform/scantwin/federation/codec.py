"""Jobs and replies to parts and back, and parts to Flower's records and back.

Deltas may travel as float16: each tensor is divided by its largest magnitude first, so that the error is
at most 2^-12 of that magnitude whatever the learning rate (plain float16 loses changes below 6e-8).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as safetensors_load
from safetensors.numpy import save as safetensors_save

from scantwin.federation.wire import (
    COMPONENT_PREFIX,
    HEADER,
    STATISTICS,
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
"""How deltas travel."""

RECORD = "parts"
"""The one record of our messages."""

STYPE = "scantwin.parts"
"""How Flower's arrays name our serialisation: Flower itself must never try to read them."""

_SCALES = "//scales"  # two slashes: no tensor of a network is called so

_Header = TypeVar("_Header", bound=BaseModel)


class PartsError(ValueError):
    """Parts that cannot be read; the text says why."""


def encode_job(job: Job) -> Parts:
    """A job as parts; components at full precision, so that every site has the same bits."""
    return {
        HEADER: _header_bytes(job.header),
        **{
            COMPONENT_PREFIX + name: pack_tensors(tensors) for name, tensors in sorted(job.components.items())
        },
        **_statistics_part(job.statistics),
    }


def decode_job(parts: Parts) -> Job:
    """Parts as a job. Raises `PartsError`."""
    return Job(_read_header(parts, JobHeader), _read_components(parts), _read_statistics(parts))


def encode_reply(reply: SiteReply, precision: Precision = "float16") -> Parts:
    """A reply as parts; deltas at the given precision."""
    return {
        HEADER: _header_bytes(reply.header),
        **{
            COMPONENT_PREFIX + name: pack_tensors(tensors, precision)
            for name, tensors in sorted(reply.deltas.items())
        },
        **_statistics_part(reply.statistics),
    }


def decode_reply(parts: Parts) -> SiteReply:
    """Parts as a reply: well-formed, but not yet checked against anything. Raises `PartsError`."""
    return SiteReply(_read_header(parts, ReplyHeader), _read_components(parts), _read_statistics(parts))


def with_header(parts: Parts, header: BaseModel) -> Parts:
    """The same parts under another header."""
    return {**parts, HEADER: _header_bytes(header)}


def reply_header(parts: Parts) -> ReplyHeader:
    """The header of a reply, without reading its arrays. Raises `PartsError`."""
    return _read_header(parts, ReplyHeader)


def pack_tensors(tensors: Mapping[str, NDArray[Any]], precision: Precision = "float32") -> bytes:
    """Named arrays as safetensors bytes; `float16` only touches floating-point arrays."""
    names = sorted(tensors)
    if precision == "float32":
        return bytes(safetensors_save({name: np.ascontiguousarray(tensors[name]) for name in names}))
    scales = np.ones(len(names), np.float32)
    packed: dict[str, NDArray[Any]] = {}
    for position, name in enumerate(names):
        array = np.ascontiguousarray(tensors[name], dtype=np.float32)
        largest = float(np.max(np.abs(array), initial=0.0))
        if largest > 0:
            scales[position] = largest
        # The scale as it will be read back, so that both ends divide and multiply by the same number.
        packed[name] = (array / scales[position]).astype(np.float16)
    return bytes(safetensors_save({**packed, _SCALES: scales}))


def unpack_tensors(content: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of `pack_tensors`, float16 brought back to float32. Raises `PartsError`."""
    try:
        tensors = dict(safetensors_load(content))
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise PartsError(f"not readable as safetensors ({type(error).__name__})") from None
    scales = tensors.pop(_SCALES, None)
    if scales is None:
        return tensors
    if scales.shape != (len(tensors),) or scales.dtype != np.float32:
        raise PartsError("its scales do not match its tensors")
    return {
        name: tensors[name].astype(np.float32) * scales[position]
        for position, name in enumerate(sorted(tensors))
    }


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


def _read_components(parts: Parts) -> Components:
    components: Components = {}
    for part, content in parts.items():
        if part in (HEADER, STATISTICS):
            continue
        if not part.startswith(COMPONENT_PREFIX):
            raise PartsError(f"it has a part that nobody asked for: {part[:120]!r}")
        try:
            components[part.removeprefix(COMPONENT_PREFIX)] = unpack_tensors(content)
        except PartsError as error:
            raise PartsError(f"{part[:120]} is {error}") from None
    return components


def _statistics_part(statistics: Statistics) -> Parts:
    return {STATISTICS: pack_tensors(statistics)} if statistics else {}


def _read_statistics(parts: Parts) -> Statistics:
    if STATISTICS not in parts:
        return {}
    try:
        return unpack_tensors(parts[STATISTICS])
    except PartsError as error:
        raise PartsError(f"{STATISTICS} is {error}") from None
