"""How our processes share a few cores."""

from __future__ import annotations

import os


def share_cores() -> None:
    """Makes waiting threads of this process and its children sleep. Call it before importing numpy or torch.

    Both libraries' threads spin while they wait, which gains a few per cent on otherwise idle cores. On busy
    cores, two spinning processes starve each other. Measured on 2 cores: a training step beside a load of 10
    took 8 s instead of 1.3 s; two cohorts of phantoms side by side, each in its own session, 56 s instead of
    13 s. numpy's matrix products are small here, so one thread computes them just as fast.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
