"""What this machine can afford."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def use_threads(threads: int | None = None) -> int:
    """Sets how many CPU threads torch uses (default: as many as this process may run on) and says so."""
    import torch

    count = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(count)
    return count


@cache
def has_bf16() -> bool:
    """Whether this processor multiplies bf16 natively."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def arithmetic(precision: str) -> torch.autocast:
    """The context of a forward pass in `auto`, `fp32` or `bf16`."""
    import torch

    low = precision == "bf16" or (precision == "auto" and has_bf16())
    return torch.autocast("cpu", torch.bfloat16, enabled=low)
