"""What must survive a kill: weights, their moving average, the best seen, optimisers, counts and losses."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from scantwin.errors import InputError, ScanTwinError
from scantwin.files import whole_file
from scantwin.imaging.study import District
from scantwin.learning.system import System

Weights = dict[str, dict[str, Tensor]]
"""Component -> parameter -> value."""


def diverged(step: int, what: str) -> ScanTwinError:
    """The error for a training in which `what` was not a number at step `step`."""
    return ScanTwinError(
        f"The training diverged at step {step}: {what} is not a number any more.",
        hint="Train with a smaller optimisation.learning_rate (and discriminator_rate) in the recipe.",
    )


class TrainingState:
    """The state of one training of `system`."""

    def __init__(self, system: System, about: dict[str, Any] | None = None) -> None:
        self.system = system
        self.about = {"recipe": system.recipe.model_dump(mode="json"), **(about or {})}
        """What identifies this training: it does not resume from another's checkpoint."""
        self.patches: dict[str, int] = defaultdict(int)
        self.updates: dict[str, int] = defaultdict(int)
        self.losses: dict[str, list[float]] = defaultdict(list)
        self.average = self._copy()
        self.best: Weights = {}
        self.best_score = math.inf
        self.best_step = 0
        self.scores: dict[int, dict[str, float]] = {}
        """Step -> what a watcher found there, by name."""
        self.before = 0.0
        """Share of the training done when a watcher was last asked whether a look was due."""
        self.look_takes_s = 0.0
        """How long its last look took [s]."""
        self.settled = False
        self.spent_s = 0.0
        """Time that the training has taken [s], including what was killed of it."""

    def _copy(self) -> Weights:
        return {
            name: {key: value.detach().clone() for key, value in network.state_dict().items()}
            for name, network in self.system.components().items()
        }

    def after(self, district: District, losses: dict[str, float]) -> None:
        """Counts a step on `district` and advances the moving average."""
        rules = self.system.recipe.optimisation
        for name, value in losses.items():
            self.losses[f"{district}/{name}"].append(value)
        for component in self.system.components_of(district):
            self.patches[component] += rules.patches
            self.updates[component] += 1
            self._average(component)

    def _average(self, component: str) -> None:
        n = self.updates[component]
        # The decay starts small, so that early weights do not linger.
        decay = min(self.system.recipe.optimisation.ema, (1 + n) / (10 + n))
        current = self.system.components()[component].state_dict()
        for key, mean in self.average[component].items():
            mean.lerp_(current[key], 1.0 - decay)

    def settle(self) -> None:
        """Freezes what has learnt so far: at the best seen, else at its average."""
        source = self.best or self.average
        for name in [name for name, count in self.updates.items() if count]:
            self._load({name: source[name]})
            self.average[name] = {key: value.clone() for key, value in source[name].items()}
        self.best, self.settled = {}, True

    def deliver(self) -> None:
        """Loads what is delivered into the system: the best weights seen, else the average, else the last."""
        if self.best:
            self._load(self.best)
        elif self.system.recipe.optimisation.ema:
            self._load({name: self.average[name] for name, count in self.updates.items() if count})

    def _load(self, weights: Weights) -> None:
        for component, values in weights.items():
            self.system.components()[component].load_state_dict(values)

    @contextmanager
    def lent_average(self) -> Iterator[None]:
        """Puts the averaged weights into the system for a while, as they would be delivered."""
        learning = self._copy()
        if self.system.recipe.optimisation.ema:
            self._load({name: self.average[name] for name, count in self.updates.items() if count})
        try:
            yield
        finally:
            self._load(learning)

    def keep_if_best(self, score: float, step: int) -> None:
        """Remembers the weights that the system has now if none before had as low a `score`."""
        if score < self.best_score:
            self.best, self.best_score, self.best_step = self._copy(), score, step

    def mean_losses(self) -> dict[str, float]:
        """Mean of each loss over its last tenth, keyed `district/loss`."""
        return {
            name: sum(last) / len(last)
            for name, v in self.losses.items()
            if (last := v[-max(1, len(v) // 10) :])
        }

    def save(self, path: Path, step: int) -> None:
        """Writes the checkpoint as a whole; weights that are not numbers never replace it (`diverged`)."""
        for component, network in self.system.components().items():
            if not all(value.isfinite().all() for value in network.state_dict().values()):
                raise diverged(step, f"a weight of {component}")
        tensors: dict[str, Tensor] = {}
        for component, network in self.system.components().items():
            for key, value in network.state_dict().items():
                tensors[f"weights|{component}|{key}"] = value
                tensors[f"average|{component}|{key}"] = self.average[component][key]
        for component, values in self.best.items():
            tensors |= {f"best|{component}|{key}": value for key, value in values.items()}
        for component, optimiser in self._optimisers().items():
            for index, slots in optimiser.state_dict()["state"].items():
                for slot, value in slots.items():
                    tensors[f"optimiser|{component}|{index}|{slot}"] = torch.as_tensor(value)
        tensors |= {f"memory|{key}": value for key, value in self.system.memory.items()}
        # Not in the header, whose size is limited: a long training has millions of them.
        for name, losses in self.losses.items():
            tensors[f"losses|{name}"] = torch.tensor(losses, dtype=torch.float64)
        about = {
            "step": step, "patches": self.patches, "updates": self.updates,
            "best": bool(self.best), "settled": self.settled, "best_step": self.best_step,
            "spent_s": self.spent_s, "scores": self.scores, "before": self.before,
            "look_takes_s": self.look_takes_s,
            "best_score": self.best_score if math.isfinite(self.best_score) else None,
            **self.about,
        }  # fmt: skip
        # What CycleGAN remembers (`System.memory`) is patches of patients.
        with whole_file(path, private=True) as aside:
            plain = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
            save_file(plain, aside, metadata={"training": json.dumps(about)})

    def load(self, path: Path) -> int:
        """Resumes from the checkpoint at `path`; returns its step, 0 if there is none.

        Raises `InputError` if it belongs to another training or cannot be read.
        """
        if not path.is_file():
            return 0
        try:
            with safe_open(path, framework="pt") as file:
                about = dict(json.loads((file.metadata() or {})["training"]))
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        except (SafetensorError, KeyError, ValueError, TypeError, RecursionError):
            raise InputError(
                f"{path} cannot be read as a training's checkpoint: it was cut short or is another file.",
                hint="Delete it to begin anew, or choose another --out.",
            ) from None
        for name, value in self.about.items():
            if about.get(name) != value:
                said = f"other {name}" if name.endswith("studies") else f"another {name}"
                raise InputError(
                    f"{path} belongs to a training with {said}.",
                    hint="Choose another --out, or delete that file to begin anew.",
                )
        for component, network in self.system.components().items():
            try:
                network.load_state_dict(_under(tensors, f"weights|{component}|"))
            except RuntimeError:
                raise InputError(
                    f"{path} was made by another ScanTwin: its {component} does not fit.",
                    hint="Delete it; the training begins anew.",
                ) from None
            self.average[component] = self._brought(tensors, f"average|{component}|")
            if about["best"]:
                self.best[component] = self._brought(tensors, f"best|{component}|")
        self.settled, self.best_step = about["settled"], about["best_step"]
        self.spent_s = about["spent_s"]
        self.before, self.look_takes_s = about.get("before", 0.0), about.get("look_takes_s", 0.0)
        self.scores.update({int(step): found for step, found in about.get("scores", {}).items()})
        if about["best_score"] is not None:
            self.best_score = about["best_score"]
        for component, optimiser in self._optimisers().items():
            slots: dict[int, dict[str, Any]] = defaultdict(dict)
            for key, value in _under(tensors, f"optimiser|{component}|").items():
                index, slot = key.split("|")
                slots[int(index)][slot] = value
            if slots:
                optimiser.load_state_dict({**optimiser.state_dict(), "state": dict(slots)})
        self.system.memory.update(self._brought(tensors, "memory|"))
        self.patches.update(about["patches"])
        self.updates.update(about["updates"])
        self.losses.update({name: v.tolist() for name, v in _under(tensors, "losses|").items()})
        return int(about["step"])

    def _brought(self, tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
        """The checkpoint's tensors below `prefix`, copied to the system's device."""
        device = self.system.device
        return {key: value.to(device, copy=True) for key, value in _under(tensors, prefix).items()}

    def _optimisers(self) -> dict[str, torch.optim.Optimizer]:
        found: dict[str, torch.optim.Optimizer] = {}
        for district in self.system.recipe.districts:
            found.update(self.system.optimisers(district))
        return found


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
