"""Errors of others that become a sentence."""

from __future__ import annotations

import pytest
import torch

from scantwin.errors import short_of_memory


def test_want_of_memory_is_told_from_other_errors_whoever_says_it() -> None:
    with pytest.raises(RuntimeError) as processor:
        torch.empty(10**15)  # more than any machine maps
    assert short_of_memory(processor.value)
    assert short_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."))
    assert short_of_memory(RuntimeError("CUDA error: out of memory"))
    assert short_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    assert short_of_memory(RuntimeError("unable to mmap 9 bytes from file <a>: Cannot allocate memory (12)"))
    assert short_of_memory(MemoryError())
    assert not short_of_memory(RuntimeError("shapes do not fit"))
    assert not short_of_memory(OSError("can't allocate memory"))
