"""Sends DICOM files to a PACS: C-STORE as a service class user (PS3.4 B, PS3.8)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydicom import Dataset, dcmread
from pydicom.uid import ImplicitVRLittleEndian

from scantwin import NOTICE
from scantwin.errors import InputError, Rejection, ServiceError
from scantwin.imaging.dicom_files import FileRef, files_under, is_zip, may_be_dicom, zip_members
from scantwin.imaging.dicom_headers import opened, reading
from scantwin.terminal import Advance, silent

if TYPE_CHECKING:
    from pynetdicom.association import Association

CALLING_AE: Final = "SCANTWIN"
TIMEOUT_S: Final = 30.0
"""How long a PACS may be silent [s]: when connecting, when associating, after each file."""
MAX_CONTEXTS: Final = 128
"""Largest number of presentation contexts in one association (PS3.8 9.3.2: odd numbers from 1 to 255)."""

_AE: Final = re.compile(r"(?=.*\S)[ !-\[\]-~]{1,16}")
"""1 to 16 printable characters without the backslash, not only spaces (PS3.5, VR AE)."""
_KIND: Final = ("SOPClassUID", "SOPInstanceUID")


@dataclass
class StoreReport:
    """What became of the files."""

    host: str
    port: int
    called_ae: str
    calling_ae: str
    sent: int = 0
    bytes: int = 0
    seconds: float = 0.0
    failed: list[dict[str, str]] = field(default_factory=list)
    """{"file", "why"} of each file that the other side has not stored."""
    warned: int = 0
    """Files that the other side stored with a warning, for example with elements changed."""

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {**vars(self), "seconds": round(self.seconds, 3), "notice": NOTICE}


def store(
    files: Iterable[Path], host: str, port: int, called_ae: str, calling_ae: str = CALLING_AE, *,
    timeout_s: float = TIMEOUT_S, advance: Advance = silent,
) -> StoreReport:  # fmt: skip
    """Sends DICOM files, folders and zips of them to `called_ae` at `host:port`, in one association.

    Nothing changes on the way except the transfer syntax, among the uncompressed ones. A refused file goes
    into the report, the others are still sent. Raises `InputError` if there is nothing to send or an AE title
    is invalid, `ServiceError` if nobody answers, the association is refused or breaks off.
    """
    for title in (called_ae, calling_ae):
        check_ae(title)
    report = StoreReport(host, port, called_ae, calling_ae)
    refs = _found(files, report)
    kinds = _kinds(refs, report)
    if not kinds:
        why = f": {report.failed[0]['why']}" if report.failed else "."
        raise InputError(
            f"There is no DICOM file to send{why}", hint="Point to a DICOM series or a file of it."
        )
    began = time.monotonic()
    association = _associate(report, set(kinds.values()), timeout_s)
    try:
        for done, ref in enumerate(kinds):
            advance(done, len(kinds))
            _send(association, ref, report)
        advance(len(kinds), len(kinds))
    finally:
        if association.is_established:
            association.release()
    report.seconds = time.monotonic() - began
    return report


def check_ae(title: str) -> str:
    """The title, if it is a valid one."""
    if not _AE.fullmatch(title):
        raise InputError(
            f"{title!r} cannot be an AE title.", hint="1 to 16 letters, digits or signs, no backslash."
        )
    return title


def _found(files: Iterable[Path], report: StoreReport) -> list[FileRef]:
    """The files, including those in zips; zips that cannot be read go into the report."""
    refs: list[FileRef] = []
    for path in files:
        if not path.exists():
            raise InputError(f"There is no such file or folder: {path}.", hint="Check the path.")
        for ref in files_under(path):
            try:
                refs += zip_members(ref.path) if is_zip(ref.path) else [ref]
            except Rejection as refusal:
                report.failed.append({"file": ref.shown, "why": refusal.message})
    return refs


def _kinds(refs: Sequence[FileRef], report: StoreReport) -> dict[FileRef, tuple[str, str]]:
    """SOP class and transfer syntax of each DICOM file; damaged ones go into the report."""
    kinds: dict[FileRef, tuple[str, str]] = {}
    for ref in refs:
        try:
            with reading(ref):
                if not may_be_dicom(ref):
                    continue
                with opened(ref) as stream:
                    head = dcmread(stream, specific_tags=list(_KIND), stop_before_pixels=True, force=True)
                if not all(head.get(name) for name in _KIND):
                    report.failed.append({"file": ref.shown, "why": "It has no SOP class or instance."})
                    continue
                kinds[ref] = (str(head.SOPClassUID), _syntax(head))
        except Rejection as refusal:
            report.failed.append({"file": ref.shown, "why": refusal.message})
    return kinds


def _syntax(head: Dataset) -> str:
    """The transfer syntax; an old file without meta information is implicit VR little endian."""
    meta = getattr(head, "file_meta", None)
    return str((meta.get("TransferSyntaxUID") if meta is not None else "") or ImplicitVRLittleEndian)


def _associate(report: StoreReport, kinds: set[tuple[str, str]], timeout_s: float) -> Association:
    from pynetdicom import AE, evt

    if len(kinds) > MAX_CONTEXTS:
        raise InputError(
            f"These files are of {len(kinds)} kinds, one association takes {MAX_CONTEXTS}.",
            hint="Send them in parts.",
        )
    ae = AE(report.calling_ae)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = timeout_s
    for sop_class, syntax in sorted(kinds):
        ae.add_requested_context(sop_class, syntax)
    opened: list[object] = []
    association = ae.associate(
        report.host, report.port, ae_title=report.called_ae,
        evt_handlers=[(evt.EVT_CONN_OPEN, opened.append)],
    )  # fmt: skip
    if association.is_established:
        return association
    raise _refused(report, association, answered=bool(opened))


def _refused(report: StoreReport, association: Association, *, answered: bool) -> ServiceError:
    """Why there is no association, in one sentence."""
    where = f"{report.host}:{report.port}"
    if not answered:
        return ServiceError(f"Nothing answers at {where}.", hint="Check the address and that it is running.")
    if association.rejected_contexts:
        return ServiceError(
            f"{report.called_ae} at {where} takes none of these kinds of objects.",
            hint="Ask its administrator to allow storage of them.",
        )
    primitive = association.acceptor.primitive
    if association.is_rejected and primitive is not None:
        source, reason = primitive.result_source, primitive.diagnostic
        if (source, reason) == (1, 7):
            return ServiceError(
                f"{where} does not know the AE title {report.called_ae}.", hint="Check --ae with its manual."
            )
        if (source, reason) == (1, 3):
            return ServiceError(
                f"{report.called_ae} at {where} does not know the sender {report.calling_ae}.",
                hint="Have this AE title entered there, or give another one with --calling-ae.",
            )
        return ServiceError(
            f"{report.called_ae} at {where} refused the association: {primitive.reason_str}.",
            hint="Try again later, or ask its administrator.",
        )
    return ServiceError(f"{where} broke the association off.", hint="Check that a DICOM node listens there.")


def _send(association: Association, ref: FileRef, report: StoreReport) -> None:
    if not association.is_established:
        raise ServiceError(
            f"{report.called_ae} at {report.host}:{report.port} broke off after {report.sent} files.",
            hint="Send again: what it has already is taken as the same.",
        )
    try:
        with reading(ref), opened(ref) as stream:
            dataset = dcmread(stream, force=True)
            if "TransferSyntaxUID" not in dataset.file_meta:
                dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    except Rejection as refusal:
        report.failed.append({"file": ref.shown, "why": refusal.message})
        return
    try:
        status = association.send_c_store(dataset).get("Status")
    except (ValueError, AttributeError, RuntimeError) as error:
        why = "Its kind or transfer syntax is not taken there." if isinstance(error, ValueError) else ""
        report.failed.append({"file": ref.shown, "why": why or "It could not be encoded or sent."})
        return
    if status is None:
        report.failed.append({"file": ref.shown, "why": "No answer came."})
    elif status == 0 or 0xB000 <= status <= 0xBFFF:  # success, or stored with a warning (PS3.4 B.2.3)
        report.sent += 1
        report.warned += status != 0
        report.bytes += ref.size
    else:
        report.failed.append({"file": ref.shown, "why": f"The other side refused it, status {status:#06x}."})
