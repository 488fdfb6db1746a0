"""What this machine can afford, and where on it networks work."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from scantwin.errors import InputError
from scantwin.settings import load_settings

if TYPE_CHECKING:
    import torch

_chosen: list[torch.device] = []
"""The device of this process, once it is known."""


def use_threads(threads: int | None = None) -> int:
    """Sets how many CPU threads torch uses (default: as many as this process may run on) and says so."""
    import torch

    count = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(count)
    return count


def use_device(name: str | None = None) -> torch.device:
    """Sets where the networks of this process work and says so: `cpu`, `cuda` or, of several, `cuda:1`.

    By default as the setting SCANTWIN_DEVICE says. Raises `InputError` for a device that is not here.
    """
    import torch

    asked = name or load_settings().device
    try:
        found = torch.device(asked)
    except RuntimeError:
        raise InputError(f"{asked!r} is no device.", hint="It is cpu, cuda, or cuda:1 of several.") from None
    count = {"cpu": 1, "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0}
    if (found.index or 0) >= count.get(found.type, 0):
        raise InputError(
            f"There is no {asked} here.",
            hint="Leave out --device, or set SCANTWIN_DEVICE=cpu, for the processor.",
        )
    _chosen[:] = [found]
    return found


def device() -> torch.device:
    """Where the networks of this process work; the setting's until `use_device` was called."""
    return _chosen[0] if _chosen else use_device()


@cache
def has_bf16() -> bool:
    """Whether this processor multiplies bf16 natively."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def arithmetic(precision: str, where: torch.device) -> torch.autocast:
    """The context of a forward pass in `auto`, `fp32` or `bf16` on the device `where`."""
    import torch

    native = torch.cuda.is_bf16_supported() if where.type == "cuda" else has_bf16()
    low = precision == "bf16" or (precision == "auto" and native)
    return torch.autocast(where.type, torch.bfloat16, enabled=low)
