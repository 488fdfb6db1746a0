"""Reports foreseeable problems before anything is made or an earlier demo is replaced."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from scantwin.demo.plan import DemoOptions
from scantwin.errors import InputError, MissingExtra, Rejection, ResourceError
from scantwin.terminal import say_rejection

Patient = list[Path]
"""The folders of one patient's studies."""

Groups = list[tuple[str, list[Patient]]]
"""Sites by name, each with its patients; the site with the most patients first."""

_FEWEST: Final = 2
"""Least number of patients of a site: with fewer it refuses to train (`SitePolicy.min_studies`)."""

_PARTS: Final = ("torch", "monai", "flwr", "grpc", "grpc_health", "psutil", "safetensors")
_SERVED: Final = ("streamlit", "altair")

_PHANTOM_DISK: Final = 2.0e9
"""Disk space for a demo on phantoms [bytes]: 1.7 GB were measured, mostly the sites' prepared studies."""
_REAL_DISK: Final = (0.5e9, 8.0)
"""On real studies: a fixed part, plus a multiple of the studies' size [bytes, 1]."""


def check(options: DemoOptions) -> Groups:
    """Raises what would stop this demo later; returns the real studies as sites, none for phantoms."""
    from scantwin.learning.recipe import Recipe

    wanted = (*_PARTS, *_SERVED) if options.serve else _PARTS
    if any(find_spec(name) is None for name in wanted):
        raise MissingExtra("scantwin demo", "all")
    if Recipe.load(options.recipe).makes_ct:
        raise InputError(
            f"The recipe {options.recipe} makes CT, and the demo scans a patient.",
            hint="Choose a recipe that makes PET, or leave out --recipe.",
        )
    groups = [] if options.data is None else _real_sites(options.data, options.sites)
    needed = _PHANTOM_DISK if options.data is None else _REAL_DISK[0] + _REAL_DISK[1] * _size(groups)
    _require_disk(options.out, needed)
    return groups


def _real_sites(data: Path, sites: int) -> Groups:
    """Groups real studies into sites by the voxel size of their PET, which tells scanners apart."""
    from scantwin.imaging.reading import find_studies, read_study

    if not data.is_dir():
        raise InputError(f"There is no folder {data}.", hint="Check --data.")
    groups: dict[tuple[float, ...], dict[str, Patient]] = defaultdict(dict)
    without_pet = 0
    for source in find_studies(data):
        if source.place:  # the demo copies folders
            say_rejection(Rejection(f"{source.path} is a zip with a study in it. Unpack it for the demo."))
            continue
        try:
            study = read_study(source)
        except Rejection as rejection:
            say_rejection(rejection)
            continue
        if study.pet is None:
            without_pet += 1
        elif source.kind == "nifti":
            place = tuple(round(s, 2) for s in study.pet.spacing)
            groups[place].setdefault(source.patient or str(source.path), []).append(source.path)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    most = len(ordered[0][1]) if ordered else 0
    if most <= _FEWEST:
        ct_only = f"; {without_pet} studies have no PET" if without_pet else ""
        raise InputError(
            f"{data} holds too few patients for a demo: {most} of one scanner with CT and PET as "
            f"NIfTI{ct_only}.",
            hint="A site trains on two patients or more, and one more is scanned.",
        )
    # The last patient of the largest site is the new one, who is taken out of all other sites.
    new = list(ordered[0][1])[-1]
    for _, patients in ordered[1:]:
        patients.pop(new, None)
    largest = [group for group in ordered if len(group[1]) >= _FEWEST][:sites]
    names = _names([spacing for spacing, _ in largest])
    return [(name, [*patients.values()]) for name, (_, patients) in zip(names, largest, strict=True)]


def _names(spacings: list[tuple[float, ...]]) -> list[str]:
    """Site names from the PETs' voxels (z, y, x) [mm]: from the width alone if that tells them apart."""
    by_width = [f"site-{spacing[-1]:.2f}mm" for spacing in spacings]
    whole = ["site-" + "x".join(f"{edge:.2f}" for edge in reversed(spacing)) + "mm" for spacing in spacings]
    found = by_width if len(set(by_width)) == len(spacings) else whole
    return [name.replace(".", "-") for name in found]


def _size(groups: Groups) -> float:
    paths = (path for _, patients in groups for patient in patients for path in patient)
    files = (file for path in paths for file in path.rglob("*") if file.is_file())
    return float(sum(file.stat().st_size for file in files))


def _require_disk(out: Path, needed: float) -> None:
    folder = out.absolute()
    while not folder.is_dir():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        raise ResourceError(f"Nothing can be written in {folder}.", hint="Choose another folder with --out.")
    free = shutil.disk_usage(folder).free
    # What an earlier demo left there will be replaced.
    free += sum(path.lstat().st_size for path in out.rglob("*")) if out.is_dir() else 0
    if free < needed:
        raise ResourceError(
            f"The disk of {out} has {free / 1e9:.1f} GB left; the demo needs about {needed / 1e9:.1f} GB.",
            hint="Free some space or choose another folder with --out.",
        )
