"""Districts from other programs' label maps: mapping files, grids, gaps, and running the program."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from scantwin.errors import InputError, ServiceError
from scantwin.imaging.labels import (
    Mapping,
    districts_from_labels,
    load_mapping,
    mapping_names,
    read_districts,
    run_tool,
)
from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.study import DISTRICT_LABEL
from scantwin.imaging.volume import Volume


def block() -> Volume:
    """A CT that is body all over: 20 x 12 x 12 voxels of 4 mm."""
    return Volume(np.full((20, 12, 12), 40, np.int16), (4.0, 4.0, 4.0), (10.0, -20.0, 5.0), unit="HU")


def layers(like: Volume, *labels: int) -> Volume:
    """Labels in equal layers from the feet up."""
    array = np.zeros(like.shape, np.uint8)
    for k, part in enumerate(np.array_split(np.arange(like.shape[0]), len(labels))):
        array[part] = labels[k]
    return like.with_array(array, "label")


def test_mappings_of_the_package() -> None:
    assert mapping_names() == ("moose-clin-ct-body", "totalsegmentator-total")
    moose = load_mapping("moose-clin-ct-body")
    assert moose.labels == {1: "legs", 2: "trunk", 3: "head", 4: "arms"}
    total = load_mapping("totalsegmentator-total")
    assert (total.labels[5], total.labels[90], total.labels[69], total.labels[75]) == (
        "trunk",
        "head",
        "arms",
        "legs",
    )
    assert total.legs_below == (77, 78)


def test_a_mapping_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"name": "mine", "labels": {"7": "whole-body"}}))
    ct = block()
    split = districts_from_labels(layers(ct, 7), load_mapping(path), ct)
    assert split.present == ("whole-body",)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"name": "x", "labels": {}}',
        '{"name": "x", "labels": {"1": "torso"}}',
        '{"name": "x", "labels": {"0": "legs"}}',
        '{"name": "x", "labels": {"one": "legs"}}',
        '{"name": "x", "labels": {"1": "legs"}, "tool": "rm"}',
        '{"name": "x", "labels": {"1": "legs"}, "task": "a; b"}',
        '{"name": "x", "labels": {"1": "legs"}, "extra": 1}',
        '{"name": "x", "labels": {"99999999": "legs"}}',
    ],
)
def test_bad_mapping_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        load_mapping(path)
    assert "bad.json" in error.value.message
    assert error.value.hint


def test_a_mapping_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(InputError) as error:
        load_mapping("mouse")
    assert "moose-clin-ct-body" in error.value.hint


def test_moose_labels_on_the_same_grid() -> None:
    ct = block()
    split = districts_from_labels(layers(ct, 1, 2, 4, 3), load_mapping("moose-clin-ct-body"), ct)
    columns = np.asarray(split.labels.array)[:, 0, 0]
    assert columns.tolist() == [4] * 5 + [2] * 5 + [3] * 5 + [1] * 5
    assert split.present == ("head", "trunk", "arms", "legs")
    assert split.confidence == 1.0


def test_a_file_on_another_grid(tmp_path: Path) -> None:
    ct = block()
    fine = Volume(np.zeros((40, 24, 24), np.uint8), (2.0, 2.0, 2.0), (9.0, -21.0, 4.0), unit="label")
    path = write_nifti(layers(fine, 1, 2), tmp_path / "labels.nii.gz")
    split = read_districts(path, load_mapping("moose-clin-ct-body"), ct)
    assert split.labels.same_grid(ct)
    assert np.asarray(split.labels.array)[:, 6, 6].tolist() == [4] * 10 + [2] * 10


def test_gaps_take_the_nearest_label_and_outside_stays_empty() -> None:
    ct = block()
    labels = np.zeros(ct.shape, np.uint8)
    labels[2, 6, 6], labels[17, 6, 6] = 1, 3
    body = np.ones(ct.shape, bool)
    body[:, :, 0] = False
    split = districts_from_labels(
        ct.with_array(labels, "label"), load_mapping("moose-clin-ct-body"), ct, body
    )
    array = np.asarray(split.labels.array)
    assert (array[:9, :, 1:] == DISTRICT_LABEL["legs"]).all()
    assert (array[11:, :, 1:] == DISTRICT_LABEL["head"]).all()
    assert (array[:, :, 0] == 0).all()


def test_far_from_any_label_confidence_falls() -> None:
    ct = Volume(np.full((100, 8, 8), 40, np.int16), (4.0, 4.0, 4.0), unit="HU")
    labels = np.zeros(ct.shape, np.uint8)
    labels[0] = 2
    split = districts_from_labels(ct.with_array(labels, "label"), load_mapping("moose-clin-ct-body"), ct)
    assert split.confidence == pytest.approx(0.21, abs=0.02)  # 80 of 400 mm


def test_labels_the_mapping_does_not_name_are_no_districts() -> None:
    ct = block()
    split = districts_from_labels(layers(ct, 200), load_mapping("moose-clin-ct-body"), ct)
    assert split.present == ("whole-body",)
    assert split.confidence == 0.0


def test_legs_begin_below_the_hip_bones() -> None:
    ct = block()
    labels = np.zeros(ct.shape, np.uint8)
    labels[:14, 3, 3] = 75  # a femur that reaches beside the hip bone
    labels[10:, 8, 8] = 77
    split = districts_from_labels(ct.with_array(labels, "label"), load_mapping("totalsegmentator-total"), ct)
    array = np.asarray(split.labels.array)
    assert (array[10:] == DISTRICT_LABEL["trunk"]).all()
    assert array[5, 3, 3] == DISTRICT_LABEL["legs"]


def test_a_program_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError) as error:
        run_tool(block(), load_mapping("totalsegmentator-total"))
    assert "TotalSegmentator is not installed" in error.value.message
    with pytest.raises(InputError):
        run_tool(block(), Mapping(name="mine", labels={1: "legs"}))


def program(folder: Path, name: str, body: str) -> None:
    """A program on the PATH that takes the command line of the real one."""
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
    path.chmod(0o755)


def test_running_a_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
    copy = (
        "import shutil; a = sys.argv; assert a[5:] == ['--ml', '--task', 'total'], a; shutil.copy(a[2], a[4])"
    )
    program(tmp_path, "TotalSegmentator", copy)
    labels = run_tool(block(), load_mapping("totalsegmentator-total"))
    assert labels.unit == "label"
    assert (np.asarray(labels.array) == 40).all(), "the stand-in gives the CT back"

    moose = (
        "import shutil, pathlib; a = sys.argv; assert a[1] == '-d' and a[3:] == ['-m', 'clin_ct_body'], a\n"
        "s = pathlib.Path(a[2], 'subject'); o = s / 'moosez-clin_ct_body-2026' / 'segmentations'\n"
        "o.mkdir(parents=True); shutil.copy(s / 'CT_scan.nii.gz', o / 'CT_Body_scan.nii.gz')"
    )
    program(tmp_path, "moosez", moose)
    assert run_tool(block(), load_mapping("moose-clin-ct-body")).shape == (20, 12, 12)


def test_a_program_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
    program(tmp_path, "TotalSegmentator", "sys.exit('no weights')")
    with pytest.raises(ServiceError) as error:
        run_tool(block(), load_mapping("totalsegmentator-total"))
    assert "no weights" in error.value.message
    program(tmp_path, "TotalSegmentator", "import time; time.sleep(30)")
    with pytest.raises(ServiceError) as error:
        run_tool(block(), load_mapping("totalsegmentator-total"), timeout_s=0.5)
    assert "took longer" in error.value.message
