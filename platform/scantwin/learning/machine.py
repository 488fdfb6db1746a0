"""What this machine can afford."""

from __future__ import annotations

import os


def use_threads(threads: int | None = None) -> int:
    """Sets how many CPU threads torch uses (default: as many as this process may run on) and says so."""
    import torch

    count = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(count)
    return count
