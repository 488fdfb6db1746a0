"""Inpainting of CT slices, per organ: diffusion, the Pix2Pix it builds on, and the neighbouring slice."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from benchmarks.evidence.distances import distance_over
from benchmarks.evidence.findings import Aim, Findings, Picture, Setting, Spread, Table, Workshop
from benchmarks.evidence.inpainting_found import (
    ORGANS,
    REGION_MM,
    Distances,
    Found,
    Made,
    distances_of,
    extractors,
    slices_of,
)
from benchmarks.evidence.inpainting_words import LIMIT, TRIED, text_of
from benchmarks.evidence.settings import recipe_for
from numpy.typing import NDArray
from PIL import Image

from scantwin import systems
from scantwin.evaluation.borders import border_jump, slice_step
from scantwin.evaluation.frechet import Gaussian, RandomFeatures
from scantwin.generation.inpainting import METHODS, CTInpainting, Method
from scantwin.generation.painting import regenerate
from scantwin.generation.regions import Region, ellipsoid, part_at, with_ring
from scantwin.imaging.organs import ORGAN_LABEL, OrganClass
from scantwin.imaging.picture_marks import panel, with_notice
from scantwin.imaging.pictures import SOFT_TISSUE, ct_slice_image, save_png
from scantwin.imaging.volume import Volume
from scantwin.learning.prepared import PreparedStudy
from scantwin.terminal import Advance

RECIPES: Final = ("ct-inpainting",)

PUBLISHED: Final = {
    "kidney": (0.47, 11.9, 0.07), "lung": (2.42, 28.1, 0.05), "liver": (0.82, 19.7, 0.07),
    "tumour": (1.09, 15.5, 1.25),
}  # fmt: skip
"""FID of diffusion, Pix2Pix and neighbouring slice (sources.md, 7): other scans, other features."""

WINDOW: Final = {"lung": (-1100.0, 200.0)}
"""Windows shown to the extractor [HU]: lung has its own, the rest a soft-tissue window."""

_FEWEST: Final = 12
"""A slice counts if its region has at least so many pixels."""
_TILE: Final = 320
"""Width of a region in the picture [pixels]."""
_SEEN: Final = 12
"""Pixels around a region that are shown to the extractor: its features reach no further."""


def run(setting: Setting, workshop: Workshop, advance: Advance) -> Findings:
    """Train the Pix2Pix, then the diffusion; let both make the same regions of held-out patients anew."""
    recipe = recipe_for(setting, "ct-inpainting")
    steps = setting.pick(1200, 8000)
    model = workshop.trained(recipe, steps=steps, advance=advance)
    system = systems.restore(model)
    assert isinstance(system, CTInpainting)
    studies = workshop.studies("held-out", recipe, advance)
    ways = ("real", *METHODS, "neighbour")
    found: Found = {organ: {way: Made() for way in ways} for organ in ORGANS}
    shown: dict[OrganClass, list[Volume]] = {}
    for number, study in enumerate(studies):
        advance(number, len(studies), "inpainting")
        for organ in ORGANS:
            region = region_in(study, organ, system.rules.ring_mm, seed=number)
            if region is None:
                continue
            made = {m: _regenerated(system, study, region, m, number) for m in METHODS}
            images = [study.hu, *made.values(), _neighbour(study.hu)]
            for who, image in zip(ways, images, strict=True):
                _measure(found[organ][who], study, region, image, organ)
            if organ not in shown:
                shown[organ] = _row(study, region, made)
    distances = {o: distances_of(found[o]) for o in ORGANS}
    of_grain = {o: distances_of(found[o], lambda made: made.grain) for o in ORGANS}
    return Findings(
        "Inpainting of CT slices",
        text_of(setting, model, recipe, steps, len(studies), found, distances, of_grain),
        (_frechet_table(found, distances), _grain_table(found, of_grain), _quality_table(found)),
        (_picture(workshop, shown),),
        tuple(_aim(organ, found[organ]) for organ in ORGANS),
        {"seconds": model.record["seconds"], "frechet": distances, "frechet_of_grain": of_grain},
    )


def region_in(study: PreparedStudy, organ: OrganClass, ring_mm: float, seed: int) -> Region | None:
    """A tumour with its ring, or the part of an organ inside a random ellipsoid; None without the organ."""
    assert study.organs is not None
    mask = study.organs == ORGAN_LABEL[organ]
    voxels = np.argwhere(mask)
    if not len(voxels):
        return None
    random = np.random.default_rng([seed, ORGAN_LABEL[organ]])
    voxel = tuple(int(n) for n in voxels[random.integers(len(voxels))])
    if organ == "tumour":
        return with_ring(part_at(mask, voxel), study.grid.spacing, ring_mm) & study.body
    region = mask & ellipsoid(mask.shape, study.grid.spacing, voxel, REGION_MM, random)
    return np.asarray(region, np.bool_)


def _regenerated(
    system: CTInpainting, study: PreparedStudy, region: Region, method: Method, seed: int
) -> NDArray[np.float32]:
    assert study.organs is not None
    ct = study.grid.with_array(study.hu, "HU")
    made = regenerate(system, ct, region, study.organs, method=method, seed=seed)
    return np.asarray(made.array, np.float32)


def _neighbour(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each slice replaced by the one above it."""
    return np.concatenate([hu[1:], hu[-1:]])


def _measure(
    into: Made, study: PreparedStudy, region: Region, image: NDArray[np.float32], organ: OrganClass
) -> None:  # fmt: skip
    low, high = WINDOW.get(organ, SOFT_TISSUE)
    own = Gaussian(), Gaussian()
    for z in np.flatnonzero(region.sum(axis=(1, 2)) >= _FEWEST):
        box = _around(region[z])
        shown = np.clip((image[z][box] - low) / (high - low), 0.0, 1.0).astype(np.float32)
        one, where = (
            torch.from_numpy(part)[None, None] for part in (shown, region[z][box].astype(np.float32))
        )
        for gathered, extractor in zip(own, extractors(), strict=True):
            gathered.add(extractor(one, where).double().numpy())
    into.features.append(own[0])
    into.grain.append(own[1])
    real = study.hu
    into.mae.append(float(np.abs(image[region] - real[region]).mean()))
    into.border.append(border_jump(image, region) / border_jump(real, region))
    into.step.append(slice_step(image, region) / slice_step(real, region))


def _around(inside: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The box around a slice's region, with as much of its surroundings as the extractor sees."""
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    low = max(rows[0] - _SEEN, 0), max(columns[0] - _SEEN, 0)
    return slice(low[0], rows[-1] + 1 + _SEEN), slice(low[1], columns[-1] + 1 + _SEEN)


def _aim(organ: OrganClass, made: dict[str, Made]) -> Aim:
    diffusion, pix2pix, real = (made[way].features for way in ("diffusion", "pix2pix", "real"))
    ratio = distance_over(diffusion, pix2pix, real)
    words = f"Frechet distance of the diffusion over that of Pix2Pix, {organ}: at most {LIMIT:.2f}"
    return Aim.at_most(f"inpainting/{organ}", ratio, LIMIT, words, *TRIED)


def _frechet_table(found: Found, distances: Distances) -> Table:
    extractor, _ = extractors()
    rows = tuple(
        (
            organ, slices_of(found[organ]),
            *(distances[organ].get(who) for who in (*METHODS, "neighbour")),
            " / ".join(f"{v:g}" for v in PUBLISHED[organ]),
        )
        for organ in ORGANS
    )  # fmt: skip
    return Table(
        "Frechet distance to the real slices",
        ("organ", "slices", "diffusion", "Pix2Pix", "neighbouring slice", "published FID of the three"),
        rows,
        f"Extractor {extractor.name}: FD, not FID, so not comparable with the published figures. Axial "
        "slices, features of the region in its surroundings, windows "
        f"{SOFT_TISSUE[0]:.0f}..{SOFT_TISSUE[1]:.0f} HU and, for lung, "
        f"{WINDOW['lung'][0]:.0f}..{WINDOW['lung'][1]:.0f} HU. "
        + _slices_and_features(found, distances, _features_of(extractor)),
    )


def _grain_table(found: Found, distances: Distances) -> Table:
    _, extractor = extractors()
    ways = (*METHODS, "neighbour")
    rows = tuple(
        (organ, slices_of(found[organ]), *(distances[organ].get(way) for way in ways)) for organ in ORGANS
    )
    return Table(
        "Frechet distance of grain to the real slices",
        ("organ", "slices", "diffusion", "Pix2Pix", "neighbouring slice"),
        rows,
        f"Extractor {extractor.name}: the first layer of the one above, three pixels wide; the same slices "
        f"and windows. A slice gives {_features_of(extractor)} features.",
    )


def _features_of(extractor: RandomFeatures) -> int:
    """Number of features per slice."""
    return int(extractor(torch.zeros(1, 1, 16, 16)).shape[1])


def _slices_and_features(found: Found, distances: Distances, features: int) -> str:
    """What the distances are worth with so many slices of `features` numbers each."""
    told = f"A slice gives {features} features."
    few = [organ for organ in ORGANS if distances[organ] and slices_of(found[organ]) < features]
    if not few:
        return told
    shares = [_share_of_means(found[organ], distances[organ]) for organ in few]
    return (
        f"{told} With fewer slices than that ({', '.join(few)}) the covariances are singular, and the "
        "distance is biased upwards for every way of making. The bias is largest where slices vary on their "
        "own, as with a sample's noise and a neighbour's tissue. The part between the means "
        f"({min(shares):.2f} to {max(shares):.2f} of the distance of the diffusion) is the most reliable."
    )


def _share_of_means(made: dict[str, Made], distances: dict[str, float]) -> float:
    """Share of the diffusion's distance that lies between the means."""
    (one, _), (real, _) = (Gaussian.together(made[way].features).moments() for way in ("diffusion", "real"))
    return float(((one - real) ** 2).sum() / max(distances["diffusion"], 1e-12))


def _quality_table(found: Found) -> Table:
    rows = tuple(
        (f"{organ}, {who}", Spread.of(one.mae), Spread.of(one.border), Spread.of(one.step))
        for organ in ORGANS
        for who, one in found[organ].items()
        if who in METHODS
    )
    return Table(
        "Error, border jump and slice step",
        (
            "region",
            "MAE [HU]",
            "jump across the border, over the real one",
            "step between slices, over the real one",
        ),
        rows,
        "Mean ± SD over regions (n). A sample is not meant to be the truth: its texture adds to the MAE of "
        "Pix2Pix, which predicts what is likeliest. In the last two columns, 1 is as in the real CT.",
    )


def _row(study: PreparedStudy, region: Region, made: dict[Method, NDArray[np.float32]]) -> list[Volume]:
    """The region's middle slice, 140 mm wide: the region, the CT, and the CT that each method makes."""
    z, y, x = (round(float(c)) for c in np.argwhere(region).mean(axis=0))
    reach = [int(70 / s) for s in study.grid.spacing[1:]]
    low = (z, max(y - reach[0], 0), max(x - reach[1], 0))
    high = (z + 1, min(y + reach[0], region.shape[1]), min(x + reach[1], region.shape[2]))
    images = [study.grid.with_array(hu, "HU").crop(low, high) for hu in (study.hu, *made.values())]
    return [study.grid.with_array(region.astype(np.uint8), "label").crop(low, high), *images]


def _picture(workshop: Workshop, shown: dict[OrganClass, list[Volume]]) -> Picture:
    rows: list[list[Image.Image]] = []
    for organ, (region, *volumes) in shown.items():
        window = WINDOW.get(organ, SOFT_TISSUE)
        images = [ct_slice_image(v, plane="axial", window=window, outlined=region) for v in volumes]
        small = [image.resize((_TILE, _TILE * image.height // image.width)) for image in images]
        rows.append([small[0], *map(with_notice, small[1:])])
    names = [
        f"{organ}, {low:g} to {high:g} HU"
        for organ in shown
        for low, high in [WINDOW.get(organ, SOFT_TISSUE)]
    ]
    picture = panel(rows, columns=("phantom's CT", *METHODS), names=names, title="Regions made anew, axial")
    save_png(picture, workshop.pictures / "inpainting.png")
    return Picture(
        "inpainting.png",
        "One region (outlined) per organ, of a held-out phantom: its own CT, diffusion, Pix2Pix.",
    )
