"""What this machine can afford, and on which device the networks run."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from scantwin.errors import InputError
from scantwin.settings import load_settings

if TYPE_CHECKING:
    import torch

_DRAWERS = 4
"""Threads that cut patches for a GPU: one of them needs 20 ms for a batch of Pix2Pix."""

_device: torch.device | None = None
"""The device of this process's networks, once it is known."""

_NATIVE_BF16 = 8
"""CUDA compute capability from which a GPU multiplies bf16; older ones emulate it, slower than fp32."""


def use_threads(threads: int | None = None) -> int:
    """Sets how many CPU threads torch uses (default: as many as this process may run on); returns it."""
    import torch

    count = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(count)
    return count


def use_device(name: str | None = None) -> torch.device:
    """Sets the device of this process's networks and returns it: `cpu`, `cuda` or, of several, `cuda:1`.

    The default is the setting SCANTWIN_DEVICE. Raises `InputError` for a device that does not exist or cannot
    be used.
    """
    import torch

    global _device  # noqa: PLW0603 - it is the process's, as torch's number of threads is
    asked = name or load_settings().device
    try:
        found = torch.device(asked)
    except RuntimeError:
        raise InputError(f"{asked!r} is no device.", hint="It is cpu, cuda, or cuda:1 of several.") from None
    if found.type != "cpu":
        found = torch.device(found.type, found.index or 0)
        if (reason := _unusable(found)) is not None:
            hint = "Leave out --device, or set SCANTWIN_DEVICE=cpu, for the processor."
            raise InputError(f"{asked} cannot be used here: {reason}.", hint=hint)
        # Otherwise "fp32" convolutions have ten bits: too few for levels, for which bf16 is switched off.
        torch.backends.cudnn.allow_tf32 = False
    _device = found
    return found


def _unusable(found: torch.device) -> str | None:
    """Why a GPU cannot be used; None if it can. It may exist and still be too old or held by others."""
    import torch

    if found.type != "cuda":
        return "it is neither a processor nor a GPU"
    if torch.version.cuda is None:
        return "this torch was installed without CUDA"
    if not torch.cuda.is_available() or found.index >= torch.cuda.device_count():
        return "there is no such GPU"
    try:
        torch.cuda.set_device(found)
        torch.zeros(1, device=found).add_(1.0).item()
    except RuntimeError as error:
        return str(error).strip().split("\n")[0].rstrip(".")
    return None


def device() -> torch.device:
    """The device of this process's networks; the setting's until `use_device` is called."""
    return _device or use_device()


def drawers(where: torch.device) -> int:
    """Threads that draw batches ahead for networks on `where`.

    0 for a CPU: all its cores train, and drawing a batch takes a twentieth of a step there.
    """
    return 0 if where.type == "cpu" else min(_DRAWERS, len(os.sched_getaffinity(0)))


def check_device() -> str:
    """The name of the setting's device. Raises `InputError` if it cannot be used.

    For callers that start a process which will need it. torch takes seconds to load and is asked only about
    devices other than `cpu`.
    """
    name = load_settings().device
    return name if name == "cpu" else str(use_device(name))


def between_jobs() -> None:
    """Releases the GPU memory that torch has cached, for a process that lives on after its job.

    Raises `RuntimeError` if the GPU has faulted: no later job of this process could use it, a new one can.
    """
    if _device is not None and _device.type == "cuda":
        import torch

        torch.cuda.synchronize(_device)
        torch.cuda.empty_cache()


@cache
def has_bf16() -> bool:
    """Whether this processor multiplies bf16 natively."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def arithmetic(precision: str, where: torch.device) -> torch.autocast:
    """The autocast context of a forward pass in `auto`, `fp32` or `bf16` on the device `where`."""
    import torch

    if where.type == "cuda":
        native = torch.cuda.get_device_properties(where).major >= _NATIVE_BF16
    else:
        native = has_bf16()
    low = precision == "bf16" or (precision == "auto" and native)
    return torch.autocast(where.type, torch.bfloat16, enabled=low)
