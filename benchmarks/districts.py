"""Dice of the district splitter against the phantoms' truth, on random fields of view.

    python -m benchmarks.districts --first 1000 --count 40 --out districts.jsonl

One random patient on a random scanner for each seed, cut to a random part of its length (30 to 100 %). One
line of JSON for each; a second run goes on where the first stopped. At the end the median and the worst Dice
of each district, over the fields of view that hold at least 3 % of the body in it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from scantwin.imaging.districts import split_districts
from scantwin.imaging.resampling import resample_like
from scantwin.imaging.study import DISTRICT_LABEL, DISTRICTS
from scantwin.imaging.volume import Volume
from scantwin.phantoms.patient import build_patient, random_patient
from scantwin.phantoms.scanner import ScannerSpec, image_patient

SMALL = 0.03
"""A district with less than this share of the body is no test of Dice: one slice more or less decides."""
TARGET = 0.95


def imaged(seed: int, spacing_mm: tuple[float, float, float], **fixed: object) -> tuple[Volume, Volume, str]:
    """CT of a random patient on a random scanner, the true districts on its grid, and who it is."""
    rng = np.random.default_rng([seed, 5])
    spec = random_patient(seed, **fixed)
    patient = build_patient(spec, spacing_mm)
    scanner = ScannerSpec(
        ct_spacing_mm=spacing_mm,
        pet_spacing_mm=(40.0, 40.0, 40.0),
        ct_dose=float(rng.choice([0.15, 0.4, 1.0])),
        hu_shift=float(rng.uniform(-15, 15)),
        metal=bool(rng.random() < 0.2),
    )
    ct = image_patient(patient, scanner, seed=seed).ct
    said = f"{spec.sex}{spec.age} {spec.height_cm:.0f} cm BMI {spec.bmi:.0f} arms {spec.arms}"
    return ct, resample_like(patient.districts, ct, how="nearest"), said


def random_part(seed: int, slices: int) -> tuple[int, int]:
    """The slices [low, high) of a random field of view."""
    rng = np.random.default_rng([seed, 6])
    length = rng.uniform(0.3, 1.0)
    low = rng.uniform(0.0, 1.0 - length)
    return round(low * slices), round((low + length) * slices)


def dice(found: Volume, truth: Volume) -> dict[str, float]:
    """Dice of each district with more than SMALL of the body, in the truth or in what was found."""
    a, b = np.asarray(found.array), np.asarray(truth.array)
    least = SMALL * (b > 0).sum()
    result: dict[str, float] = {}
    for name in DISTRICTS:
        mine, theirs = a == DISTRICT_LABEL[name], b == DISTRICT_LABEL[name]
        if max(mine.sum(), theirs.sum()) > least:
            result[name] = round(float(2 * (mine & theirs).sum() / (mine.sum() + theirs.sum())), 4)
    return result


def one(seed: int, spacing_mm: tuple[float, float, float], fixed: dict[str, Any]) -> dict[str, Any]:
    """The line of one seed."""
    ct, truth, said = imaged(seed, spacing_mm, **fixed)
    low, high = random_part(seed, ct.shape[0])
    ct, truth = (v.crop((low, 0, 0), (high, v.shape[1], v.shape[2])) for v in (ct, truth))
    began = time.perf_counter()
    split = split_districts(ct)
    return {
        "seed": seed, "patient": said, "slices": [low, high], "dice": dice(split.labels, truth),
        "confidence": round(split.confidence, 3), "reason": split.reason,
        "seconds": round(time.perf_counter() - began, 2),
    }  # fmt: skip


def summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Median, mean and worst of each district, and how many lie below the target."""
    result: dict[str, Any] = {"n": len(lines)}
    for name in DISTRICTS:
        values = [line["dice"][name] for line in lines if name in line["dice"]]
        if values:
            result[name] = {
                "n": len(values), "median": float(np.median(values)), "mean": float(np.mean(values)),
                "worst": min(values), "below": sum(v < TARGET for v in values),
            }  # fmt: skip
    return result


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first", type=int, default=1000, help="first seed")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; what is there is not done again")
    parser.add_argument("--spacing", type=float, nargs=3, default=(6.0, 5.0, 5.0), help="z y x [mm]")
    parser.add_argument("--arms", choices=("up", "down", "one-up"), help="all patients so")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after that time")
    given = parser.parse_args()
    lines = [json.loads(x) for x in given.out.read_text().splitlines()] if given.out.exists() else []
    done = {line["seed"] for line in lines}
    began = time.monotonic()
    for seed in range(given.first, given.first + given.count):
        if seed in done or time.monotonic() - began > given.seconds:
            continue
        lines.append(one(seed, tuple(given.spacing), {"arms": given.arms} if given.arms else {}))
        with given.out.open("a") as stream:
            stream.write(json.dumps(lines[-1]) + "\n")
    wanted = range(given.first, given.first + given.count)
    sys.stdout.write(json.dumps(summary([x for x in lines if x["seed"] in wanted]), indent=1) + "\n")


if __name__ == "__main__":
    main()
