"""Writes docs/evidence.md and docs/evidence.json from findings; nothing is trained or measured here."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.evidence.experiments import EXPERIMENTS, Kept
from benchmarks.evidence.findings import Aim, Cell, Ratio, Spread, Table

from scantwin import NOTICE
from scantwin.files import whole_file, write_json

PICTURES: Final = Path("pictures") / "evidence"
"""Folder of the pictures, below the folder of the report."""

_HEAD: Final = """# Evidence

{notice}. Written by `python -m benchmarks.evidence`; do not edit. The same figures are in
[evidence.json](evidence.json).

PET figures are in SUV [g/ml] with the declared range 0-20, inside the body mask, on each PET's own voxels.
Tables give the mean ± standard deviation, and in brackets n; what n counts is said below each table. PSNR is
of masked voxels, SSIM has a uniform window of 7 voxels, SUVpeak is in a sphere of 1 ml, and lesions are
18-connected. FD is a Frechet distance, with the feature extractor named beside it. It is not an FID, and can
be compared only with figures from the same extractor.

Models that make PET are compared with three simple references: the mean and the median uptake of the district
in the training patients, and their uptake by CT number (the HU curve). The aims ask for a smaller MAE than
that of the median and the curve in the whole body, and than that of the curve in lesions. In other figures
and regions a reference may be better, and the tables show where. The chapters on sampling steps and on CTs
have no references. A fourth reference, a plain 3D U-Net (MONAI's) trained with L1 for the same wall time,
costs as much as a model. It stands beside the models on real patients, and beside Pix2Pix in the chapter on
districts; in both, the aims ask for a smaller MAE than it has, in the body and in lesions.

The phantoms are drawn from published tissue values ([phantoms.md](phantoms.md)) and imaged by the scanners of
three sites. They rank methods; they do not say how well a model does on patients. Some values of recipes were
chosen on held-out phantoms on which figures are reported: CycleGAN's losses, what coarse-diffusion delivers
and the weight of mean uptake on the ten of the quick setting, which are among those of the full one (for
CycleGAN on eight of the ten); the noise levels of samples on the windows of the chapter on sampling steps;
how much texture inpainting draws on the held-out patients of the full setting; and how much of a sample is
delivered (four tenths, before a half), after the full setting and the real patients had shown an MAE at the
very limit of what is asked for. The sampler was chosen on twelve further phantoms. Other choices (what is
usual at a place, that trunks are not mirrored, how networks are initialised, and what a node weighs) were
made on eight training patients who were left out of the training for that purpose. The real scans are of
sarcoma patients, cropped around the tumour, where the place in the crop tells more than it would in a whole
body.
"""


_INTERVALS: Final = (
    "Square brackets: where a value lies in 95 % of bootstrap resamples of the measured patients, each "
    "drawn with all their lesions. Round brackets: how many figures the value is computed from. The "
    "interval reflects chance in who was measured, not in the training."
)


def read_kept(out: Path) -> dict[str, Kept]:
    """Findings of earlier runs, from the report in `out`; empty where there is none."""
    path = out / "evidence.json"
    if not path.is_file():
        return {}
    return {one["name"]: Kept.read(one) for one in json.loads(path.read_text())["experiments"]}


def write(out: Path, kept: dict[str, Kept], missing: Sequence[str] = ()) -> dict[str, Any]:
    """Write both files; return the content of the JSON. `missing` experiments are named in a sentence."""
    ordered = [kept[name] for name in EXPERIMENTS if name in kept]
    data = as_json(ordered, missing)
    write_json(out / "evidence.json", data)
    with whole_file(out / "evidence.md") as aside:
        aside.write_text(as_markdown(ordered, missing))
    return data


def as_json(kept: Sequence[Kept], missing: Sequence[str] = ()) -> dict[str, Any]:
    """The figures for machines; `aims` holds each aim by its name."""
    aims = {aim.name: _aim_json(aim, one) for one in kept for aim in one.findings.aims}
    return {
        "notice": NOTICE,
        "command": "python -m benchmarks.evidence",
        "aims": aims,
        "aims_met": sum(aim["met"] for aim in aims.values()),
        "aims_of": len(aims),
        "missing": list(missing),
        "experiments": [one.as_json() for one in kept],
    }


def _aim_json(aim: Aim, one: Kept) -> dict[str, Any]:
    return {
        "value": aim.value, "aim": aim.aim, "met": aim.met, "decided": aim.decided, "tried": list(aim.tried),
        "ratio": None if aim.ratio is None else asdict(aim.ratio),
        "experiment": one.name, "setting": one.setting["name"], "command": one.command,
    }  # fmt: skip


def as_markdown(kept: Sequence[Kept], missing: Sequence[str] = ()) -> str:
    """The report for people."""
    parts = [_HEAD.format(notice=NOTICE), _aims(kept)]
    parts += [_chapter(one) for one in kept]
    run = {one.name for one in kept}
    waiting = [name for name in EXPERIMENTS if name not in run and name not in missing]
    for names, why in ((waiting, "not run yet"), (missing, "not part of this checkout")):
        if names:
            words = "; ".join(EXPERIMENTS[name] for name in names)
            parts.append(f"## Not measured: {why}\n\n{words}.")
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _aims(kept: Sequence[Kept]) -> str:
    lines = ["## Aims", "", "| aim | asked for | value | met | setting |", "| --- | --- | --- | --- | --- |"]
    tried: dict[tuple[str, ...], list[str]] = {}
    for one in kept:
        for aim in one.findings.aims:
            met = ("yes" if aim.met else "**no**") + ("" if aim.decided else ", undecided")
            words, setting = aim.aim.replace("|", "/"), one.setting["name"]
            value = show(aim.value if aim.ratio is None else aim.ratio)
            if not aim.met and aim.value is not None:  # 1.0302 misses 1.03, but would be shown as 1.030
                value = value.replace(_number(aim.value), f"{aim.value:.4f}", 1)
            lines.append(f"| {aim.name} | {words} | {value} | {met} | {setting} |")
            if not aim.met and aim.tried:
                tried.setdefault(tuple(aim.tried), []).append(aim.name)
    every = [aim for one in kept for aim in one.findings.aims]
    met = f"{sum(aim.met for aim in every)} of {len(every)} met."
    if open_ := sum(aim.met and not aim.decided for aim in every):
        met += f" For {open_} of these the interval reaches beyond what is asked for (`undecided`)."
    lines.insert(1, f"\n{met} {_INTERVALS}" if any(aim.ratio for aim in every) else f"\n{met}")
    if tried:
        lines += ["", "What else was tried where an aim is missed:"]
    for ways, names in tried.items():
        lines += ["", f"*{', '.join(names)}*", "", *(f"- {way}" for way in ways)]
    return "\n".join(lines)


def _chapter(one: Kept) -> str:
    found, setting = one.findings, one.setting
    how = (
        f"`{one.command}`: {setting['name']} setting ({setting['training']} training and "
        f"{setting['held_out']} held-out phantom patients at {setting['spacing_mm']:g} mm), {one.machine}, "
        f"{one.at[:10]}, {one.seconds:.0f} s, not counting models that had been trained before."
    )
    if one.changed:
        how += f" Since then other values of {', '.join(one.changed)} are shipped (docs/decisions)."
    parts = [f"## {found.title}", how, found.text]
    parts += [f"![{p.caption}]({PICTURES.as_posix()}/{p.file})\n\n*{p.caption}*" for p in found.pictures]
    parts += [table(t) for t in found.tables]
    return "\n\n".join(parts)


def table(one: Table) -> str:
    """A table in Markdown, with its title above and its note below."""
    head = ["| " + " | ".join(one.columns) + " |", "|" + " --- |" * len(one.columns)]
    rows = ["| " + " | ".join(show(cell) for cell in row) + " |" for row in one.rows]
    note = ["", one.note] if one.note else []
    return "\n".join([f"**{one.title}**", "", *head, *rows, *note])


def show(cell: Cell | Ratio) -> str:
    """A figure for people: three significant digits or so; a spread with its n."""
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return "-"
    if isinstance(cell, Ratio):
        return f"{_number(cell.value)} [{_number(cell.low)}, {_number(cell.high)}] ({_how_many(cell)})"
    if isinstance(cell, Spread):
        return f"{_number(cell.mean)} ± {_number(cell.sd)} ({cell.n})"
    return _number(cell) if isinstance(cell, float) else str(cell).replace("|", "/")


def _how_many(ratio: Ratio) -> str:
    if ratio.patients is None:
        return str(ratio.n)
    return f"{ratio.n} of {ratio.patients} patient{'' if ratio.patients == 1 else 's'}"


def _number(value: float) -> str:
    if value == 0:
        return "0"
    size = abs(value)
    digits = 1 if size >= 20 else 2 if size >= 2 else 3
    return f"{value:.{digits}f}" if size >= 0.01 else f"{value:.2g}"
