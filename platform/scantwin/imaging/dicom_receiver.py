"""Receives DICOM files from scanners and PACS: a C-STORE provider (PS3.4 B).

Files are stored under names made from digests: nothing a sender says becomes a path, and no path names a
patient. The node listens on the loopback address unless told otherwise: DICOM itself has no encryption and no
passwords, so a hospital's network may reach the node only once a person has decided so.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from pydicom import dcmread
from pydicom.uid import (
    JPEG2000,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedPETImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    PositronEmissionTomographyImageStorage,
    RLELossless,
    RTStructureSetStorage,
    SegmentationStorage,
)

from scantwin.errors import ResourceError, from_os_error
from scantwin.files import whole_file
from scantwin.imaging.dicom_headers import BROKEN, quiet
from scantwin.imaging.dicom_network import check_ae

if TYPE_CHECKING:
    from pynetdicom.events import Event

LOOPBACK: Final = "127.0.0.1"
MAX_OBJECT_BYTES: Final = 1 << 30
"""Largest object [bytes]: an enhanced whole-body CT is about half of it. It is held in memory until whole."""
MAX_ASSOCIATIONS: Final = 4
"""Largest number of senders at a time: together they hold at most that many objects in memory."""
FREE_BYTES: Final = 1 << 30
"""Disk space that is left free [bytes]."""
SILENCE_S: Final = 60.0
"""A sender that is silent for this long [s] loses its association."""

TAKEN: Final = (
    CTImageStorage, EnhancedCTImageStorage, PositronEmissionTomographyImageStorage, EnhancedPETImageStorage,
    SegmentationStorage, RTStructureSetStorage,
)  # fmt: skip
"""The kinds of objects that make up a study here."""
SYNTAXES: Final = (
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian,
    JPEGLSLossless, JPEG2000Lossless, JPEG2000, RLELossless, JPEGLosslessSV1,
)  # fmt: skip
"""What the reader can decode, preferred first. Not deflated: its inflated size is known too late."""

VERIFICATION: Final = "1.2.840.10008.1.1"
"""SOP class of C-ECHO, with which the administrator of a PACS tests the connection."""

_STORED: Final = 0x0000
_NO_ROOM: Final = 0xA700
_MISMATCH: Final = 0xA900
_NOT_UNDERSTOOD: Final = 0xC000
"""Status codes of C-STORE (PS3.4 table B.2-1)."""


class Receiver:
    """A storage node; use it as a context manager, or call `start` and `stop`."""

    def __init__(
        self, folder: Path | str, port: int = 0, ae: str = "SCANTWIN", *, host: str = LOOPBACK,
        max_object_bytes: int = MAX_OBJECT_BYTES,
    ) -> None:  # fmt: skip
        """`port` 0 takes a free one; `port` is that one once started. Senders must call the AE title `ae`."""
        self.folder = Path(folder)
        self.host, self.port, self.ae = host, port, check_ae(ae)
        self.max_object_bytes = max_object_bytes
        self.received = 0
        """Files that were stored; the same object sent again counts again."""
        self.bytes = 0
        self.refused = 0
        """Objects that were not taken: too large, damaged, no room."""
        self._lock = threading.Lock()
        self._arrived: dict[int, int] = {}
        self._server: Any = None

    def __enter__(self) -> Receiver:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts to listen. Raises `ResourceError` if the port is not available."""
        from pynetdicom import AE, evt

        node = AE(self.ae)
        node.require_called_aet = True
        node.maximum_associations = MAX_ASSOCIATIONS
        node.acse_timeout = node.dimse_timeout = node.network_timeout = SILENCE_S
        node.add_supported_context(VERIFICATION)
        for sop_class in TAKEN:
            node.add_supported_context(sop_class, list(SYNTAXES))
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._server = node.start_server(
                (self.host, self.port), block=False,
                evt_handlers=[
                    (evt.EVT_C_STORE, self._store), (evt.EVT_DATA_RECV, self._count),
                    (evt.EVT_DIMSE_RECV, self._whole), (evt.EVT_CONN_CLOSE, self._whole),
                ],
            )  # fmt: skip
        except OSError as error:
            reason = from_os_error(error)
            raise ResourceError(
                f"Cannot listen on {self.host}:{self.port}. {reason.message}", hint=reason.hint
            ) from None
        self.port = int(self._server.socket.getsockname()[1])

    def stop(self) -> None:
        """Ends all associations and releases the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def as_json(self) -> dict[str, Any]:
        """What it has done so far."""
        return {"folder": str(self.folder), "host": self.host, "port": self.port, "ae": self.ae,
                "received": self.received, "bytes": self.bytes, "refused": self.refused}  # fmt: skip

    def _count(self, event: Event) -> None:
        """Breaks off the association when an object grows beyond the limit, since it is held in memory."""
        with self._lock:
            size = self._arrived.get(id(event.assoc), 0) + len(event.data)
            over = self._arrived.get(id(event.assoc), 0) <= self.max_object_bytes < size
            self._arrived[id(event.assoc)] = size
            self.refused += over
        # An A-ABORT would wait behind what is still coming in; closing the connection works at once.
        if over and event.assoc.dul.socket is not None:
            event.assoc.dul.socket.close()

    def _whole(self, event: Event) -> None:
        with self._lock:
            self._arrived.pop(id(event.assoc), None)

    def _store(self, event: Event) -> int:
        status = self._keep(event)
        with self._lock:
            self.refused += status != _STORED
        return status

    def _keep(self, event: Event) -> int:
        """Writes one object, all of it or nothing; gives the status for its sender."""
        try:
            data = event.encoded_dataset()
            with quiet():
                head = dcmread(
                    io.BytesIO(data), stop_before_pixels=True,
                    specific_tags=["StudyInstanceUID", "SOPInstanceUID", "SOPClassUID"],
                )  # fmt: skip
                study, instance = (
                    str(head.get("StudyInstanceUID") or ""),
                    str(head.get("SOPInstanceUID") or ""),
                )
                kind = str(head.get("SOPClassUID") or "")
        except BROKEN:
            return _NOT_UNDERSTOOD
        if not study or not instance:
            return _NOT_UNDERSTOOD
        if kind not in TAKEN or kind != event.request.AffectedSOPClassUID:
            return _MISMATCH
        try:
            if shutil.disk_usage(self.folder).free < len(data) + FREE_BYTES:
                return _NO_ROOM
            place = self.folder / _digest(study)
            place.mkdir(mode=0o700, exist_ok=True)
            target = place / f"{_digest(instance)}.dcm"
            # The same object sent again leaves the file alone, so that it is not ingested a second time.
            if not (target.is_file() and target.read_bytes() == data):
                with whole_file(target) as aside:
                    aside.write_bytes(data)
        except OSError:
            return _NO_ROOM
        with self._lock:
            self.received += 1
            self.bytes += len(data)
        return _STORED


def _digest(uid: str) -> str:
    """32 hexadecimal digits: a name that no sender can choose."""
    return hashlib.sha256(uid.encode("utf-8", "surrogateescape")).hexdigest()[:32]
