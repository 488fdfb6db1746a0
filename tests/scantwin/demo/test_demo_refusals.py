"""What the demo refuses, each in one sentence."""

from __future__ import annotations

import json
import socket

import pytest


def test_a_folder_of_somebody_elses_is_not_touched(demo):
    demo.out.mkdir()
    (demo.out / "mine.txt").write_text("precious")
    run = demo.start("--json")
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 2 and "not empty" in json.loads(said)["error"]["message"]
    assert (demo.out / "mine.txt").read_text() == "precious"


@pytest.mark.parametrize("studies", ["nothing", "empty"])
def test_data_that_is_not_there(demo, tmp_path, studies):
    (tmp_path / "empty").mkdir()
    run = demo.start("--data", str(tmp_path / studies), "--json")
    said, errors = run.communicate(timeout=60)
    assert run.returncode == 2, said
    assert "Traceback" not in errors and json.loads(said)["error"]["message"].endswith(".")


def test_a_busy_port_is_said_before_any_work(demo):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        run = demo.start("--serve", "--port", str(held.getsockname()[1]), "--json")
        said, _ = run.communicate(timeout=60)
    assert run.returncode == 1 and "cannot listen" in json.loads(said)["error"]["message"]
    assert not (demo.out / "studies").exists()
