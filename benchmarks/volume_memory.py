"""Peak memory of making a volume against its size: `python -m benchmarks.volume_memory`.

Each size runs in a process of its own, since a process's peak never falls. The network is the recipe's, with
weights as they are before training: memory and time do not depend on their values. Few sampler steps: memory
does not grow with them, and time a step is told apart from the rest.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from scantwin.cores import share_cores
from scantwin.files import write_json
from scantwin.learning.machine import use_device, use_threads
from scantwin.terminal import Json, emit, out, progress_bar

_REPO = Path(__file__).resolve().parents[1]

SIZES = ("64,128,128", "128,256,256", "256,512,512")
"""Voxels (z, y, x); the last is what issue 4 asks for."""


def measured(
    shape: tuple[int, int, int], recipe: str, steps: int, device: str, masked: bool
) -> dict[str, Any]:
    """One volume in this process: peak memory [MB] and seconds."""
    share_cores()
    import numpy as np
    import torch

    from scantwin import systems
    from scantwin.generation.fields import Field
    from scantwin.generation.volumes import LowResource3D
    from scantwin.generation.volumes_drawing import Order, draw
    from scantwin.generation.volumes_views import class_count
    from scantwin.learning.recipe import Recipe

    use_threads()
    where = use_device(device)
    system = systems.build(Recipe.load(recipe), seed=0)
    assert isinstance(system, LowResource3D)
    before = _peak_mb()
    classes, adapter = None, system.adapter(system.recipe.districts[0])
    # Guesses that have seen nothing are not asked.
    latent = torch.randn(1, len(system.rules.levels), 8, 8, 8, device=where)
    place = Field.of((32, 32, 32), system.recipe.spacing_mm).place().to(where)
    system.denoiser(system.recipe.districts[0]).usual.remember(place, latent)
    if masked and adapter is not None:
        mask = torch.rand(1, class_count(system.rules), 8, 8, 8, device=where)
        adapter.guess.remember(mask, latent, 1.0)
        rows = np.arange(shape[0]) % 16
        classes = np.broadcast_to(rows[:, None, None], shape).astype(np.uint8)
    field = Field.of(shape, system.recipe.spacing_mm)
    stamps = [time.monotonic()]

    def advance(done: float, total: float, text: str = "") -> None:
        del done, total
        if text == "denoising":
            stamps.append(time.monotonic())

    made = draw(system, system.recipe.districts[0], Order(field, 0, classes, steps), advance)
    ended = time.monotonic()
    said = {
        "shape_zyx": list(made.shape), "voxels": int(made.size), "masked": masked, "steps": steps,
        "device": device, "loaded_mb": round(before), "peak_mb": round(_peak_mb()),
        "seconds_a_step": round(min(b - a for a, b in pairwise(stamps)), 2),
        "seconds_decoding": round(ended - stamps[-1], 1), "threads": torch.get_num_threads(),
    }  # fmt: skip
    if where.type == "cuda":
        said["peak_gpu_mb"] = round(torch.cuda.max_memory_allocated(where) / 1e6)
    return said


def _peak_mb() -> float:
    """The largest resident set of this process so far [MB].

    Of the program alone: `ru_maxrss` begins with what the process that started it held.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def volume_memory(
    sizes: Annotated[list[str], typer.Option("--size", help="Voxels z,y,x.")] = list(SIZES),  # noqa: B006
    recipe: Annotated[str, typer.Option(help="A low-resource-3d recipe.")] = "low-resource-3d",
    steps: Annotated[int, typer.Option(min=1, help="Network evaluations.")] = 2,
    masked: Annotated[bool, typer.Option(help="With a mask and its adapter: the dearer way.")] = True,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out_file: Annotated[Path | None, typer.Option("--out", help="JSON file for the figures.")] = None,
    as_json: Json = False,
) -> None:
    """Make a volume of each size and say how much memory it took.

    \b
    python -m benchmarks.volume_memory
    python -m benchmarks.volume_memory --size 256,512,512 --steps 10 --device cuda
    """
    found = []
    with progress_bar("volumes", quiet=as_json) as advance:
        for number, size in enumerate(sizes):
            advance(number, len(sizes), size)
            order = json.dumps([[int(n) for n in size.split(",")], recipe, steps, device, masked])
            child = [sys.executable, "-m", "benchmarks.volume_memory", "--child", order]
            ran = subprocess.run(child, check=True, capture_output=True, text=True, cwd=_REPO)
            found.append(json.loads(ran.stdout))
    if out_file:
        write_json(out_file, found)
    emit(found, as_json, lambda: _people(found))


def _people(found: list[dict[str, Any]]) -> None:
    for one in found:
        z, y, x = one["shape_zyx"]
        gpu = f", GPU {one['peak_gpu_mb']} MB" if "peak_gpu_mb" in one else ""
        out.print(
            f"{x} x {y} x {z}: peak {one['peak_mb']} MB ({one['loaded_mb']} before){gpu}, "
            f"{one['seconds_a_step']} s a step, decoding {one['seconds_decoding']} s"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        shape, *rest = json.loads(sys.argv[2])
        sys.stdout.write(json.dumps(measured(tuple(shape), *rest)))
    else:
        typer.run(volume_memory)
