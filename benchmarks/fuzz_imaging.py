"""Mutated DICOM and NIfTI studies: each is accepted or refused with a reason of the catalogue.

    python -m benchmarks.fuzz_imaging --n 20000 --out fuzz/     by ranges of 500; a second call goes on
    python -m benchmarks.fuzz_imaging --only 137        one input again, with what it gives
    python -m benchmarks.fuzz_imaging --n 300 --fault admin-decayed     a fault put in on purpose

Each input is read in a worker process with a limit of time and of memory. A failure is: another exception
than a rejection, a rejection that is not in the catalogue, more than 10 s, more than 1 GB above the input's
size, an accepted study with values that are not numbers, and an SUV that the rules of docs/imaging.md do not
give (`suv_oracle`, written on its own). Exit 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.fuzz_bases import Bases, write_bases
from benchmarks.fuzz_faults import FAULTS
from benchmarks.fuzz_inputs import make
from benchmarks.fuzz_suv import Input

from scantwin.errors import Rejection
from scantwin.files import write_json
from scantwin.imaging.reading import find_studies, read_study
from scantwin.imaging.reasons import REASONS, code_of
from scantwin.imaging.study import Study

MEMORY_DISK = Path("/dev/shm")  # noqa: S108 - where files of a second are written without a disk
RANGE = 500
TIME_S = 10.0
MEMORY = 1 << 30
TOLERANCE = 1e-3
"""Of SUV: the reader may round to float32 and clip, it may not be another number."""
DEPARTURES = {
    "suv.midnight", "suv.date-shifted", "suv.private-time-unusable", "suv.start-times-differ",
    "suv.start-datetime-off", "suv.series-time-late", "suv.series-time-early", "suv.start-date-off",
    "suv.zone-unknown", "suv.half-life-assumed", "suv.frame-reference-unusable", "pet.nuclide-unknown",
    "suv.decay-contradiction", "suv.philips-factor-differs",
}  # fmt: skip
"""Warnings by which the reader says that it left the letter of the rules."""


def judge(given: Input, folder: Path) -> tuple[str, str]:
    """("accepted" | code of a refusal, "") or ("FAILURE", what is wrong)."""
    try:
        sources = find_studies(folder)
        results: list[Study | str] = []
        for source in sources:
            try:
                results.append(read_study(source))
            except Rejection as refusal:
                if refusal.code not in REASONS:
                    return "FAILURE", f"{refusal.code} is not in the catalogue"
                if "memory error" in refusal.message:
                    return "FAILURE", f"out of memory: {refusal.message}"
                results.append(refusal.code)
    except Rejection as refusal:
        known = refusal.code in REASONS
        return (refusal.code, "") if known else ("FAILURE", f"{refusal.code} is not in the catalogue")
    studies = [one for one in results if isinstance(one, Study)]
    for study in studies:
        wrong = _wrong(study, given)
        if wrong:
            return "FAILURE", wrong
    code = next((r for r in results if isinstance(r, str)), "nothing")
    if studies:
        return "accepted", ""
    # Refusing is always safe, but says nothing about the rules: how often is told.
    answered = given.expected is not None and given.expected.literal
    return code, "the rules give an SUV" if answered else ""


def _wrong(study: Study, given: Input) -> str:
    if not np.isfinite(study.ct.array).all():
        return "the CT holds values that are not numbers"
    if study.lesions is not None and not study.lesions.same_grid(study.ct):
        return "the lesions lie on another grid than the CT"
    if study.pet is None:
        return ""
    if not np.isfinite(study.pet.array).all() or float(study.pet.array.min()) < 0:
        return "the PET holds values that are not SUV"
    if given.expected is None:
        return ""
    found = np.asarray(study.pet.array, float).sum(axis=(1, 2))
    warned = {code_of(note) for note in study.warnings}
    answers = given.expected.with_warning if warned & DEPARTURES else ()
    for factors in (*given.expected.literal, *answers):
        if np.allclose(found, np.multiply(factors, given.rescaled), rtol=TOLERANCE):
            return ""
    said = f"found {found[:3]}, rescaled sums {given.rescaled[:3]}, by the letter {given.expected.literal}"
    return f"wrong SUV, {sorted(warned)}: {said}"


def work(pipe: Connection, folder: str, seed: int, fault: str) -> None:
    """The worker: reads inputs whose numbers come through the pipe."""
    if fault:
        FAULTS[fault](setattr)
    bases = Bases(Path(folder) / "bases")
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    place = Path(folder) / f"input-{os.getpid()}"
    while (number := pipe.recv()) is not None:
        shutil.rmtree(place, ignore_errors=True)
        given = Input("unmade", "")
        try:
            given = make(bases, place, np.random.default_rng([seed, number]), number)
            size = sum(p.stat().st_size for p in place.rglob("*") if p.is_file())
            limit = _virtual_bytes() + MEMORY + size
            resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
            pipe.send(("began", given.kind, given.what))
            outcome, detail = judge(given, place)
        except BaseException:
            outcome, detail = "FAILURE", traceback.format_exc()[-1500:]
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pipe.send(("done", given.kind, given.what, outcome, detail, peak))
    shutil.rmtree(place, ignore_errors=True)


def _virtual_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _processor(pid: int | None) -> tuple[float, bool]:
    """Processor time of a process and its children [s], and whether one is ready to run, or at the disk."""
    seconds, ready = 0.0, False
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in (pid, *children):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            seconds += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
            ready |= fields[0] in "RD"
    except OSError:  # it has ended
        pass
    return seconds, ready


class Worker:
    """A child that is started anew when it hangs or dies."""

    def __init__(self, folder: str, seed: int, fault: str = "") -> None:
        self.folder, self.seed, self.fault = folder, seed, fault
        self._start()

    def _start(self) -> None:
        self.used = 0.0
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.child = context.Process(
            target=work, args=(theirs, self.folder, self.seed, self.fault), daemon=True
        )
        self.child.start()
        theirs.close()

    def ask(self, number: int) -> tuple[str, str, str, str, int]:
        """Kind, what, outcome, detail and peak memory [KiB] of one input."""
        self.pipe.send(number)
        self.used = _processor(self.child.pid)[0]
        kind, what = "unmade", ""
        try:
            patience = 60.0  # until the input is made; a fresh child imports for seconds
            while self.pipe.poll(patience) or self._starved(patience):
                if not self.pipe.poll(0):
                    continue
                said = self.pipe.recv()
                kind, what = said[1], said[2]
                if said[0] == "done":
                    return kind, what, said[3], said[4], said[5]
                patience = TIME_S
            self.stop()
            self._start()
            return kind, what, "FAILURE", f"no answer after {patience:.0f} s", 0
        except (EOFError, ConnectionResetError):
            self.child.join(5)
            code = self.child.exitcode
            self._start()
            return kind, what, "FAILURE", f"the reader died (exit {code})", 0

    def _starved(self, patience: float) -> bool:
        """Whether the child had no chance to answer: it wants to run, and got little of the processor."""
        used, ready = _processor(self.child.pid)
        short = ready and used - self.used < patience / 2
        self.used = used if not short else self.used
        return short

    def stop(self) -> None:
        """Ends the child."""
        self.child.kill()
        self.child.join(5)


def run(count: int, seed: int, seconds: float, first: int = 0, fault: str = "") -> dict[str, Any]:
    """Reads up to `count` inputs, no longer than `seconds`."""
    folder = tempfile.mkdtemp(prefix="scantwin-fuzz-", dir=MEMORY_DISK if MEMORY_DISK.is_dir() else None)
    write_bases(Path(folder) / "bases")
    worker = Worker(folder, seed, fault)
    outcomes: Counter[str] = Counter()
    needless: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    failures: list[dict[str, Any]] = []
    peak, slowest, done = 0, 0.0, 0
    began = time.monotonic()
    try:
        for number in range(first, first + count):
            if time.monotonic() - began > seconds:
                break
            at = time.monotonic()
            kind, what, outcome, detail, memory = worker.ask(number)
            if done:  # the first waits for the imports
                slowest = max(slowest, time.monotonic() - at)
            done += 1
            short = outcome if outcome in ("accepted", "FAILURE") else "refused"
            kinds[f"{kind}: {short}"] += 1
            outcomes[outcome] += 1
            peak = max(peak, memory)
            if detail and outcome != "FAILURE":
                needless[outcome] += 1
            if outcome == "FAILURE":
                failures.append({"number": number, "kind": kind, "what": what, "detail": detail})
    finally:
        worker.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "inputs": done, "seed": seed, "seconds": round(time.monotonic() - began, 1),
        "slowest_s": round(slowest, 3), "peak_rss_mib": peak // 1024, "kinds": dict(sorted(kinds.items())),
        "outcomes": dict(outcomes.most_common()), "refused_though_the_rules_answer": dict(needless),
        "failures": failures,
    }  # fmt: skip


def run_ranges(count: int, seed: int, seconds: float, folder: Path) -> dict[str, Any]:
    """The same by ranges, each with a file in `folder`; those that are there are not run again."""
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    parts = []
    for first in range(0, count, RANGE):
        path = folder / f"seed{seed}-{first:06d}.json"
        if not path.exists():
            if time.monotonic() - began > seconds:
                break
            write_json(path, run(min(RANGE, count - first), seed, float("inf"), first))
        parts.append(json.loads(path.read_text()))
    whole: dict[str, Any] = {
        "inputs": sum(p["inputs"] for p in parts), "seed": seed,
        "seconds": round(sum(p["seconds"] for p in parts), 1),
        "slowest_s": max(p["slowest_s"] for p in parts),
        "peak_rss_mib": max(p["peak_rss_mib"] for p in parts),
    }  # fmt: skip
    for name in ("kinds", "outcomes", "refused_though_the_rules_answer"):
        total: Counter[str] = Counter()
        for part in parts:
            total.update(part[name])
        whole[name] = dict(total.most_common())
    return whole | {"failures": [failure for p in parts for failure in p["failures"]]}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=20000, help="how many inputs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after that time")
    parser.add_argument("--only", type=int, help="read this one input")
    parser.add_argument("--out", type=Path, help="folder for the result of each range")
    parser.add_argument("--fault", choices=sorted(FAULTS), default="", help="read with this fault put in")
    given = parser.parse_args()
    if given.only is not None:
        result = run(1, given.seed, given.seconds, given.only)
    elif given.out is not None:
        result = run_ranges(given.n, given.seed, given.seconds, given.out)
    else:
        result = run(given.n, given.seed, given.seconds, fault=given.fault)
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    sys.exit(1 if result["failures"] else 0)


if __name__ == "__main__":
    main()
