"""Where networks work, and at which precision."""

from __future__ import annotations

import pytest
import torch

from scantwin.errors import InputError
from scantwin.learning import machine
from scantwin.learning.machine import arithmetic, device, use_device

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_chosen", [])


def test_it_is_the_settings_device_unless_another_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANTWIN_DEVICE", "cuda:7")
    with pytest.raises(InputError, match="no cuda:7"):
        device()
    assert use_device("cpu") == CPU
    assert device() == CPU, "what was asked for stays"


@pytest.mark.parametrize(
    ("name", "word"),
    [("cuda:99", "no cuda:99 here"), ("toaster", "no device"), ("meta", "no meta here"), ("", "no device")],
)
def test_a_device_that_is_not_here_is_refused(name: str, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANTWIN_DEVICE", name)
    with pytest.raises(InputError, match=word) as refused:
        use_device()
    assert "cpu" in refused.value.hint


def test_of_two_gpus_there_is_no_third(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [use_device(name) for name in ("cuda", "cuda:1")] == [torch.device("cuda"), torch.device("cuda:1")]
    with pytest.raises(InputError, match="no cuda:2"):
        use_device("cuda:2")


def test_precision_is_the_recipes_and_what_the_processor_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def said(precision: str) -> torch.dtype:
        with arithmetic(precision, CPU):
            return (torch.ones(4, 4) @ torch.ones(4, 4)).dtype

    assert (said("fp32"), said("bf16")) == (torch.float32, torch.bfloat16)
    for native, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(machine, "has_bf16", lambda native=native: native)
        assert said("auto") == expected
