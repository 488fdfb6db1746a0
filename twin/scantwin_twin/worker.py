"""The child process that computes scans: work arrives and reports leave as JSON lines.

    <- {"scan", "ct", "model", "version", "seed", "out"}
    -> {"progress": 0..1, "stage"} ... then {"done": summary} or {"failed": {code, message, hint, bad_input}}

It ends when its input ends, so it never outlives the service.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from scantwin.errors import InputError, Rejection, ScanTwinError, from_os_error, short_of_memory
from scantwin.learning.machine import between_jobs

if TYPE_CHECKING:
    from scantwin.learning.weights import Model
    from scantwin.translation.virtual_scanner import VirtualScanner

_READ: Final = 0.05
"""Progress (0 to 1) when the CT has been read."""
_LOADED: Final = 0.1
"""Progress (0 to 1) when the model has been loaded."""
_SCANNED: Final = 0.9
"""Progress (0 to 1) when the PET has been computed and is about to be written."""
_REPORT_EVERY_S: Final = 0.2

Say = Callable[[float, str], None]

log = logging.getLogger("scantwin_twin.worker")


def main() -> None:
    """Computes scans until none has come for the time [s] of the first argument, or the service is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(5)  # the service has precedence
    logging.basicConfig(level=logging.INFO, format="%(asctime)s worker %(levelname)s %(message)s")
    # Whatever a library prints goes to the log: the real output belongs to the reports.
    reports = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    works: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(works,), daemon=True).start()
    shelf = _Shelf()
    idle_s = float(sys.argv[1])
    while True:
        try:
            line = works.get(timeout=idle_s)
        except queue.Empty:
            return
        _answer(json.loads(line), shelf, reports)
        between_jobs()


def _listen(works: queue.Queue[str]) -> None:
    for line in sys.stdin:
        works.put(line)
    os._exit(0)  # the service is gone: nobody wants what the main thread is computing


def _answer(work: dict[str, Any], shelf: _Shelf, reports: TextIO) -> None:
    last = 0.0

    def say(fraction: float, stage: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _REPORT_EVERY_S or fraction in (0.0, _READ, _LOADED, _SCANNED):
            last = now
            _send(reports, {"progress": round(fraction, 4), "stage": stage})

    try:
        _send(reports, {"done": compute(work, shelf, say)})
    except Exception as error:
        _send(reports, {"failed": _public(error, work)})


def compute(work: dict[str, Any], shelf: _Shelf, say: Say) -> dict[str, Any]:
    """Reads the CT, scans it, writes the results whole; returns the summary that the service keeps."""
    from scantwin.imaging.reading import read_ct_and_header
    from scantwin.translation.outputs import write_scan
    from scantwin_twin.results import listing
    from scantwin_twin.triage import triage

    say(0.0, "reading the CT")
    ct_file, out, seed = Path(work["ct"]), Path(work["out"]), int(work["seed"])
    ct, header = read_ct_and_header(ct_file)
    say(_READ, "loading the model")
    model, scanner = shelf.take(Path(work["model"]))
    say(_LOADED, "preparing the CT")

    def advance(done: float, total: float, text: str = "") -> None:
        say(
            _LOADED + (_SCANNED - _LOADED) * done / max(total, 1e-9),
            f"scanning the {text}" if text else "scanning",
        )

    result = scanner.scan(ct, seed=seed, advance=advance)
    say(_SCANNED, "writing the results")
    contract = write_scan(result, ct, model, work["version"], out, seed=seed, like=header)
    look = triage(result.pet, result.std, warnings=result.warnings, districts=len(result.present))
    return {
        "results": listing(contract, out),
        "seconds": contract["seconds"],
        "districts": contract["districts"],
        "confidence": contract["confidence"],
        "warnings": [str(warning) for warning in contract["warnings"]],
        "triage": look.as_json(),
    }


@dataclass
class _Shelf:
    """The model in use, kept between scans."""

    folder: Path | None = None
    kept: tuple[Model, VirtualScanner] | None = None

    def take(self, folder: Path) -> tuple[Model, VirtualScanner]:
        from scantwin.learning.weights import Model
        from scantwin.systems import scanner_for

        if self.kept is None or self.folder != folder:
            self.kept = None  # two models at once may not fit in memory
            model = Model.load(folder)
            self.kept, self.folder = (model, scanner_for(model)), folder
        return self.kept


def _public(error: Exception, work: dict[str, Any]) -> dict[str, Any]:
    """What may be kept and shown: our sentences, without the service's paths or text from the CT's files."""
    if isinstance(error, OSError):
        bare = from_os_error(OSError(error.errno, error.strerror))
        error = ScanTwinError(
            bare.message, hint="Ask who runs the service to look at its log.", code="system"
        )
    if short_of_memory(error):
        error = ScanTwinError(
            "There is not enough memory for this CT.", hint="Choose a smaller CT.", code="memory"
        )
    if isinstance(error, ScanTwinError):
        from scantwin.imaging.said_safely import said_safely

        shown: dict[str, Any] = {**error.as_json(), "bad_input": isinstance(error, InputError)}
        for path, word in (
            (work["ct"], "the CT"),
            (work["model"], work["version"]),
            (work["out"], "the results"),
        ):
            shown["message"] = shown["message"].replace(path, word)
        if isinstance(error, Rejection):  # it may quote a header, or the name of a file in a zip
            shown["message"] = said_safely(error.code, error.message)
        return shown
    log.error("scan %s failed\n%s", work["scan"], "".join(traceback.format_exception(error)))
    return {
        "code": "internal", "message": "The scan failed in a way that was not foreseen.",
        "hint": f"Ask who runs the service to look for scan {work['scan']} in its log.",
    }  # fmt: skip


def _send(reports: TextIO, message: dict[str, Any]) -> None:
    reports.write(json.dumps(message, allow_nan=False) + "\n")
    reports.flush()


if __name__ == "__main__":
    main()
