"""Preparing phantom patients in several processes; a separate module, so that these import no networks."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

from scantwin.imaging.reading import StudySource, find_studies, read_study
from scantwin.imaging.study import Study
from scantwin.interrupts import tie_worker
from scantwin.learning.cohort import Cohort
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.recipe import Recipe
from scantwin.terminal import Advance

Kind = tuple[Path, Recipe]
"""The cache of one way of preparing, and a recipe that asks for it."""


def prepared(folder: Path, kind: Kind, *, workers: int, advance: Advance) -> list[PreparedStudy]:
    """The studies below `folder` as a recipe needs them, in the order of their names; kept in its cache."""
    sources = prepare_all(folder, [kind], workers=workers, advance=advance)
    return _read(kind, [(source.path.name, partial(read_study, source)) for source in sources])


def prepare_all(folder: Path, kinds: Sequence[Kind], *, workers: int, advance: Advance) -> list[StudySource]:
    """Fill the caches of `kinds` with the studies below `folder`, each read once; return their sources."""
    sources = find_studies(folder)
    lacking = [kind for kind in kinds if len(list(kind[0].glob("*.safetensors"))) < len(sources)]
    if lacking:
        with ProcessPoolExecutor(workers, get_context("spawn"), tie_worker, (os.getpid(),)) as pool:
            for done, _ in enumerate(pool.map(partial(_into_caches, lacking), sources)):
                advance(done, len(sources), "preparing")
    return sources


def _into_caches(kinds: Sequence[Kind], source: StudySource) -> None:
    read = cache(partial(read_study, source))  # so the body is found once
    for kind in kinds:
        _read(kind, [(source.path.name, read)])


def _read(kind: Kind, named: Sequence[tuple[str, Callable[[], Study]]]) -> list[PreparedStudy]:
    place, recipe = kind
    return Cohort.prepare(named, recipe, place, held_out=0.0).training
