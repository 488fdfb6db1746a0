"""Tables that several chapters share, and every model's aim: to beat the simple references."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Final

from benchmarks.evidence.findings import Aim, Ratio, Spread, Table
from benchmarks.evidence.measuring import Standing
from benchmarks.evidence.report import show
from benchmarks.evidence.settings import PLAIN_UNET

from scantwin.evaluation.intervals import SIGMAS
from scantwin.evaluation.tally import SENSITIVITY_AT
from scantwin.evaluation.tumour_volumes import RESPONSE
from scantwin.imaging.study import DISTRICTS
from scantwin.phantoms.tissues import AGREED_ORGANS

REGIONS = ("whole-body", *DISTRICTS[:-1], "lesions")
"""Regions in which image metrics are computed: the whole body, each district, lesions."""

_AGREED: Final = {
    "n": "n", "bias": "bias", "low": "lower limit", "high": "upper limit", "ccc": "Lin's CCC",
    "inside_limits": "inside -25/+33 %",
}  # fmt: skip
"""Figures of agreement -> their columns."""

_PER_PATIENT = "Mean ± SD over patients (n); SUV 0-20, inside the body mask, on the PET's own voxels."
_PER_LESION = "Mean ± SD over lesions (n)."


def quality(title: str, who: dict[str, Standing]) -> Table:
    """MAE, bias, PSNR and SSIM by region."""
    columns = ("region", "model", "MAE [SUV]", "bias [SUV]", "PSNR [dB]", "SSIM")
    rows = [
        (region, name, *(standing.region(region, m) for m in ("mae", "bias", "psnr", "ssim")))
        for region in REGIONS
        for name, standing in who.items()
    ]
    return Table(title, columns, tuple(rows), _PER_PATIENT)


def conditions(title: str, who: dict[str, Standing]) -> Table:
    """MAE, PSNR and SSIM of the whole body, by condition."""
    names = sorted({name for standing in who.values() for name in standing.patients_with})
    rows = []
    for condition in names:
        for name, standing in who.items():
            rows.append((condition, name, *(standing.under(condition, m) for m in ("mae", "psnr", "ssim"))))
    return Table(title, ("condition", "model", "MAE [SUV]", "PSNR [dB]", "SSIM"), tuple(rows), _PER_PATIENT)


def uptake(title: str, who: dict[str, Standing], extractor: str) -> Table:
    """What a reader takes from lesions, and the Frechet distance of the whole images."""
    columns = (
        "model", "SUVmax error [SUV]", "SUVpeak error [SUV]", "SUVmean error [SUV]", "SUVmean bias [SUV]",
        "peak and mean inside -25/+33 %", f"found at SUV {SENSITIVITY_AT:g}", "FD",
    )  # fmt: skip
    names = ("suvmax_error", "suvpeak_error", "suvmean_error", "suvmean_bias", "inside_limits")
    rows = [
        (name, *(standing.lesion(n) for n in names), sensitivity(standing), standing.distance)
        for name, standing in who.items()
    ]
    return Table(
        title,
        columns,
        tuple(rows),
        f"{_PER_LESION} FD: Frechet distance, 2.5D, {extractor}, of all patients' slices together.",
    )


def coverage(title: str, who: dict[str, Standing]) -> Table:
    """Whether intervals hold what they state, and how long a scan took."""
    rows = [
        (name, *(Spread.of(figures) for figures in (one.intervals.voxels, one.intervals.organs, one.seconds)))
        for name, one in who.items()
    ]
    columns = ("model", "voxels inside the 80 % interval", "organ means inside", "seconds per scan")
    note = (
        "Mean ± SD over patients (n). Cross-calibrated: each patient's interval is derived from the other "
        "held-out patients. An organ's interval is as wide as those of its voxels, because what is wrong "
        f"with an organ is wrong with all of it ({len(AGREED_ORGANS)} organs, in the patients who show "
        "them)."
    )
    return Table(title, columns, tuple(rows), note)


def error_by_sigma(title: str, who: dict[str, Standing]) -> Table:
    """The root mean square error of voxels, by their stated SD."""
    rows = []
    for place, (low, high) in enumerate(itertools.pairwise((*SIGMAS, math.inf))):
        for name, one in who.items():
            voxels, squares, inside = one.intervals.by_sigma[:, place]
            if voxels:
                stated = f"{low:g}-{high:g}" if math.isfinite(high) else f"{low:g} and more"
                rows.append((stated, name, int(voxels), math.sqrt(squares / voxels), inside / voxels))
    columns = (
        "stated SD [SUV]",
        "model",
        "voxels",
        "root mean square error [SUV]",
        "inside the 80 % interval",
    )
    return Table(title, columns, tuple(rows), "All patients' voxels together; intervals as above.")


def agreed(title: str, standing: Standing) -> Table:
    """Bias, Bland-Altman limits and Lin's CCC of SUVmean and SUVpeak, in organs and lesions."""
    found = standing.tally.report()
    rows = [
        (name, figure, *(found[key][name][part] for part in _AGREED))
        for name in (*AGREED_ORGANS, "lesions")
        for figure, key in (("SUVmean", "agreement"), ("SUVpeak", "peak_agreement"))
        if name in found[key]
    ]
    columns = ("region", "figure", *_AGREED.values())
    note = "[SUV]; limits hold 95 % of normal differences. SUVpeak and SUVmean both inside (sources.md, 6): "
    organs, lesions = (found[of]["inside_limits"] for of in ("organs", "lesions"))
    shares = f"{show(organs)} of all organs of all patients, {show(lesions)} of lesions."
    return Table(title, columns, tuple(rows), note + shares)


def tumour_volumes(title: str, who: dict[str, Standing]) -> Table:
    """MTV and TLG of a patient's lesions, by threshold."""
    found = {name: standing.tally.report()["volumes"] for name, standing in who.items()}
    rows = [
        (figure, name, *(volumes[figure][part] for part in _AGREED))
        for figure in next(iter(found.values()))
        for name, volumes in found.items()
    ]
    return Table(
        title, ("figure", "model", *_AGREED.values()), tuple(rows),
        "MTV [ml] and TLG [g] above the threshold, of all lesions of a patient; n: patients with lesions.",
    )  # fmt: skip


def sensitivity(standing: Standing) -> float | None:
    """Share of lesions with a voxel at or above the fixed threshold."""
    found, lesions, _ = standing.tally.found[RESPONSE.index(SENSITIVITY_AT)]
    return float(found / lesions) if lesions else None


LESIONS_TRIED: Final = (
    "a weight of 0.7 instead of 1.5 for mean uptake (320 steps, 7 patients): 1.016 for Pix2Pix, 1.015 for "
    "coarse-diffusion",
    "hottest 3 and uptake 3 for coarse-diffusion: MAE in lesions 3.20 instead of 3.31, at 1.11 times the "
    "whole-body MAE",
    "what stands in the way: the uptake of phantoms' lesions is drawn independently of their CT numbers, "
    "and few lesions show at 8 mm; the curve's own error is 0.92 of the training mean's",
)
"""For a model that does not beat the HU curve in lesions: what was tried, and what stands in the way."""


_Figure = Callable[[Standing], float]
_ALL_COMPARED: Final = "MAE, PSNR and SSIM in each region, SUVmax and SUVpeak error, and FD"
_COMPARED: Final[tuple[tuple[str, _Figure, int], ...]] = (
    *(
        (f"{said} in {region}", partial(Standing.mean, region=region, metric=metric), sign)
        for metric, said, sign in (("mae", "MAE", 1), ("psnr", "PSNR", -1), ("ssim", "SSIM", -1))
        for region in REGIONS
    ),
    ("SUVmax error", partial(Standing.lesion_mean, name="suvmax_error"), 1),
    ("SUVpeak error", partial(Standing.lesion_mean, name="suvpeak_error"), 1),
    ("FD", attrgetter("distance"), 1),
)
"""Figures in which models and references are compared: name, figure, and 1 if less is better, -1 if more."""


def beats_references(
    name: str, model: Standing, references: dict[str, Standing], *tried: str
) -> tuple[Aim, ...]:
    """The aims that a model beats the median and the HU curve in the whole body, the curve in lesions,
    and the plain U-Net in both where that is among the references.

    `tried` lists what else was tried where the model does not; by default, what was tried in lesions.
    """
    aims = []
    for region, reference, place in (
        ("whole-body", "training-median", "whole-body"),
        ("whole-body", "hu-curve", "whole-body/hu-curve"),
        ("lesions", "hu-curve", "lesions"),
        ("whole-body", PLAIN_UNET, "whole-body/plain-unet"),
        ("lesions", PLAIN_UNET, "lesions/plain-unet"),
    ):
        if reference not in references:
            continue  # the plain U-Net costs as much as a model, so it stands beside one model only
        over = against(model, references[reference], region)
        words = f"MAE of {name} ({region}) over that of the {reference}: below 1"
        known = tried or (LESIONS_TRIED if place == "lesions" else ())
        aims.append(Aim.below(f"beats-references/{name}/{place}", over, 1.0, words, *known))
    return tuple(aims)


def against(one: Standing, other: Standing, region: str) -> Ratio | None:
    """The MAE of `one` in a region over that of `other`, over patients."""
    return Ratio.of(one.tally.regions[region]["mae"], other.tally.regions[region]["mae"])


def against_in_lesions(one: Standing, other: Standing, figure: str) -> Ratio | None:
    """A figure of `one` over that of `other`, over lesions; the interval resamples their patients."""
    return Ratio.of(one.tally.lesions[figure], other.tally.lesions[figure], of=one.tally.lesion_patients)


def where_behind(name: str, model: Standing, references: dict[str, Standing]) -> str:
    """A sentence on where a reference is no worse than the model `name`, with both figures.

    Of several such references it names the best.
    """
    said = []
    for what, figure, sign in _COMPARED:
        own = figure(model)
        others = [(sign * figure(one), who) for who, one in references.items() if math.isfinite(figure(one))]
        if math.isfinite(own) and others and min(others)[0] <= sign * own:
            best, who = min(others)
            said.append(f"{what} ({show(own)}; {who} {show(sign * best)})")
    if not said:
        return f"{name} is better than every reference in {_ALL_COMPARED}."
    return f"{name} is not better than every reference in: {', '.join(said)}. Compared: {_ALL_COMPARED}."


def ratio(one: float, other: float) -> float | None:
    """`one` / `other`; None where that does not exist."""
    return one / other if other > 0 and math.isfinite(one) else None
