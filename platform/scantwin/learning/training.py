"""The one training loop: districts take turns, weights are averaged over time, a kill costs little.

Every random choice depends on (seed, step) only, so a training of so many steps that was killed and goes on
from its checkpoint reaches the same losses as one that was not. One in a budget of time goes on as well, but
its schedules follow the clock: no two of those are the same, killed or not.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from scantwin.errors import InputError
from scantwin.learning.drawing_ahead import drawn_ahead
from scantwin.learning.machine import drawers
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.system import Movable, System
from scantwin.learning.training_state import TrainingState, diverged
from scantwin.terminal import Advance, silent

Name = TypeVar("Name", bound=str)

_CHECKPOINT_EVERY_S = 60.0
"""A kill loses at most about this much work [s]."""


@dataclass(frozen=True)
class TrainingResult:
    """What a training did."""

    steps: int
    losses: dict[str, float] = field(default_factory=dict)
    """Mean of each loss over the last tenth of the steps, keyed `district/loss`."""
    patches: dict[str, int] = field(default_factory=dict)
    """Component -> patches behind it in this training."""
    seconds: float = 0.0
    chosen_step: int | None = None
    """Step whose weights were delivered, where a watcher chose it."""


class Watcher(Protocol):
    """What looks at a training from time to time and says which weights are worth delivering."""

    takes_s: float
    """How long a look takes [s]: in a budget there must be time for a last one."""
    scores: dict[int, dict[str, float]]
    """Step -> what was found there, by name. The training's: they survive a kill with it."""

    def due(self, before: float, now: float) -> bool:
        """Whether to look, `before` and `now` being shares of the training done."""

    def look(self, step: int, *, scored: bool) -> float | None:
        """A score of the system, lower is better, or None. The averaged weights are in it meanwhile.

        Without `scored` nobody asks for one any more.
        """


def train(
    system: System,
    studies: list[PreparedStudy],
    *,
    steps: int,
    seed: int,
    span: tuple[float, float] = (0.0, 1.0),
    budget_s: float | None = None,
    resume: Path | None = None,
    advance: Advance = silent,
    after_step: Callable[[int], None] | None = None,
    watcher: Watcher | None = None,
) -> TrainingResult:
    """Trains `system` on `studies` for `steps` steps, or until `budget_s` [s] is used up.

    `span` is which part of the whole training this is (0 to 1): the learning rate's schedule runs over the
    whole, and follows the clock where there is a budget. With `resume` the state is kept in that file and a
    training found there goes on. Of the weights that `watcher` scores the best are delivered; without any
    score, the averaged weights at the end. Raises `ScanTwinError` when the training diverges: the state in
    the file is then one of before.
    """
    recipe = system.recipe
    samplers = {d: system.sampler(studies, d, seed) for d in recipe.districts}
    turns = take_turns({d: recipe.shares.get(d, 1.0) for d in recipe.districts if samplers[d]}, steps)
    if not turns:
        raise InputError("No study has any district that this recipe learns.", hint="Check its districts.")
    # Whose checkpoint it is costs a look at every image.
    whose = {"seed": seed, "span": list(span), "studies": _digest(studies)} if resume else {}
    state = TrainingState(system, whose)
    first = _begin(state, resume, watcher)
    saved = time.monotonic()
    began = saved - state.spent_s
    scored = -1

    def share_done(step: int) -> float:
        # What stands still half-way is looked at no more, and its second half must not begin anew.
        last_look = watcher.takes_s if watcher and system.settles_at >= 1.0 else 0.0
        return _fraction(step, steps, state.spent_s + last_look, budget_s)

    # A look that was due when the killed training was about to go on from here is still due.
    done, before = first, state.before if first else share_done(0)

    def draw(step: int) -> Movable:
        return samplers[turns[step]].batch(step)

    with closing(drawn_ahead(draw, range(first, steps), drawers(system.device))) as batches:
        for step in range(first, steps):
            state.spent_s = time.monotonic() - began
            fraction = share_done(step)
            if watcher and watcher.due(before, fraction):
                scored = step if _look(watcher, state, step) else scored
            before = state.before = fraction
            if fraction >= 1.0:
                break
            district = turns[step]
            progress = span[0] + (span[1] - span[0]) * fraction
            if progress >= system.settles_at and not state.settled:
                if watcher and step and scored != step:
                    _look(watcher, state, step)
                state.settle()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed((seed * 1_000_003 + step) % 2**63)  # for what networks drop out
                batch = next(batches).to(system.device)
                losses = system.training_step(district, batch, progress)
            _require_numbers(losses, district, step + 1)
            state.after(district, losses)
            done = step + 1
            advance(done, steps, f"{district} {_first(losses)}")
            if resume and time.monotonic() - saved > _CHECKPOINT_EVERY_S:
                _save(state, resume, done, began)
                saved = time.monotonic()
            if after_step:
                after_step(done)
    if resume:
        _save(state, resume, done, began)
    if watcher and scored != done:
        _look(watcher, state, done)
    state.deliver()
    chosen = state.best_step if math.isfinite(state.best_score) else None
    seconds = time.monotonic() - began
    return TrainingResult(done, state.mean_losses(), dict(state.patches), seconds, chosen)


def _require_numbers(losses: dict[str, float], district: str, step: int) -> None:
    """Raises what `diverged` says: no later step mends it."""
    for name, value in losses.items():
        if not math.isfinite(value):
            raise diverged(step, f"the loss {name} of the {district}")


def _begin(state: TrainingState, resume: Path | None, watcher: Watcher | None) -> int:
    """The step to go on from; a watcher is told what was found before, and how long that took."""
    first = state.load(resume) if resume else 0
    if watcher:
        watcher.scores = state.scores
        watcher.takes_s = state.look_takes_s if first else watcher.takes_s
    return first


def _save(state: TrainingState, path: Path, done: int, began: float) -> None:
    state.spent_s = time.monotonic() - began  # looks and the last step included
    state.save(path, done)


def _look(watcher: Watcher, state: TrainingState, step: int) -> bool:
    """Whether there was a score: a look may have been for a picture only."""
    with state.lent_average():
        score = watcher.look(step, scored=not state.settled)
        state.look_takes_s = watcher.takes_s
        if score is not None:
            state.keep_if_best(score, step)
    return score is not None


def _digest(studies: list[PreparedStudy]) -> str:
    """Tells one set of studies from another: whose they are, and their images' sums."""
    told = [
        (
            study.name,
            *study.hu.shape,
            float(study.hu.sum()),
            0.0 if study.suv is None else float(study.suv.sum()),
        )
        for study in studies
    ]
    return hashlib.sha256(repr(told).encode()).hexdigest()


def _first(losses: dict[str, float]) -> str:
    return next((f"{name} {value:.3f}" for name, value in losses.items()), "")


def take_turns(shares: dict[Name, float], steps: int) -> list[Name]:
    """Whose turn each step is (which district it trains): spread evenly, in proportion to the shares."""
    credit = dict.fromkeys(shares, 0.0)
    total = sum(shares.values())
    turns: list[Name] = []
    for _ in range(steps if shares else 0):
        for name, share in shares.items():
            credit[name] += share / total
        chosen = max(credit, key=lambda name: credit[name])
        credit[chosen] -= 1.0
        turns.append(chosen)
    return turns


def _fraction(step: int, steps: int, elapsed_s: float, budget_s: float | None) -> float:
    return step / steps if budget_s is None else max(step / steps, elapsed_s / budget_s)
