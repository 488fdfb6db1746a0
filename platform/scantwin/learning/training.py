"""The one training loop: districts take turns, weights are averaged over time, a kill costs little.

Every random choice depends on (seed, step) only, so a training of a fixed number of steps that was killed and
resumes from its checkpoint reaches the same losses as an uninterrupted one. One with a time budget resumes as
well, but its schedules follow the clock: no two of those are the same, killed or not.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from scantwin.errors import InputError
from scantwin.imaging.study import District
from scantwin.interrupts import held_back
from scantwin.learning.drawing_ahead import drawn_ahead
from scantwin.learning.machine import drawers
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.system import Movable, System
from scantwin.learning.training_state import TrainingState, diverged
from scantwin.terminal import Advance, silent

Name = TypeVar("Name", bound=str)

_CHECKPOINT_EVERY_S = 60.0
"""A kill that cannot be handled (SIGKILL, a power cut) loses at most about this much work [s]."""

_FIRST_CHECKPOINT_S = 5.0
"""The first checkpoint comes sooner [s]."""


@dataclass(frozen=True)
class TrainingResult:
    """What a training did."""

    steps: int
    losses: dict[str, float] = field(default_factory=dict)
    """Mean of each loss over the last tenth of the steps, keyed `district/loss`."""
    patches: dict[str, int] = field(default_factory=dict)
    """Component -> patches that it was trained on in this training."""
    seconds: float = 0.0
    chosen_step: int | None = None
    """Step whose weights were delivered, if a watcher chose it; where a first network is frozen and a second
    one learns on, that of the first."""


class Watcher(Protocol):
    """Looks at a training from time to time and says which weights are worth delivering."""

    takes_s: float
    """How long a look takes [s]: a time budget must leave room for a last one."""
    scores: dict[int, dict[str, float]]
    """Step -> what was found there, by name. They belong to the training and survive a kill with it."""

    def due(self, before: float, now: float) -> bool:
        """Whether a look is due; `before` and `now` are shares of the training done."""

    def look(self, step: int, *, scored: bool) -> float | None:
        """A score of the system, lower is better, or None. Meanwhile the system has the averaged weights.

        Without `scored` the score is no longer used.
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
    held_out: Sequence[PreparedStudy] = (),
) -> TrainingResult:
    """Trains `system` on `studies` for `steps` steps, or until `budget_s` [s] is used up.

    `span` is the part of the whole training that this is (0 to 1): the learning rate's schedule runs over the
    whole, and follows the clock if there is a budget. With `resume` the state is kept in that file, and a
    training found there is resumed if its seed, span, recipe, studies and those that the `watcher` scores on
    (`held_out`) are the same; `steps` and `budget_s` may differ. Of the weights that were scored the best are
    delivered; without any score, the averaged weights at the end. Raises `ScanTwinError` when the training
    diverges: the file then holds an earlier state. Raises `InputError` if a district to be learnt got no step
    within `budget_s`.
    """
    recipe = system.recipe
    samplers = {d: system.sampler(studies, d, seed) for d in recipe.districts}
    shares = {d: recipe.shares.get(d, 1.0) for d in recipe.districts if samplers[d]}
    if not shares:
        raise InputError("No study has any district that this recipe learns.", hint="Check its districts.")
    # Identifying the training that a checkpoint belongs to takes a look at every image.
    whose: dict[str, Any] = {}
    if resume:
        told = {"studies": _digest(studies), "held-out studies": _digest(held_out)}
        whose = {"seed": seed, "span": list(span), **told}
    run = _Run(TrainingState(system, whose), watcher, resume, steps, budget_s)

    def turns() -> Iterator[tuple[int, District]]:
        return islice(enumerate(endless_turns(shares)), run.done, steps)

    def draw(turn: tuple[int, District]) -> Movable:
        step, district = turn
        return samplers[district].batch(step)

    with closing(drawn_ahead(draw, turns(), drawers(system.device))) as batches, run.kept_when_ended():
        for step, district in turns():
            fraction = run.arrive()
            if fraction >= 1.0:
                break
            progress = span[0] + (span[1] - span[0]) * fraction
            run.settle_at(progress)
            with run.whole_step(), torch.random.fork_rng(devices=[]):
                torch.manual_seed((seed * 1_000_003 + step) % 2**63)  # for the networks' dropout
                batch = next(batches).to(system.device)
                run.after(district, losses := system.training_step(district, batch, progress))
            advance(run.done, steps, f"{district} {_first(losses)}")
            run.save_now_and_then()
            if after_step:
                after_step(run.done)
    run.require_steps_of(shares)
    return run.result()


class _Run:
    """A training in progress: how far it is, and what is looked at and saved meanwhile."""

    def __init__(
        self, state: TrainingState, watcher: Watcher | None, checkpoint: Path | None, steps: int,
        budget_s: float | None,
    ) -> None:  # fmt: skip
        self.state, self.watcher, self.checkpoint = state, watcher, checkpoint
        self.steps, self.budget_s = steps, budget_s
        self.done = state.load(checkpoint) if checkpoint else 0
        """Steps done, including those before a kill."""
        if watcher:
            watcher.scores = state.scores
            watcher.takes_s = state.look_takes_s if self.done else watcher.takes_s
        now = time.monotonic()
        self._began = now - state.spent_s
        self._save_at = now + min(_FIRST_CHECKPOINT_S, _CHECKPOINT_EVERY_S)
        self._is_whole = True
        self._scored = -1
        # A look that was due when the training was killed, before this step, is still due.
        self._before = state.before if self.done else self._share_done()

    def arrive(self) -> float:
        """Share of the training done before the next step; takes a look if one is due."""
        self.state.spent_s = time.monotonic() - self._began
        fraction = self._share_done()
        if self.watcher and self.watcher.due(self._before, fraction):
            self._look()
        self._before = self.state.before = fraction
        return fraction

    def _share_done(self) -> float:
        # If the first stage is frozen half-way, there is no last look, and the second must not begin anew.
        looks_last = self.watcher and self.state.system.settles_at >= 1.0
        last_look = self.watcher.takes_s if self.watcher and looks_last else 0.0
        return _fraction(self.done, self.steps, self.state.spent_s + last_look, self.budget_s)

    def settle_at(self, progress: float) -> None:
        """Freezes what learnt first, at its best, once its share of the training is over."""
        if self.state.settled or progress < self.state.system.settles_at:
            return
        if self.done and self._scored != self.done:
            self._look()
        with self.whole_step():
            self.state.settle()

    @contextmanager
    def whole_step(self) -> Iterator[None]:
        """Signals that come meanwhile are handled at the end: no training could resume from half a step."""
        self._is_whole = False
        with held_back():
            yield
            self._is_whole = True

    @contextmanager
    def kept_when_ended(self) -> Iterator[None]:
        """Ending the training (Ctrl-C, SIGTERM) loses no step of it."""
        try:
            yield
        except KeyboardInterrupt:
            if self._is_whole and self.done:
                self._save()
            raise

    def after(self, district: District, losses: dict[str, float]) -> None:
        """Counts a step on `district`. Raises the error of `diverged`: no later step would mend it."""
        for name, value in losses.items():
            if not math.isfinite(value):
                raise diverged(self.done + 1, f"the loss {name} of the {district}")
        self.state.after(district, losses)
        self.done += 1

    def require_steps_of(self, districts: Iterable[District]) -> None:
        """Raises `InputError` if the budget left a district without any step: nothing was learnt there."""
        taught = {name.split("/")[0] for name in self.state.losses}
        missing = [district for district in districts if district not in taught]
        if self.budget_s is None or not missing:
            return
        self._save()
        raise InputError(
            f"The budget was used up before there was a training step of {', '.join(missing)}.",
            hint="Give a larger one with --budget. The training goes on from here, where its state is kept.",
        )

    def save_now_and_then(self) -> None:
        """Saves the state if it has not been saved for a while."""
        if time.monotonic() >= self._save_at:
            self._save()

    def _save(self) -> None:
        if self.checkpoint:
            self.state.spent_s = time.monotonic() - self._began  # including looks and the last step
            self.state.save(self.checkpoint, self.done)
            self._save_at = time.monotonic() + _CHECKPOINT_EVERY_S

    def _look(self) -> None:
        """Takes a look, which counts as the step's if it gave a score: it may be for a picture only."""
        if self.watcher is None:
            return
        with self.state.lent_average():
            score = self.watcher.look(self.done, scored=not self.state.settled)
            self.state.look_takes_s = self.watcher.takes_s
            if score is not None:
                self.state.keep_if_best(score, self.done)
                self._scored = self.done

    def result(self) -> TrainingResult:
        """Ends the training; leaves in the system what is delivered."""
        self._save()
        if self._scored != self.done:
            self._look()
        state = self.state
        state.deliver()
        chosen = state.best_step if math.isfinite(state.best_score) else None
        seconds = time.monotonic() - self._began
        return TrainingResult(self.done, state.mean_losses(), dict(state.patches), seconds, chosen)


def _digest(studies: Iterable[PreparedStudy]) -> str:
    """Distinguishes sets of studies by the studies' names and what is learnt from them."""
    whole = hashlib.sha256()
    for study in studies:
        whole.update(repr((study.name, study.hu.shape)).encode())
        for image in (study.hu, study.suv, study.body, study.labels, study.lesions, study.organs):
            whole.update(b"none" if image is None else np.ascontiguousarray(image).data)
    return whole.hexdigest()


def _first(losses: dict[str, float]) -> str:
    return next((f"{name} {value:.3f}" for name, value in losses.items()), "")


def take_turns(shares: dict[Name, float], steps: int) -> list[Name]:
    """Whose turn each of `steps` is, according to `endless_turns`."""
    return [*islice(endless_turns(shares), steps)]


def endless_turns(shares: dict[Name, float]) -> Iterator[Name]:
    """Whose turn (which district's) each step is: spread evenly, in proportion to the shares."""
    credit = dict.fromkeys(shares, 0.0)
    total = sum(shares.values())
    while shares:
        for name, share in shares.items():
            credit[name] += share / total
        chosen = max(credit, key=lambda name: credit[name])
        credit[chosen] -= 1.0
        yield chosen


def _fraction(step: int, steps: int, elapsed_s: float, budget_s: float | None) -> float:
    return step / steps if budget_s is None else max(step / steps, elapsed_s / budget_s)
