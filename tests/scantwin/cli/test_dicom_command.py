"""`scantwin dicom receive` as it is started for good."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scantwin.cli.dicom import app
from scantwin.imaging import dicom_receiver
from scantwin.interrupts import ENDING


def test_under_nohup_a_hangup_does_not_end_the_receiver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Any] = []

    class Deaf(dicom_receiver.Receiver):
        def __enter__(self) -> Deaf:
            heard.append(signal.getsignal(signal.SIGHUP))
            os.kill(os.getpid(), signal.SIGTERM)
            return self

        def __exit__(self, *_: object) -> None:
            pass

    before = {number: signal.getsignal(number) for number in ENDING}
    monkeypatch.setattr(dicom_receiver, "Receiver", Deaf)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        done = CliRunner().invoke(app, ["receive", "--out", str(tmp_path), "--port", "0", "--json"])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert done.exit_code == 0, done.output
    assert heard == [signal.SIG_IGN]
