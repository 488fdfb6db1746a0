import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Format(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FORMAT_UNSPECIFIED: _ClassVar[Format]
    FORMAT_NIFTI: _ClassVar[Format]
    FORMAT_DICOM_ZIP: _ClassVar[Format]

class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATUS_UNSPECIFIED: _ClassVar[Status]
    STATUS_QUEUED: _ClassVar[Status]
    STATUS_RUNNING: _ClassVar[Status]
    STATUS_DONE: _ClassVar[Status]
    STATUS_FAILED: _ClassVar[Status]
    STATUS_CANCELLED: _ClassVar[Status]
FORMAT_UNSPECIFIED: Format
FORMAT_NIFTI: Format
FORMAT_DICOM_ZIP: Format
STATUS_UNSPECIFIED: Status
STATUS_QUEUED: Status
STATUS_RUNNING: Status
STATUS_DONE: Status
STATUS_FAILED: Status
STATUS_CANCELLED: Status

class ScanMetadata(_message.Message):
    __slots__ = ("twin", "model", "seed", "file_name", "size", "sha256", "format", "idempotency_key")
    TWIN_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    FILE_NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    twin: str
    model: str
    seed: int
    file_name: str
    size: int
    sha256: str
    format: Format
    idempotency_key: str
    def __init__(self, twin: _Optional[str] = ..., model: _Optional[str] = ..., seed: _Optional[int] = ..., file_name: _Optional[str] = ..., size: _Optional[int] = ..., sha256: _Optional[str] = ..., format: _Optional[_Union[Format, str]] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class SubmitScanRequest(_message.Message):
    __slots__ = ("metadata", "chunk")
    METADATA_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    metadata: ScanMetadata
    chunk: bytes
    def __init__(self, metadata: _Optional[_Union[ScanMetadata, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class ResultFile(_message.Message):
    __slots__ = ("name", "kind", "size", "sha256")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    size: int
    sha256: str
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., size: _Optional[int] = ..., sha256: _Optional[str] = ...) -> None: ...

class Triage(_message.Message):
    __slots__ = ("answer", "reasons")
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    answer: str
    reasons: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, answer: _Optional[str] = ..., reasons: _Optional[_Iterable[str]] = ...) -> None: ...

class ErrorDetail(_message.Message):
    __slots__ = ("code", "message", "hint", "bad_input")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    BAD_INPUT_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    hint: str
    bad_input: bool
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., hint: _Optional[str] = ..., bad_input: _Optional[bool] = ...) -> None: ...

class Scan(_message.Message):
    __slots__ = ("id", "twin", "model", "seed", "status", "progress", "stage", "created", "started", "finished", "error", "results", "seconds", "districts", "warnings", "triage", "confidence", "notice")
    class SecondsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class DistrictsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    TWIN_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    DISTRICTS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    TRIAGE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    id: str
    twin: str
    model: str
    seed: int
    status: Status
    progress: float
    stage: str
    created: _timestamp_pb2.Timestamp
    started: _timestamp_pb2.Timestamp
    finished: _timestamp_pb2.Timestamp
    error: ErrorDetail
    results: _containers.RepeatedCompositeFieldContainer[ResultFile]
    seconds: _containers.ScalarMap[str, float]
    districts: _containers.ScalarMap[str, int]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    triage: Triage
    confidence: float
    notice: str
    def __init__(self, id: _Optional[str] = ..., twin: _Optional[str] = ..., model: _Optional[str] = ..., seed: _Optional[int] = ..., status: _Optional[_Union[Status, str]] = ..., progress: _Optional[float] = ..., stage: _Optional[str] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., started: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., finished: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., error: _Optional[_Union[ErrorDetail, _Mapping]] = ..., results: _Optional[_Iterable[_Union[ResultFile, _Mapping]]] = ..., seconds: _Optional[_Mapping[str, float]] = ..., districts: _Optional[_Mapping[str, int]] = ..., warnings: _Optional[_Iterable[str]] = ..., triage: _Optional[_Union[Triage, _Mapping]] = ..., confidence: _Optional[float] = ..., notice: _Optional[str] = ...) -> None: ...

class WatchScanRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ScanEvent(_message.Message):
    __slots__ = ("id", "status", "progress", "stage", "error", "notice")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    id: str
    status: Status
    progress: float
    stage: str
    error: ErrorDetail
    notice: str
    def __init__(self, id: _Optional[str] = ..., status: _Optional[_Union[Status, str]] = ..., progress: _Optional[float] = ..., stage: _Optional[str] = ..., error: _Optional[_Union[ErrorDetail, _Mapping]] = ..., notice: _Optional[str] = ...) -> None: ...

class GetScanRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ListScansRequest(_message.Message):
    __slots__ = ("twin", "status", "limit", "offset")
    TWIN_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    twin: str
    status: Status
    limit: int
    offset: int
    def __init__(self, twin: _Optional[str] = ..., status: _Optional[_Union[Status, str]] = ..., limit: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class ListScansResponse(_message.Message):
    __slots__ = ("scans", "more", "notice")
    SCANS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    scans: _containers.RepeatedCompositeFieldContainer[Scan]
    more: bool
    notice: str
    def __init__(self, scans: _Optional[_Iterable[_Union[Scan, _Mapping]]] = ..., more: _Optional[bool] = ..., notice: _Optional[str] = ...) -> None: ...

class CancelScanRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Model(_message.Message):
    __slots__ = ("version", "name", "system", "created", "size")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    version: str
    name: str
    system: str
    created: _timestamp_pb2.Timestamp
    size: int
    def __init__(self, version: _Optional[str] = ..., name: _Optional[str] = ..., system: _Optional[str] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., size: _Optional[int] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "notice")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    notice: str
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., notice: _Optional[str] = ...) -> None: ...

class FetchResultRequest(_message.Message):
    __slots__ = ("id", "name")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class ResultHead(_message.Message):
    __slots__ = ("file", "notice")
    FILE_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    file: ResultFile
    notice: str
    def __init__(self, file: _Optional[_Union[ResultFile, _Mapping]] = ..., notice: _Optional[str] = ...) -> None: ...

class FetchResultResponse(_message.Message):
    __slots__ = ("head", "chunk")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    head: ResultHead
    chunk: bytes
    def __init__(self, head: _Optional[_Union[ResultHead, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class Twin(_message.Message):
    __slots__ = ("pseudonym", "created", "note", "scans", "notice")
    PSEUDONYM_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    SCANS_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    pseudonym: str
    created: _timestamp_pb2.Timestamp
    note: str
    scans: int
    notice: str
    def __init__(self, pseudonym: _Optional[str] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., note: _Optional[str] = ..., scans: _Optional[int] = ..., notice: _Optional[str] = ...) -> None: ...

class GetTwinRequest(_message.Message):
    __slots__ = ("pseudonym",)
    PSEUDONYM_FIELD_NUMBER: _ClassVar[int]
    pseudonym: str
    def __init__(self, pseudonym: _Optional[str] = ...) -> None: ...

class ListTwinsRequest(_message.Message):
    __slots__ = ("limit", "offset")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    limit: int
    offset: int
    def __init__(self, limit: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class ListTwinsResponse(_message.Message):
    __slots__ = ("twins", "more", "notice")
    TWINS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    twins: _containers.RepeatedCompositeFieldContainer[Twin]
    more: bool
    notice: str
    def __init__(self, twins: _Optional[_Iterable[_Union[Twin, _Mapping]]] = ..., more: _Optional[bool] = ..., notice: _Optional[str] = ...) -> None: ...

class DeleteTwinRequest(_message.Message):
    __slots__ = ("pseudonym",)
    PSEUDONYM_FIELD_NUMBER: _ClassVar[int]
    pseudonym: str
    def __init__(self, pseudonym: _Optional[str] = ...) -> None: ...

class DeleteTwinResponse(_message.Message):
    __slots__ = ("pseudonym", "scans", "size", "notice")
    PSEUDONYM_FIELD_NUMBER: _ClassVar[int]
    SCANS_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    pseudonym: str
    scans: int
    size: int
    notice: str
    def __init__(self, pseudonym: _Optional[str] = ..., scans: _Optional[int] = ..., size: _Optional[int] = ..., notice: _Optional[str] = ...) -> None: ...
