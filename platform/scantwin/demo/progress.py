"""Reads the progress of the training from the database."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sqlalchemy import select

from scantwin.demo.runner import Runner
from scantwin.demo.story import Story
from scantwin.imaging.study import DISTRICTS
from scantwin.settings import load_settings
from scantwin.store.database import Database
from scantwin.store.models import Round, Run, Site, Update

_last_look = 0.0
_METRICS = ("mae", "psnr", "ssim", "bias")


def follow_rounds(runner: Runner, story: Story, rounds: int) -> None:
    """Tells the story of the rounds so far, at most once a second; raises if a service has ended."""
    global _last_look  # noqa: PLW0603 - a clock, not state
    if time.monotonic() - _last_look < 1.0:
        return
    _last_look = time.monotonic()
    runner.check()
    with _database(runner.home).session() as session:
        found = session.scalars(select(Round).order_by(Round.number)).all()
        for one in found:
            story.round(one.number, _held_out(one))
        if found:
            updates = session.scalars(select(Update).where(Update.round_id == found[-1].id)).all()
            story.say(f"round {found[-1].number} of {rounds}, {len(updates)} updates received")


def read_rounds(home: Path, run_id: str) -> dict[str, Any]:
    """`rounds` and `baselines` of demo.json for one run."""
    with _database(home).session() as session:
        run = session.get_one(Run, run_id)
        names = {site.id: site.name for site in session.scalars(select(Site))}
        rounds, baselines = [], {}
        for one in session.scalars(select(Round).where(Round.run_id == run.id).order_by(Round.number)):
            updates = session.scalars(select(Update).where(Update.round_id == one.id))
            sites = {
                names[u.site_id]: {"status": u.status, "patches": u.patches, "metrics": u.metrics}
                for u in updates
            }
            rounds.append({"round": one.number, "sites": sites, "held_out": _held_out(one)})
            if one.references:
                baselines = {
                    who: {d: _means(values) for d, values in figures.items() if d in DISTRICTS}
                    for who, figures in one.references.items()
                }
    return {"rounds": rounds, "baselines": baselines}


def _held_out(one: Round) -> dict[str, dict[str, float]]:
    figures = one.held_out or {}
    return {d: _means(figures[d]) for d in DISTRICTS if d in figures}


def _means(values: dict[str, Any]) -> dict[str, float]:
    return {name: values[name]["mean"] for name in _METRICS if name in values}


def _database(home: Path) -> Database:
    # A database named in the environment is not the demo's; its programs do not see that variable either.
    return Database(load_settings(home=home, database_url=None).database)
