"""What the demo refuses, each in one sentence."""

from __future__ import annotations

import fcntl
import json
import socket

import numpy as np
import pytest

from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.volume import Volume


def test_a_folder_of_somebody_elses_is_not_touched(demo):
    demo.out.mkdir()
    (demo.out / "mine.txt").write_text("precious")
    run = demo.start("--json")
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 2 and "not empty" in json.loads(said)["error"]["message"]
    assert (demo.out / "mine.txt").read_text() == "precious"


def refused(demo, *words: str) -> str:
    """The sentence with which a demo is refused; it has made nothing."""
    run = demo.start(*words, "--json")
    said, errors = run.communicate(timeout=60)
    assert run.returncode == 2 and "Traceback" not in errors, said + errors
    assert not demo.out.exists()
    sentence = json.loads(said)["error"]["message"]
    assert sentence.endswith(".")
    return sentence


@pytest.mark.parametrize("studies", ["nothing", "empty"])
def test_data_that_is_not_there(demo, tmp_path, studies):
    (tmp_path / "empty").mkdir()
    assert studies in refused(demo, "--data", str(tmp_path / studies))


def test_studies_without_pet_and_damaged_ones(demo, tmp_path):
    for name in "abc":
        study(tmp_path / "data" / name, pet=False)
    assert "0 of one scanner with CT and PET as NIfTI; 3 studies have no PET" in refused(
        demo, "--data", str(tmp_path / "data")
    )
    for name in "de":
        study(tmp_path / "data" / name)
    study(tmp_path / "data" / "f")
    (tmp_path / "data" / "f" / "CT.nii.gz").write_bytes(b"not what it was")
    assert "2 of one scanner" in refused(demo, "--data", str(tmp_path / "data"))


def study(folder, *, pet: bool = True) -> None:
    """Eight slices of water in air, and a PET on them."""
    hu = np.full((8, 16, 16), -1000, np.float32)
    hu[:, 4:12, 4:12] = 0
    water = Volume(hu, (8.0, 8.0, 8.0), unit="HU")
    folder.mkdir(parents=True)
    write_nifti(water, folder / "CT.nii.gz")
    if pet:
        write_nifti(
            Volume(np.ones((8, 16, 16), np.float32), (8.0, 8.0, 8.0), unit="SUV"), folder / "SUV.nii.gz"
        )


def test_options_that_cannot_be(demo, tmp_path):
    (tmp_path / "file").write_text("x")
    for words in (("--rounds", "0"), ("--sites", "0"), ("--port", "99999"), ("--recipe", "no-such-recipe")):
        refused(demo, *words)
    assert "makes CT" in refused(demo, "--recipe", "ct-inpainting")
    assert "is a file" in refused(demo, "--out", str(tmp_path / "file"))


def test_a_typo_does_not_cost_the_demo_of_yesterday(demo, tmp_path):
    demo.out.mkdir()
    for name in (".scantwin-demo", "demo.json"):
        (demo.out / name).write_text("yesterday")
    run = demo.start("--data", str(tmp_path / "nothing"))
    run.communicate(timeout=60)
    assert run.returncode == 2 and (demo.out / "demo.json").read_text() == "yesterday"


def test_the_studies_are_not_cleared_away_with_an_earlier_demo(demo):
    (demo.out / "real").mkdir(parents=True)
    (demo.out / ".scantwin-demo").touch()
    run = demo.start("--data", str(demo.out / "real"), "--json")
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 2 and "would be replaced" in json.loads(said)["error"]["message"]
    assert (demo.out / "real").is_dir()


def test_two_demos_do_not_share_a_folder(demo):
    demo.out.mkdir()
    with (demo.out / ".scantwin-demo").open("w") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        run = demo.start("--json")
        said, _ = run.communicate(timeout=60)
    assert run.returncode == 1 and "Another demo is running" in json.loads(said)["error"]["message"]


def test_a_busy_port_is_said_before_any_work(demo):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        run = demo.start("--serve", "--port", str(held.getsockname()[1]), "--json")
        said, _ = run.communicate(timeout=60)
    assert run.returncode == 1 and "cannot listen" in json.loads(said)["error"]["message"]
    assert not (demo.out / "studies").exists()
