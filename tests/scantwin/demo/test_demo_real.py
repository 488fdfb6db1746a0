"""The demo on real patients."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.data, pytest.mark.timeout(600)]


def test_on_real_patients(demo, shared_data):
    words = ("--data", str(shared_data / "sts" / "nifti"), "--rounds", "1", "--recipe", demo.brief_recipe())
    run = demo.start(*words, "--json")
    said, errors = run.communicate(timeout=580)
    assert run.returncode == 0, errors[-2000:] + said[-2000:]
    result = json.loads(said)
    demo.check(result)
    assert len(result["sites"]) == 3 and result["calibration"] == {}
