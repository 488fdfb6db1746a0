"""Rows of the database as messages on the wire. Every message that carries a result carries the notice."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.timestamp_pb2 import Timestamp

from scantwin import NOTICE
from scantwin.store.models import ModelVersion
from scantwin_twin.jobs import ScanState, TwinState
from scantwin_twin.v1 import twin_pb2 as pb

STATUS: Final[dict[str, pb.Status]] = {
    "queued": pb.STATUS_QUEUED,
    "running": pb.STATUS_RUNNING,
    "done": pb.STATUS_DONE,
    "failed": pb.STATUS_FAILED,
    "cancelled": pb.STATUS_CANCELLED,
}
WORD: Final[dict[int, str]] = {int(number): word for word, number in STATUS.items()}
"""Status number -> its word."""


def scan(state: ScanState) -> pb.Scan:
    """A scan, with its results if it is done."""
    summary = state.summary
    message = pb.Scan(
        id=state.id, twin=state.twin, model=state.model, seed=int(state.request.get("seed", 0)),
        status=STATUS[state.status], progress=state.progress, stage=state.stage,
        created=moment(state.created), started=moment(state.started), finished=moment(state.finished),
        error=detail(state.error), notice=NOTICE,
    )  # fmt: skip
    if state.status == "done":
        message.results.extend(result(entry) for entry in summary.get("results", ()))
        message.seconds.update(summary.get("seconds", {}))
        message.districts.update(summary.get("districts", {}))
        message.confidence = summary.get("confidence", 0.0)
        message.warnings.extend(summary.get("warnings", ()))
        message.triage.CopyFrom(ParseDict(summary.get("triage", {}), pb.Triage()))
    return message


def event(state: ScanState) -> pb.ScanEvent:
    """The part of a scan that changes while it is watched."""
    return pb.ScanEvent(
        id=state.id, status=STATUS[state.status], progress=state.progress, stage=state.stage,
        error=detail(state.error), notice=NOTICE,
    )  # fmt: skip


def result(entry: dict[str, Any]) -> pb.ResultFile:
    """A file of a scan's results."""
    return pb.ResultFile(name=entry["name"], kind=entry["kind"], size=entry["size"], sha256=entry["sha256"])


def model(version: ModelVersion) -> pb.Model:
    """A model version of the registry."""
    return pb.Model(
        version=version.id, name=version.name, system=version.system, created=moment(version.created_at),
        size=version.size_bytes,
    )  # fmt: skip


def twin(state: TwinState) -> pb.Twin:
    """A twin."""
    return pb.Twin(
        pseudonym=state.pseudonym,
        created=moment(state.created),
        note=state.note,
        scans=state.scans,
        notice=NOTICE,
    )


def detail(error: dict[str, Any] | None) -> pb.ErrorDetail | None:
    """An error {code, message, hint, bad_input}, or None."""
    if not error:
        return None
    texts = {key: str(error.get(key, "")) for key in ("code", "message", "hint")}
    return pb.ErrorDetail(**texts, bad_input=bool(error.get("bad_input")))


def moment(when: datetime | None) -> Timestamp | None:
    """A time as a protobuf timestamp."""
    if when is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(when)
    return stamp


def plain(message: Any) -> dict[str, Any]:
    """A message as JSON for machines: statuses as words, integers as numbers."""
    shown: dict[str, Any] = _numbers(
        MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    )
    listed = shown.get("scans")  # a list of scans, or their number
    for part in (shown, *(listed if isinstance(listed, list) else ())):
        if "status" in part:
            part["status"] = part["status"].removeprefix("STATUS_").lower()
    return shown


def _numbers(value: Any, key: str = "") -> Any:
    """Turns the strings that protobuf's JSON has for 64-bit integers (sizes, voxel counts) into numbers."""
    if isinstance(value, list):
        return [_numbers(item, key) for item in value]
    if isinstance(value, dict):
        return {name: _numbers(item, name if key != "districts" else "size") for name, item in value.items()}
    return int(value) if key == "size" else value
