"""Whole CT volumes: realism, faithfulness to masks, regional volumes, memorisation, memory by size."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from benchmarks.evidence.by_site import in_turn, told
from benchmarks.evidence.findings import Aim, Findings, Picture, Setting, Spread, Table, Workshop
from benchmarks.evidence.settings import recipe_for
from numpy.typing import NDArray

from scantwin import systems
from scantwin.evaluation.frechet import Gaussian, RandomFeatures, frechet_distance, gather
from scantwin.evaluation.made_ct import (
    TOLD,
    dice,
    litres,
    mask_regions,
    nearest,
    organ_means,
    small_copy,
    told_regions,
)
from scantwin.generation.fields import Field
from scantwin.generation.volumes import LowResource3D
from scantwin.generation.volumes_drawing import Order, draw
from scantwin.generation.volumes_figures import reconstructed
from scantwin.generation.volumes_views import mask_classes
from scantwin.imaging.picture_marks import panel, with_notice
from scantwin.imaging.pictures import SOFT_TISSUE, best_coronal_mm, ct_slice_image, save_png, slice_frame
from scantwin.imaging.volume import Volume
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.recipe import Recipe
from scantwin.terminal import Advance

_REPO: Final = Path(__file__).resolve().parents[2]
RECIPES: Final = ("low-resource-3d",)
"""Shipped recipes on which the figures depend."""
SIZES: Final = ("64,128,128", "128,256,256", "256,512,512")
"""Sizes in voxels (z, y, x) in the table of memory; the last is the one that the aim is about."""
ORGANS: Final = ("lung", "liver", "spleen", "kidney", "heart", "brain", "fluid", "bone", "fat")
"""Organs whose CT numbers are compared inside the mask."""


@dataclass
class Kind:
    """What was measured for one kind of CT (real, reconstructed, made), over the volumes."""

    features: Gaussian = field(default_factory=Gaussian)
    litres: dict[str, list[float]] = field(default_factory=dict)
    dice: dict[str, list[float]] = field(default_factory=dict)
    means: dict[str, list[float]] = field(default_factory=dict)
    distance: list[float] = field(default_factory=list)
    """Distance to the most similar training patient [HU]."""


def run(setting: Setting, workshop: Workshop, advance: Advance) -> Findings:
    """Train once; reconstruct held-out patients, make CTs from noise and after held-out patients' masks."""
    recipe = recipe_for(setting, "low-resource-3d")
    steps = setting.pick(1000, 12_000)
    model = workshop.trained(recipe, steps=steps, advance=advance)
    system = systems.restore(model)
    assert isinstance(system, LowResource3D)
    training, held_out, measured = chosen(workshop, recipe, setting.pick(4, None), advance)
    known = [small_copy(study.hu, study.body) for study in training]
    extractor = RandomFeatures()
    kinds = {name: Kind() for name in ("real, held out", "real, training", "reconstructed", "noise", "mask")}
    for number, study in enumerate(training[: len(held_out)]):
        rest = [copy for k, copy in enumerate(known) if k != number]
        _measure(kinds["real, training"], study, study.hu, extractor, rest, follows=True)
    shown: list[Volume] = []
    for number, study in enumerate(held_out):
        advance(number, len(held_out), "volumes")
        images = _images(system, study, seed=1000 + number)
        for name, image in images.items():
            _measure(kinds[name], study, image, extractor, known, follows=name != "noise")
        if not shown:
            shown = [study.grid.with_array(image, "HU") for image in images.values()]
    floor = _distance(kinds["real, training"], kinds["real, held out"])
    memory = [_memory(size) for size in setting.pick(SIZES[2:], SIZES)]
    return Findings(
        "Whole CT volumes",
        _text(setting, recipe, model.record, steps, measured, kinds, floor),
        (
            _likeness(kinds, extractor.name),
            _regions(kinds),
            _followed(kinds),
            _numbers(kinds),
            _memories(memory),
        ),
        (_picture(workshop, shown),),
        (_memory_aim(memory[-1]),),
        {"seconds": model.record["seconds"], "memory": memory},
    )


def chosen(
    workshop: Workshop, recipe: Recipe, most: int | None, advance: Advance
) -> tuple[list[PreparedStudy], list[PreparedStudy], str]:
    """All training patients and at most `most` held-out ones, both with sites in turn; and who, in words.

    The held-out patients are compared with as many of the first training patients.
    """
    training = in_turn(workshop.studies("training", recipe, advance))
    every = in_turn(workshop.studies("held-out", recipe, advance))
    held_out = every[:most]
    words = (
        f"Measured on {told(held_out, every, 'held-out patients')}; the rows of real training patients are "
        f"of {told(training[: len(held_out)], training, 'training patients')}."
    )
    return training, held_out, words


def _images(system: LowResource3D, study: PreparedStudy, seed: int) -> dict[str, NDArray[Any]]:
    """A held-out patient's CT [HU], its reconstruction, and CTs made on the same field of view."""
    shape = Field.of(study.hu.shape, study.grid.spacing)
    classes = mask_classes(study, system.rules)
    return {
        "real, held out": study.hu,
        "reconstructed": reconstructed(system, study, "whole-body"),
        "noise": draw(system, "whole-body", Order(shape, seed)),
        "mask": draw(system, "whole-body", Order(shape, seed, classes)),
    }


def _measure(
    into: Kind, study: PreparedStudy, image: NDArray[Any], extractor: RandomFeatures,
    known: list[NDArray[np.float32]], *, follows: bool,
) -> None:  # fmt: skip
    ct = study.grid.with_array(image, "HU")
    regions = told_regions(ct)
    body = regions["body"]
    gather(into.features, np.asarray(image, np.float32), body, SOFT_TISSUE, extractor)
    for name, value in litres(regions, ct.voxel_ml).items():
        into.litres.setdefault(name, []).append(value)
    into.distance.append(nearest(small_copy(image, body), known))
    if follows and study.organs is not None:
        wanted = mask_regions(study.organs)
        for name, mask in regions.items():
            into.dice.setdefault(name, []).append(dice(mask, wanted[name]))
        for organ, value in organ_means(image, study.organs).items():
            into.means.setdefault(organ, []).append(value)


def _distance(one: Kind, two: Kind) -> float | None:
    """The Frechet distance; None where what was made contains no body at all."""
    if min(one.features.count, two.features.count) < 2:
        return None
    return frechet_distance(one.features, two.features)


def _likeness(kinds: dict[str, Kind], extractor: str) -> Table:
    real = kinds["real, held out"]
    rows = tuple(
        (name, kind.features.count, None if kind is real else _distance(kind, real), Spread.of(kind.distance))
        for name, kind in kinds.items()
    )
    return Table(
        "Realism and memorisation",
        ("CTs", "slices", "Frechet distance to held-out CTs", "nearest training patient [HU]"),
        rows,
        f"Extractor {extractor}, 2.5D, window {SOFT_TISSUE[0]:.0f}..{SOFT_TISSUE[1]:.0f} HU: FD, not FID. "
        "Nearest training patient: mean absolute difference between small copies (48 x 12 x 16 voxels of "
        "the body's bounding box, clipped to the same window) where there is tissue, mean ± SD (n); a "
        "training patient is compared with the others. A memorised CT would be much nearer than held-out "
        "patients are; a blurred CT is a little nearer than a sharp one.",
    )


def _regions(kinds: dict[str, Kind]) -> Table:
    columns = (
        "region",
        *(f"{name} [l]" for name in kinds if name not in ("reconstructed", "real, training")),
    )
    shown = [kind for name, kind in kinds.items() if name not in ("reconstructed", "real, training")]
    rows = tuple((region, *(Spread.of(kind.litres[region]) for kind in shown)) for region in ("body", *TOLD))
    return Table(
        "Regional volumes", columns, rows,
        "Mean ± SD over volumes (n); regions are told from CT numbers by the same rules for all.",
    )  # fmt: skip


def _followed(kinds: dict[str, Kind]) -> Table:
    names = ("real, held out", "reconstructed", "mask")
    rows = tuple(
        (region, *(Spread.of(kinds[name].dice[region]) for name in names)) for region in ("body", *TOLD)
    )
    return Table(
        "Dice between the mask and regions told from CT numbers", ("region", *names), rows,
        "Mean ± SD over held-out patients (n). The real CT shows what these rules reach at this voxel size.",
    )  # fmt: skip


def _numbers(kinds: dict[str, Kind]) -> Table:
    rows = tuple(
        (organ, *(Spread.of(kinds[name].means.get(organ, [])) for name in ("real, held out", "mask")))
        for organ in ORGANS
    )
    return Table(
        "CT numbers inside the organs of the mask", ("organ", "real [HU]", "made after the mask [HU]"), rows,
        "Mean ± SD over patients (n) of the mean inside the mask, in absolute HU: nothing is rescaled.",
    )  # fmt: skip


def _memory(size: str) -> dict[str, Any]:
    """Peak memory for one size, measured in a process of its own."""
    order = json.dumps([[int(n) for n in size.split(",")], "low-resource-3d", 2, "cpu", True])
    child = [sys.executable, "-m", "benchmarks.volume_memory", "--child", order]
    ran = subprocess.run(child, check=True, capture_output=True, text=True, cwd=_REPO)
    return dict(json.loads(ran.stdout))


def _memories(memory: list[dict[str, Any]]) -> Table:
    rows = tuple(
        (
            " x ".join(str(n) for n in reversed(one["shape_zyx"])), one["peak_mb"] / 1000.0,
            one["seconds_a_step"], one["seconds_decoding"],
        )
        for one in memory
    )  # fmt: skip
    return Table(
        "Peak memory against size", ("voxels", "peak [GB]", "sampler step [s]", "decoding [s]"), rows,
        "Resident memory of the whole process on the CPU, with mask and adapter (the more expensive way).",
    )  # fmt: skip


def _memory_aim(one: dict[str, Any]) -> Aim:
    words = "peak memory on a CPU for 512 x 512 x 256 voxels: at most 16 GB"
    return Aim.at_most("volumes/memory", one["peak_mb"] / 1000.0, 16.0, words)


def _text(
    setting: Setting,
    recipe: Recipe,
    record: dict[str, Any],
    steps: int,
    measured: str,
    kinds: dict[str, Kind],
    floor: float | None,
) -> str:
    rules = recipe.volumes
    assert rules is not None
    made, real = (Spread.of(kinds[name].distance) for name in ("noise", "real, held out"))
    assert made and real
    return (
        f"One training of {steps} steps ({record['seconds']:.0f} s) on {setting.training} phantom patients "
        f"at {recipe.spacing_mm[0]:g} mm. {measured} {rules.sample_steps} network evaluations per volume "
        f"({rules.sampler}; in training {rules.steps} noise levels and {rules.error} errors; guidance "
        f"{rules.guidance:g}). Volumes are made on the fields of view of these held-out patients, from "
        "noise and after their organ masks.\n\n"
        f"By the same Frechet distance, real training patients are {floor or 0:.2g} from the held-out ones: "
        "it cannot tell what is as near as that from real CTs. A volume made from noise differs by "
        f"{made.mean:.0f} HU from the most similar training patient, a held-out patient by {real.mean:.0f} "
        "HU.\n\n"
        "Published (sources.md, 7): 512 x 512 x 256 voxels within 24 GB of GPU memory. The networks here "
        "are smaller and have no attention; whether they would learn as much from real CTs was not measured."
    )


def _picture(workshop: Workshop, shown: list[Volume]) -> Picture:
    frame = slice_frame(shown[0], "coronal", best_coronal_mm(shown[0]))
    names = ("phantom's CT", "reconstructed", "made from noise", "made after the mask")
    real, *made = (ct_slice_image(ct, frame=frame) for ct in shown)
    window = "{:g} to {:g} HU".format(*SOFT_TISSUE)
    row = [real, *map(with_notice, made)]
    picture = panel([row], columns=names, title=f"Whole volumes, coronal, {window}")
    save_png(picture, workshop.pictures / "volumes.png")
    return Picture(
        "volumes.png",
        "A held-out phantom: real, reconstructed by the autoencoder, made from noise, made after its mask.",
    )
