"""The experiments by name, in the order of the report; running one and keeping its findings."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final, cast

from benchmarks.evidence.findings import Experiment, Findings, Setting
from benchmarks.evidence.workshop import Bench, key_of

from scantwin import __version__
from scantwin.errors import InputError
from scantwin.files import write_json
from scantwin.learning.recipe import Recipe, shipped_recipes
from scantwin.terminal import Advance

EXPERIMENTS: Final[dict[str, str]] = {
    "diffusion": "coarse predictor, and coarse with diffusion",
    "sampling": "200 to 2 sampling steps, three samplers",
    "suv_aware": "SUV-aware terms on and off; uptake, agreement, error bars",
    "districts": "district models and one whole-body model",
    "cyclegan": "Pix2Pix and CycleGAN",
    "sarcoma": "real patients with soft-tissue sarcoma",
    "federated": "three sites' rounds and one training in one place",
    "inpainting": "inpainting of CT slices",
    "volumes": "CT volumes",
}
"""Module of this package -> what it measures."""


@dataclass(frozen=True)
class Kept:
    """One experiment's findings, and how they came about."""

    name: str
    findings: Findings
    setting: dict[str, Any]
    seconds: float
    """Duration of this run, without what other runs had already trained."""
    machine: str
    at: str
    """Date and time, UTC."""
    recipes: dict[str, str] = field(default_factory=dict)
    """Shipped recipe -> key of its values at that time; empty if they were not recorded."""

    @property
    def command(self) -> str:
        """The command that makes these figures again."""
        quick = " --quick" if self.setting["name"] == "quick" else ""
        return f"python -m benchmarks.evidence{quick} --only {self.name}"

    def as_json(self) -> dict[str, Any]:
        """The content for evidence.json; `read` is the inverse."""
        return {
            "name": self.name, "command": self.command, "setting": self.setting, "machine": self.machine,
            "seconds": round(self.seconds, 1), "at": self.at, "recipes": self.recipes,
            **self.findings.as_json(),
        }  # fmt: skip

    @classmethod
    def read(cls, data: dict[str, Any]) -> Kept:
        """From what `as_json` gave."""
        findings = Findings.read(data)
        told = (data[name] for name in ("setting", "seconds", "machine", "at"))
        return cls(data["name"], findings, *told, data.get("recipes", {}))

    @property
    def changed(self) -> list[str]:
        """Recipes whose shipped values differ from those that were measured."""
        return [name for name, values in self.recipes.items() if values != values_of(name)]


def values_of(recipe: str) -> str | None:
    """A key of the shipped recipe's values, as far as its system reads them; None without such a recipe."""
    return key_of(Recipe.load(recipe).used()) if recipe in shipped_recipes() else None


def chosen(only: str | None) -> list[str]:
    """The names in `only` (comma-separated), or all. Raises `InputError` on an unknown name."""
    names = list(EXPERIMENTS) if only is None else [n.strip() for n in only.split(",") if n.strip()]
    for name in names:
        if name not in EXPERIMENTS:
            raise InputError(
                f"There is no experiment called {name!r}.", hint=f"Known: {', '.join(EXPERIMENTS)}."
            )
    return names


def module_of(name: str) -> ModuleType | None:
    """The experiment's module; None if it is not there."""
    full = f"{__package__}.{name}"
    return import_module(full) if find_spec(full) else None


def run(name: str, setting: Setting, bench: Bench, advance: Advance, *, again: bool = False) -> Kept | None:
    """An experiment's findings: the kept ones if nothing has changed since, unless `again`.

    None if its module is not there.
    """
    module = module_of(name)
    if module is None:
        return None
    used = getattr(module, "RECIPES", shipped_recipes())
    recipes = {recipe: values_of(recipe) or "" for recipe in used}
    key = key_of(asdict(setting), recipes)
    path = bench.folder / "findings" / f"{name}-{key}.json"
    if path.is_file() and not again:
        return Kept.read(json.loads(path.read_text()))
    began = time.monotonic()
    findings = cast(Experiment, module).run(setting, bench, advance)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    kept = Kept(name, findings, asdict(setting), time.monotonic() - began, machine(), at, recipes)
    write_json(path, kept.as_json())
    return kept


def machine() -> str:
    """The machine and versions this runs on, in words."""
    import os

    import torch

    from scantwin.learning.machine import device

    cores, threads = len(os.sched_getaffinity(0)), torch.get_num_threads()
    used = f"{threads} of {cores}" if threads < cores else str(cores)
    where = device()
    gpu = f", {torch.cuda.get_device_name(where)}" if where.type == "cuda" else ""
    return (
        f"{used} CPU cores, {platform.machine()}{gpu}; ScanTwin {__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )


def missing(names: Sequence[str]) -> list[str]:
    """Those of `names` whose module is not there."""
    return [name for name in names if find_spec(f"{__package__}.{name}") is None]
