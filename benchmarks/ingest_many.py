"""`scantwin site ingest` over many small phantom studies in one run: time, processor time, memory.

    python -m benchmarks.ingest_many --n 1000 --out results.json

A few block phantoms are written by three vendors' habits and copied under other unique identifiers and
patient numbers. One in ten is spoilt in one of four ways, so that there is something to refuse.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from scantwin.imaging.volume import Volume
from scantwin.phantoms.dicom_out import Subject, write_dicom

COMMAND = (sys.executable, "-c", "from scantwin.cli.main import main; main()", "site")
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID")
SLICES = 24


def write_studies(folder: Path, count: int) -> int:
    """`count` studies of 2 x 24 slices below `folder`; gives the number of files."""
    bases = [
        _base(folder.parent / "bases" / vendor, vendor, k)
        for k, vendor in enumerate(("siemens", "ge", "philips"))
    ]
    written = 0
    for number in range(count):
        spoilt = number % 40 if number % 10 == 0 else 1
        for name, original, uids, patient in bases[number % 3]:
            if spoilt == 10 and name.startswith("CT"):
                continue
            data = original
            for uid in uids:
                data = data.replace(uid, _other(uid, number))
            data = data.replace(patient, f"p{number:07d}".encode())
            if spoilt == 20 and name.startswith("PET"):
                data = data.replace(b"ATTN", b"XXXX")
            elif spoilt == 30 and name.startswith("PET"):
                data = data.replace(b"BQML", b"XXXX").replace(b"CNTS", b"XXXX")
            elif spoilt == 0 and name.endswith("CT00011.dcm"):
                data = data[: len(data) // 2]
            path = folder / f"s{number:05d}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            written += 1
    return written


def _other(uid: bytes, number: int) -> bytes:
    """A UID of the same length that belongs to this copy."""
    return uid[:-6] + f"{(int(uid[-6:]) + 7 * number + 1) % 900000 + 100000}".encode()


def _base(folder: Path, vendor: str, seed: int) -> list[tuple[str, bytes, list[bytes], bytes]]:
    random = np.random.default_rng(seed)
    z, y, x = np.ogrid[:SLICES, :64, :64]
    body = ((y - 32) / 22.0) ** 2 + ((x - 32) / 26.0) ** 2 < 1 + 0 * z
    hu = np.where(body, random.normal(30, 30, body.shape), -1000).astype(np.float32)
    suv = np.where(body, random.gamma(3.0, 0.5, body.shape), 0.01).astype(np.float32)
    ct, pet = (Volume(a, (8.0, 7.0, 7.0), unit=u) for a, u in ((hu, "HU"), (suv, "SUV")))
    subject = Subject("p-------", "F", 60, 1.7, 70.0)
    write_dicom(folder, ct, pet, subject, vendor, seed=seed)  # type: ignore[arg-type]
    made = []
    for path in sorted(folder.rglob("*.dcm")):
        ds = pydicom.dcmread(path)
        uids = [str(ds[name].value).encode() for name in UIDS]
        made.append((str(path.relative_to(folder)), path.read_bytes(), uids, b"p-------"))
    return made


def measured(words: list[str], home: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """The JSON of a command and what it took; memory is that of its largest process."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as sink:
        child = subprocess.Popen(
            [*COMMAND, *words, "--json"], stdout=sink, env={**os.environ, "SCANTWIN_HOME": str(home)}
        )
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        sink.seek(0)
        said = json.loads(sink.read())
    cost = {
        "wall_s": round(time.monotonic() - began, 2), "cpu_s": round(used.ru_utime + used.ru_stime, 2),
        "largest_process_mib": used.ru_maxrss // 1024,
    }  # fmt: skip
    return said, cost


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    top = Path(tempfile.mkdtemp(prefix="scantwin-many-"))
    try:
        files = write_studies(top / "data", given.n)
        measured(["init", "--name", "city"], top / "home")
        first, cost = measured(["ingest", str(top / "data")], top / "home")
        again, cost_again = measured(["ingest", str(top / "data")], top / "home")
        result = {
            "studies": given.n, "files": files, "cores": len(os.sched_getaffinity(0)),
            "counts": first["counts"],
            "first": cost, "second": cost_again, "second_read": again["counts"]["read"],
            "same": first["studies"] == again["studies"],
        }  # fmt: skip
    finally:
        shutil.rmtree(top, ignore_errors=True)
    text = json.dumps(result, indent=1)
    sys.stdout.write(text + "\n")
    if given.out:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
