"""Phantom patients by site, or with sites in turn where not all are measured: names begin with the site."""

from __future__ import annotations

from itertools import chain, zip_longest

from scantwin.learning.prepared import PreparedStudy


def by_site(studies: list[PreparedStudy]) -> dict[str, list[PreparedStudy]]:
    """The patients of each site; a patient's name begins with the site's."""
    sites: dict[str, list[PreparedStudy]] = {}
    for study in studies:
        sites.setdefault(study.name.split("-")[0], []).append(study)
    return sites


def in_turn(studies: list[PreparedStudy]) -> list[PreparedStudy]:
    """All of `studies`, sites in turn: the first patient of each site, then the second of each, and so on."""
    turns = zip_longest(*by_site(studies).values())
    return [study for study in chain.from_iterable(turns) if study is not None]


def told(chosen: list[PreparedStudy], among: list[PreparedStudy], who: str) -> str:
    """How many of how many, and of how many sites: `4 of 10 held-out patients, of all 3 sites`."""
    sites, every = len(by_site(chosen)), len(by_site(among))
    count = f"all {len(among)}" if len(chosen) == len(among) else f"{len(chosen)} of {len(among)}"
    of = "one site" if every == 1 else f"all {every} sites" if sites == every else f"{sites} of {every} sites"
    return f"{count} {who}, of {of}"
