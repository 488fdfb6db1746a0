"""Preparing phantom patients in several processes; a module of its own, so that they import no networks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from scantwin.imaging.reading import StudySource, find_studies, read_study
from scantwin.interrupts import tie_worker
from scantwin.learning.cohort import Cohort
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.recipe import Recipe
from scantwin.terminal import Advance


def prepared(
    folder: Path, recipe: Recipe, cache: Path, *, workers: int, advance: Advance
) -> list[PreparedStudy]:
    """The studies below `folder` as `recipe` wants them, in the order of their names; kept in `cache`.

    `cache` is for this recipe's way of preparing only.
    """
    sources = find_studies(folder)
    if len(list(cache.glob("*.safetensors"))) < len(sources):
        with ProcessPoolExecutor(workers, get_context("spawn"), tie_worker, (os.getpid(),)) as pool:
            for done, _ in enumerate(pool.map(partial(_into_cache, recipe, cache), sources)):
                advance(done, len(sources), "preparing")
    return _read(recipe, cache, sources)


def _into_cache(recipe: Recipe, cache: Path, source: StudySource) -> None:
    _read(recipe, cache, [source])


def _read(recipe: Recipe, cache: Path, sources: Sequence[StudySource]) -> list[PreparedStudy]:
    named = [(source.path.name, partial(read_study, source)) for source in sources]
    return Cohort.prepare(named, recipe, cache, held_out=0.0).training
