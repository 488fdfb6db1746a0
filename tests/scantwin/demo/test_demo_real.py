"""The demo on real patients, ended in the middle and begun again."""

from __future__ import annotations

import json
import signal
import time

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.data, pytest.mark.timeout(600)]


def test_on_real_patients_and_an_end_in_the_middle(demo, shared_data):
    words = ("--data", str(shared_data / "sts" / "nifti"), "--rounds", "1")
    run = demo.start(*words)
    log = demo.out / "logs" / "consortium-train.log"
    until = time.monotonic() + 200
    while not log.exists() and time.monotonic() < until:
        time.sleep(0.2)
    assert run.poll() is None, run.communicate()
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=40)
    assert run.returncode == 130
    assert demo.left_over() == []

    again = demo.start(*words, "--json")  # the same folder is taken again
    said, errors = again.communicate(timeout=380)
    assert again.returncode == 0, errors[-2000:] + said[-2000:]
    result = json.loads(said)
    demo.check(result)
    assert len(result["sites"]) == 3 and result["calibration"] == {}
