"""The error catalogue: internal exception -> gRPC status + public message, and back again at the client.

A client sees the sentence and the hint of an error that a person is meant to read, and nothing of any
other error: an unforeseen exception becomes "internal", with an incident number to look up in the log.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc

from scantwin.errors import InputError, ResourceError, ScanTwinError, ServiceError, from_os_error
from scantwin_twin.v1 import twin_pb2 as pb

log = logging.getLogger(__name__)

DETAIL_KEY: Final = "scantwin-error-bin"
"""The trailing metadata that holds a serialised `ErrorDetail`."""

_Code = grpc.StatusCode


@dataclass(frozen=True)
class Refusal:
    """One reason why a call is refused."""

    status: grpc.StatusCode
    sentence: str
    """With {places} that `refuse` fills."""
    hint: str


REFUSALS: Final[dict[str, Refusal]] = {
    "no-metadata": Refusal(
        _Code.INVALID_ARGUMENT,
        "The first message of the upload holds no metadata.",
        "Send one ScanMetadata first, then the chunks.",
    ),
    "no-request": Refusal(
        _Code.INVALID_ARGUMENT, "The call ended before its message came.", "Send one message with the call."
    ),
    "metadata-twice": Refusal(
        _Code.INVALID_ARGUMENT,
        "The upload holds a second metadata message.",
        "Send metadata once, then chunks.",
    ),
    "bad-pseudonym": Refusal(
        _Code.INVALID_ARGUMENT,
        "The twin's pseudonym is empty, too long, or holds a character other than A-Z a-z 0-9 . _ -.",
        "Choose 1 to 64 of these characters; never a name or a hospital number.",
    ),
    "bad-format": Refusal(
        _Code.INVALID_ARGUMENT, "The format of the CT is not given.", "Say FORMAT_NIFTI or FORMAT_DICOM_ZIP."
    ),
    "bad-sha256": Refusal(
        _Code.INVALID_ARGUMENT,
        "The sha256 is not 64 hexadecimal digits.",
        "Give the sha256 of the whole file.",
    ),
    "bad-key": Refusal(
        _Code.INVALID_ARGUMENT, "The idempotency key is longer than 128 characters.", "Choose a shorter one."
    ),
    "empty-upload": Refusal(
        _Code.INVALID_ARGUMENT, "The declared size is 0 bytes.", "Give the size of the CT's file."
    ),
    "upload-too-large": Refusal(
        _Code.INVALID_ARGUMENT,
        "The CT is declared with {declared} bytes; this service takes {limit} at most.",
        "Send one series only, compressed, or raise --max-upload at the service.",
    ),
    "chunk-too-large": Refusal(
        _Code.INVALID_ARGUMENT, "A chunk has {size} bytes; {limit} is the limit.", "Send smaller chunks."
    ),
    "longer-than-declared": Refusal(
        _Code.INVALID_ARGUMENT,
        "More bytes came than the {declared} that were declared.",
        "Declare the file's size.",
    ),
    "truncated": Refusal(
        _Code.DATA_LOSS, "The upload ended after {received} of {declared} bytes.", "Send the file again."
    ),
    "wrong-sha256": Refusal(
        _Code.DATA_LOSS,
        "What arrived has another sha256 than was declared: the file changed on the way.",
        "Send the file again.",
    ),
    "not-a-nifti": Refusal(
        _Code.INVALID_ARGUMENT,
        "The upload is not a NIfTI image with three axes: {why}.",
        "Send a .nii or .nii.gz file.",
    ),
    "not-a-zip": Refusal(
        _Code.INVALID_ARGUMENT, "The upload is not a readable zip: {why}.", "Zip the folder of the CT series."
    ),
    "unpacks-too-large": Refusal(
        _Code.INVALID_ARGUMENT,
        "The upload unpacks to {unpacked}; this service takes {limit} at most.",
        "Send one CT series only.",
    ),
    "key-reused": Refusal(
        _Code.ALREADY_EXISTS,
        "The idempotency key was used before for another CT, model or seed.",
        "Use a new key for a new scan.",
    ),
    "unknown-model": Refusal(
        _Code.NOT_FOUND,
        "There is no model {model} in the registry.",
        "See ListModels, or `scantwin models list` at the service.",
    ),
    "unknown-service": Refusal(
        _Code.NOT_FOUND, "There is no service {name} here.", "Ask for the health of none by name."
    ),
    "unknown-status": Refusal(
        _Code.INVALID_ARGUMENT,
        "There is no status with the number {number}.",
        "Ask for one of {known}, or for none: that is all scans.",
    ),
    "unknown-scan": Refusal(_Code.NOT_FOUND, "There is no scan {id}.", "See `scantwin twin list`."),
    "unknown-twin": Refusal(_Code.NOT_FOUND, "There is no twin {pseudonym}.", "See ListTwins."),
    "unknown-result": Refusal(
        _Code.NOT_FOUND, "The scan {id} has no result {name}.", "Take one of the names in the scan's results."
    ),
    "scan-not-done": Refusal(
        _Code.FAILED_PRECONDITION,
        "The scan {id} is {status}: it has no results.",
        "Wait for it with `scantwin twin watch {id}`, or submit the CT again.",
    ),
    "result-changed": Refusal(
        _Code.DATA_LOSS, "The result {name} of the scan {id} was changed or removed.", "Submit the CT again."
    ),
    "queue-full": Refusal(
        _Code.RESOURCE_EXHAUSTED, "{waiting} scans are waiting already.", "Try again when some are done."
    ),
    "too-many-streams": Refusal(
        _Code.RESOURCE_EXHAUSTED, "Too many {what} at once; {limit} is the limit.", "Try again in a moment."
    ),
    "disk-full": Refusal(
        _Code.RESOURCE_EXHAUSTED,
        "The service's disk has {free} left and the scan needs about {needed}.",
        "Free some space at the service.",
    ),
    "no-token": Refusal(
        _Code.UNAUTHENTICATED,
        "This service asks for a token, and the call has none or another.",
        "Set SCANTWIN_TWIN_TOKEN or give --token-file.",
    ),
    "still-running": Refusal(
        _Code.UNAVAILABLE,
        "A scan of the twin {pseudonym} is still being ended; nothing was deleted.",
        "Delete the twin again in a moment.",
    ),
    "still-sending": Refusal(
        _Code.UNAVAILABLE,
        "Somebody keeps sending CTs of the twin {pseudonym}; it is not deleted.",
        "Stop who sends them, then delete the twin again.",
    ),
    "stopping": Refusal(
        _Code.UNAVAILABLE,
        "The service is stopping; the scan {id} goes on when it is started again.",
        "Watch it again later.",
    ),
}

_BY_CLASS: Final[tuple[tuple[type[ScanTwinError], grpc.StatusCode], ...]] = (
    (InputError, _Code.INVALID_ARGUMENT),
    (ResourceError, _Code.RESOURCE_EXHAUSTED),
    (ServiceError, _Code.UNAVAILABLE),
)

_INPUT_STATUS: Final = frozenset(
    {
        _Code.INVALID_ARGUMENT,
        _Code.NOT_FOUND,
        _Code.ALREADY_EXISTS,
        _Code.FAILED_PRECONDITION,
        _Code.OUT_OF_RANGE,
    }
)
"""Statuses of bad input, which a client shows with exit code 2; all others are failures, exit 1."""


class Refused(ScanTwinError):
    """A call that the service refuses; `code` is a key of `REFUSALS`."""


def refuse(code: str, **places: object) -> Refused:
    """The error of the catalogue under `code`, its {places} filled."""
    entry = REFUSALS[code]
    return Refused(entry.sentence.format(**places), hint=entry.hint.format(**places), code=code)


def public(error: BaseException) -> tuple[grpc.StatusCode, pb.ErrorDetail]:
    """What a client may know about `error`: a gRPC status, and code, sentence and hint."""
    if isinstance(error, OSError):
        error = _without_path(error)
    for kind, status in _BY_CLASS:
        if isinstance(error, kind):
            return status, _detail(error, status)
    if isinstance(error, Refused):
        status = REFUSALS[error.code].status
        return status, _detail(error, status)
    incident = secrets.token_hex(4)
    log.error("incident %s", incident, exc_info=error)
    hint = f"Ask who runs the service to look for incident {incident} in its log."
    return _Code.INTERNAL, pb.ErrorDetail(
        code="internal", message="The service failed on this call.", hint=hint
    )


def abort(context: Any, error: BaseException) -> None:
    """Ends the call with the public part of `error`. Always raises (gRPC's own way of ending a call)."""
    status, detail = public(error)
    context.set_trailing_metadata(((DETAIL_KEY, detail.SerializeToString()),))
    context.abort(status, detail.message)


@contextmanager
def answered(context: Any) -> Iterator[None]:
    """Wraps a call: what it raises becomes the call's status."""
    try:
        yield
    except grpc.RpcError:
        # From the iterator of the client's messages: the client is gone, or the call was cancelled.
        log.info("a call of %s ended early", context.peer())
        raise
    except Exception as error:
        abort(context, error)


def from_detail(detail: pb.ErrorDetail) -> ScanTwinError:
    """On the client's side: our error with this detail."""
    kind = InputError if detail.bad_input else ServiceError
    return kind(detail.message, hint=detail.hint, code=detail.code)


def from_rpc(error: Any, address: str) -> ScanTwinError:
    """On the client's side: our error for a failed call."""
    detail = pb.ErrorDetail()
    for key, value in error.trailing_metadata() or ():
        if key == DETAIL_KEY:
            detail.ParseFromString(value)
    status = error.code()
    if detail.code:
        return from_detail(detail)
    sentence, hint = _WITHOUT_DETAIL.get(
        status, ("The twin service at {address} ended the call: {why}.", "See the service's log.")
    )
    why = str(error.details() or status.name).rstrip(".")
    return ServiceError(sentence.format(address=address, why=why), hint=hint, code=status.name.lower())


_WITHOUT_DETAIL: Final[dict[grpc.StatusCode, tuple[str, str]]] = {
    _Code.UNAVAILABLE: (
        "No twin service answers at {address}.",
        "Start one with `scantwin twin serve`, or check --address, --ca and the network.",
    ),
    _Code.DEADLINE_EXCEEDED: (
        "The twin service at {address} did not answer in time.",
        "Give it longer or try again.",
    ),
    _Code.CANCELLED: ("The call to the twin service at {address} was cancelled.", "Send it again."),
    _Code.RESOURCE_EXHAUSTED: ("The twin service at {address} is busy: {why}.", "Try again in a moment."),
}


def _detail(error: ScanTwinError, status: grpc.StatusCode) -> pb.ErrorDetail:
    bad = status in _INPUT_STATUS
    return pb.ErrorDetail(code=error.code, message=error.message, hint=error.hint, bad_input=bad)


def _without_path(error: OSError) -> ScanTwinError:
    """The sentence of a system error, without the service's own paths."""
    log.error("system error", exc_info=error)
    bare = from_os_error(OSError(error.errno, error.strerror))
    return ResourceError(bare.message, hint="Ask who runs the service to look at its log.", code="system")
