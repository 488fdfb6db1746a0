"""Where networks work, and at which precision."""

from __future__ import annotations

import pytest
import torch

from scantwin.errors import InputError
from scantwin.learning import machine
from scantwin.learning.machine import arithmetic, check_device, device, use_device

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_device", None)


def test_it_is_the_settings_device_unless_another_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANTWIN_DEVICE", "cuda:99")
    with pytest.raises(InputError, match="cuda:99"):
        device()
    assert use_device("cpu") == CPU
    assert device() == CPU, "what was asked for stays"


@pytest.mark.parametrize(
    ("name", "word"),
    [("cuda:99", "cannot be used here"), ("toaster", "no device"), ("meta", "neither")],
)
def test_a_device_that_is_not_here_is_refused(name: str, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANTWIN_DEVICE", name)
    for ask in (use_device, check_device):
        with pytest.raises(InputError, match=word) as refused:
            ask()
        assert "cpu" in refused.value.hint


def test_a_gpu_that_is_here_may_be_another_or_be_of_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def set_device(found: torch.device) -> None:
        raise RuntimeError("CUDA error: no kernel image is available\nCompile with TORCH_USE_CUDA_DSA.")

    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", set_device)
    with pytest.raises(InputError, match="no such GPU"):
        use_device("cuda:2")
    with pytest.raises(InputError, match=r"cannot be used here: CUDA error: no kernel image is available\."):
        use_device("cuda:1")


def test_a_gpu_has_a_number_and_full_precision_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "_unusable", lambda found: None)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert use_device("cuda") == torch.device("cuda:0")
    assert not torch.backends.cudnn.allow_tf32


def test_precision_is_the_recipes_and_what_the_processor_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def said(precision: str) -> torch.dtype:
        with arithmetic(precision, CPU):
            return (torch.ones(4, 4) @ torch.ones(4, 4)).dtype

    assert (said("fp32"), said("bf16")) == (torch.float32, torch.bfloat16)
    for native, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(machine, "has_bf16", lambda native=native: native)
        assert said("auto") == expected
