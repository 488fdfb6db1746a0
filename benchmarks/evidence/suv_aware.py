"""SUV-aware terms on and off; lesion detection, agreement in organs, coverage of the intervals."""

from __future__ import annotations

import numpy as np
from benchmarks.evidence import tables
from benchmarks.evidence.charts import Panel, chart
from benchmarks.evidence.findings import Aim, Findings, Picture, Ratio, Setting, Workshop
from benchmarks.evidence.measuring import COVERED, CROSS_CALIBRATED, Measurer, Standing
from benchmarks.evidence.settings import steps_of, translation_recipe

from scantwin.evaluation.agreement import agreement
from scantwin.evaluation.tumour_volumes import RESPONSE, THRESHOLDS
from scantwin.evaluation.uptake import REAL_CHANGE
from scantwin.terminal import Advance

RECIPES = ("coarse-diffusion", "pix2pix")

TRIED = (
    "quick setting, the terms for the denoiser alone (hottest 0.3, uptake 0.7): 1.000, because what is "
    "delivered keeps to the coarse prediction where that is cold",
    "quick setting, hottest 0.3 and uptake 0.7 for the coarse predictor too: 1.01; hottest 3 and uptake 3: "
    "1.03, at 1.11 times the whole-body MAE",
    "full setting, with networks as they were before docs/decisions/0012 and lesions weighing twice as "
    "much: 1.117 [1.049, 1.253]",
    "what stands in the way: trained for minutes, no network here can tell a phantom's lesions from "
    "vessels, so lesions stay cold with the terms and without (end of docs/decisions/0012)",
)
"""What was tried, one training each (20 lesions in the quick setting), and what stands in the way."""

_GROUPS = {
    "liver": ("liver",),
    "brain": ("grey-matter",),
    "heart, blood": ("myocardium", "blood"),
    "bladder": ("bladder",),
    "other organs": (
        "spleen", "kidney-cortex", "pancreas", "lung", "muscle", "vertebral-marrow", "subcutaneous-fat",
    ),
    "lesions": ("lesions",),
}  # fmt: skip
"""Colours of the Bland-Altman plot: all of `AGREED_ORGANS` and the lesions, as in its table."""

_WRITTEN = (2.0, 4.0, 10.0)
"""Thresholds [g/ml] written beside the points of the true PETs."""

_OFF = {"losses.hottest": 0.0, "losses.uptake": 0.0, "losses.lesions": 0.0}


def run(setting: Setting, workshop: Workshop, advance: Advance) -> Findings:
    """Train coarse + diffusion with and without the terms; compare with Pix2Pix and the references."""
    on = translation_recipe(setting, "coarse-diffusion")
    recipes = {
        "terms on": on,
        "terms off": translation_recipe(setting, "coarse-diffusion", **_OFF),
        "pix2pix": translation_recipe(setting, "pix2pix"),
    }
    measurer = Measurer.of(setting, workshop, on, advance)
    models = {n: workshop.trained(r, steps=steps_of(setting, r), advance=advance) for n, r in recipes.items()}
    who = {name: measurer.model(model, advance=advance) for name, model in models.items()}
    references = measurer.references()
    text = (
        f"Coarse + diffusion with the recipe's terms (hottest spot {on.losses.hottest:g}, mean uptake "
        f"{on.losses.uptake:g}, and lesions that together weigh {on.losses.lesions:g} of a body in the L1 "
        f"term) and with all three switched off, for the same {steps_of(setting, on)} steps. A change of "
        f"uptake counts as real outside {REAL_CHANGE[0]:+.0%} / {REAL_CHANGE[1]:+.0%}; inside, it is "
        "test-retest variability. Lesions are found by a simulated reader, who marks every region above a "
        "threshold. Brain, bladder and heart are then marked too, in a real PET as in a synthetic one, so "
        f"the true PET has a curve of its own. {CROSS_CALIBRATED}\n\n"
        + tables.where_behind("Pix2Pix", who["pix2pix"], references)
        + volumes_said(*(_mtv_agreement(who[name]) for name in ("terms on", "terms off")))
    )
    worse = tables.against_in_lesions(who["terms off"], who["terms on"], "suvmax_error")
    aims = (
        Aim.at_least(
            "suv-aware/suvmax", worse, 1.15,
            "SUVmax error without the SUV-aware terms and the weight of lesions over that with both: at "
            "least 1.15", *TRIED,
        ),
        Aim.between(
            "coverage/pix2pix", Ratio.of(who["pix2pix"].intervals.voxels), 0.75, 0.85,
            f"{COVERED}: 0.75 to 0.85",
        ),
    )  # fmt: skip
    return Findings(
        "SUV-aware terms, uptake, error bars",
        text,
        (
            tables.uptake("In lesions", {**who, **references}, measurer.extractor.name),
            tables.quality("By region", {**who, **references}),
            tables.coverage("Coverage", who),
            tables.error_by_sigma("Error and stated SD", who),
            tables.agreed("Agreement of uptake, terms on", who["terms on"]),
            tables.agreed("Agreement of uptake, Pix2Pix", who["pix2pix"]),
            tables.tumour_volumes("Tumour volumes", {**who, **references}),
        ),
        (_free_response(workshop, who), _bland_altman(workshop, who["terms on"])),
        aims,
        {"free_response": {name: one.tally.found.tolist() for name, one in who.items()}},
    )


def _mtv_agreement(standing: Standing) -> float | None:
    """Lin's CCC of the patients' MTV above the lowest threshold; None without any."""
    found = standing.tally.report()["volumes"].get(f"mtv, SUV {THRESHOLDS[0]}")
    return found and found["ccc"]


def volumes_said(on: float | None, off: float | None) -> str:
    """A sentence on tumour volumes with and without the terms."""
    if on is None or off is None:
        return ""
    return (
        f"\n\nThe MTV above SUV {THRESHOLDS[0]:g} of a patient's lesions agrees with the true one at a CCC "
        f"of {on:z.2f} with the terms and {off:z.2f} without."
    )


def _free_response(workshop: Workshop, who: dict[str, Standing]) -> Picture:
    lines = {}
    true = who["terms on"].tally.truly_found
    for name, counts in {**{n: s.tally.found for n, s in who.items()}, "true PET": true}.items():
        patients = who["terms on"].tally.searched
        lines[name] = [(marks / patients, found / of) for found, of, marks in counts.tolist() if of]
    names = [f"SUV {t:g}" if t in _WRITTEN else "" for t in RESPONSE]
    return chart(
        workshop,
        "free-response.png",
        [
            Panel(
                lines,
                "false marks a patient",
                "share of lesions found",
                names={"true PET": names},
                share=True,
            )
        ],
        "Free response: share of lesions with a voxel above a threshold, against marks outside lesions; "
        f"from right to left, thresholds of SUV {', '.join(f'{t:g}' for t in RESPONSE)}.",
    )


def _bland_altman(workshop: Workshop, standing: Standing) -> Picture:
    pairs = {
        group: [pair for name in names for pair in standing.tally.pairs.get(name, [])]
        for group, names in _GROUPS.items()
    }
    lines = {group: [((s + t) / 2, s - t) for s, t in points] for group, points in pairs.items() if points}
    level: dict[str, float] = {}
    if lines:
        said, true = np.array([pair for points in pairs.values() for pair in points], float).T
        found = agreement(said, true)
        level = {"upper limit": found.high, "mean": found.bias, "lower limit": found.low}
    panel = Panel(lines, "mean of both [SUV]", "synthetic - true [SUV]", joined=False, level=level)
    return chart(
        workshop, "bland-altman.png", [panel],
        "Bland-Altman: SUVmean of organs and lesions, coarse + diffusion with the terms on. Dashed: mean "
        "difference and 95 % limits of all points together. Each patient contributes several points, so "
        "they are not independent: the limits are of points, not of patients.",
    )  # fmt: skip
