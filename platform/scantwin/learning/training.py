"""The one training loop: districts take turns, weights are averaged over time, a kill costs little.

Every random choice depends on (seed, step) only, so a training that was killed and goes on from its
checkpoint reaches the same losses as one that was not.
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from scantwin.errors import InputError
from scantwin.files import whole_file
from scantwin.imaging.study import District
from scantwin.learning.patches import Sampler
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.recipe import Recipe
from scantwin.learning.system import System
from scantwin.terminal import Advance, silent

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
) -> TrainingResult:
    """Trains `system` on `studies` for `steps` steps, or until `budget_s` [s] is used up.

    `span` is which part of the whole training this is (0 to 1): the learning rate's schedule runs over the
    whole. With `resume` the state is kept in that file and a training found there goes on.
    """
    recipe = system.recipe
    samplers = {d: Sampler(studies, recipe, d, seed) for d in recipe.districts}
    turns = take_turns({d: recipe.shares.get(d, 1.0) for d in recipe.districts if samplers[d]}, steps)
    if not turns:
        raise InputError("No study has any district of this recipe.", hint="Check the recipe's districts.")
    state = _State(system)
    first = state.load(resume) if resume else 0
    began = saved = time.monotonic()
    done = first
    for step in range(first, steps):
        fraction = _fraction(step, steps, time.monotonic() - began, budget_s)
        if fraction >= 1.0:
            break
        district = turns[step]
        _set_rates(system, district, _schedule(recipe, span[0] + (span[1] - span[0]) * fraction))
        losses = system.training_step(district, samplers[district].batch(step))
        state.after(district, losses)
        done = step + 1
        advance(done, steps, f"{district} l1 {losses.get('l1', 0.0):.3f}")
        if resume and time.monotonic() - saved > _CHECKPOINT_EVERY_S:
            state.save(resume, done)
            saved = time.monotonic()
        if after_step:
            after_step(done)
    if resume:
        state.save(resume, done)
    state.deliver()
    return TrainingResult(done, state.mean_losses(), dict(state.patches), time.monotonic() - began)


def take_turns(shares: dict[District, float], steps: int) -> list[District]:
    """Which district each step trains: spread evenly, in proportion to the shares."""
    credit = dict.fromkeys(shares, 0.0)
    total = sum(shares.values())
    turns: list[District] = []
    for _ in range(steps if shares else 0):
        for district, share in shares.items():
            credit[district] += share / total
        chosen = max(credit, key=lambda d: credit[d])
        credit[chosen] -= 1.0
        turns.append(chosen)
    return turns


def _fraction(step: int, steps: int, elapsed_s: float, budget_s: float | None) -> float:
    return step / steps if budget_s is None else max(step / steps, elapsed_s / budget_s)


def _schedule(recipe: Recipe, fraction: float) -> float:
    if recipe.optimisation.schedule == "constant":
        return 1.0
    return 0.05 + 0.95 * 0.5 * (1.0 + math.cos(math.pi * min(fraction, 1.0)))


def _set_rates(system: System, district: District, factor: float) -> None:
    for optimiser in system.optimisers(district).values():
        for group in optimiser.param_groups:
            group.setdefault("full_rate", group["lr"])
            group["lr"] = group["full_rate"] * factor


class _State:
    """What must survive a kill: weights, their moving average, the optimisers, counts and losses."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.patches: dict[str, int] = defaultdict(int)
        self.updates: dict[str, int] = defaultdict(int)
        self.losses: dict[str, list[float]] = defaultdict(list)
        self.average = {
            name: {key: value.detach().clone() for key, value in network.state_dict().items()}
            for name, network in system.components().items()
        }

    def after(self, district: District, losses: dict[str, float]) -> None:
        for name, value in losses.items():
            self.losses[f"{district}/{name}"].append(value)
        for component in self.system.components_of(district):
            self.patches[component] += self.system.recipe.optimisation.batch
            self.updates[component] += 1
            self._average(component)

    def _average(self, component: str) -> None:
        n = self.updates[component]
        # Starts as a plain mean of what there is, so that early weights do not linger.
        decay = min(self.system.recipe.optimisation.ema, (1 + n) / (10 + n))
        current = self.system.components()[component].state_dict()
        for key, mean in self.average[component].items():
            mean.lerp_(current[key], 1.0 - decay)

    def deliver(self) -> None:
        if self.system.recipe.optimisation.ema:
            for component, count in self.updates.items():
                if count:
                    self.system.components()[component].load_state_dict(self.average[component])

    def mean_losses(self) -> dict[str, float]:
        return {
            name: sum(last) / len(last)
            for name, v in self.losses.items()
            if (last := v[-max(1, len(v) // 10) :])
        }

    def save(self, path: Path, step: int) -> None:
        tensors: dict[str, Tensor] = {}
        for component, network in self.system.components().items():
            for key, value in network.state_dict().items():
                tensors[f"weights|{component}|{key}"] = value
                tensors[f"average|{component}|{key}"] = self.average[component][key]
        for component, optimiser in self._optimisers().items():
            for index, slots in optimiser.state_dict()["state"].items():
                for slot, value in slots.items():
                    tensors[f"optimiser|{component}|{index}|{slot}"] = torch.as_tensor(value)
        about = {
            "step": step, "patches": self.patches, "updates": self.updates, "losses": self.losses,
            "recipe": self.system.recipe.model_dump(mode="json"),
        }  # fmt: skip
        with whole_file(path) as aside:
            plain = {key: value.detach().contiguous().clone() for key, value in tensors.items()}
            save_file(plain, aside, metadata={"training": json.dumps(about)})

    def load(self, path: Path) -> int:
        if not path.is_file():
            return 0
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["training"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        if about["recipe"] != self.system.recipe.model_dump(mode="json"):
            raise InputError(
                f"{path} belongs to a training with another recipe.", hint="Choose another --out."
            )
        for component, network in self.system.components().items():
            network.load_state_dict(_under(tensors, f"weights|{component}|"))
            self.average[component] = {
                k: v.clone() for k, v in _under(tensors, f"average|{component}|").items()
            }
        for component, optimiser in self._optimisers().items():
            slots: dict[int, dict[str, Any]] = defaultdict(dict)
            for key, value in _under(tensors, f"optimiser|{component}|").items():
                index, slot = key.split("|")
                slots[int(index)][slot] = value
            if slots:
                optimiser.load_state_dict({**optimiser.state_dict(), "state": dict(slots)})
        for name in ("patches", "updates", "losses"):
            getattr(self, name).update(about[name])
        return int(about["step"])

    def _optimisers(self) -> dict[str, torch.optim.Optimizer]:
        found: dict[str, torch.optim.Optimizer] = {}
        for district in self.system.recipe.districts:
            found.update(self.system.optimisers(district))
        return found


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
