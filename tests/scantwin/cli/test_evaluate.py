"""`scantwin evaluate` from a folder: each patient is measured with what is that patient's own."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scantwin.cli.evaluate import evaluate
from scantwin.errors import InputError
from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.study import Study
from scantwin.learning import prepared
from scantwin.learning.prepared import prepare
from scantwin.learning.weights import Model
from scantwin.phantoms.tissues import ORGANS


@pytest.fixture(scope="module")
def model(bar_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bar_model.save(tmp_path_factory.mktemp("bars") / "model")


def write(bar: Study, folder: Path, *organs: str) -> None:
    """A study's folder, with a block of each of these organs as a phantom's has it."""
    labels = np.zeros(bar.ct.shape, np.uint8)
    for number, name in enumerate(organs):
        labels[22 + 4 * number : 25 + 4 * number, 10:14, 12:16] = ORGANS[name]
    truth = bar.ct.with_array(labels, "label")
    volumes = {"CT": bar.ct, "SUV": bar.pet, "districts": bar.districts, "truth/organs": truth}
    for name, volume in volumes.items():
        assert volume is not None
        write_nifti(volume, folder / f"{name}.nii.gz")


def measured(capsys: pytest.CaptureFixture[str], model: Path, data: Path) -> dict[str, Any]:
    evaluate(str(model), data, threads=1, as_json=True)
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    return said


def test_patients_of_one_name_have_organs_of_their_own(
    model: Path, make_bar: Callable[..., Study], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(make_bar(1), tmp_path / "north" / "p1", "liver")
    write(make_bar(2), tmp_path / "south" / "p1", "liver", "spleen")
    said = measured(capsys, model, tmp_path)
    assert said["n"] == 2 and said["organs"]["n"] == 3
    assert {name: figures["n"] for name, figures in said["agreement"].items()} == {"liver": 2, "spleen": 1}


def test_no_more_than_two_patients_are_in_memory_at_once(
    model: Path, make_bar: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that was measured, and the one that is being read."""
    for number in range(5):
        write(make_bar(number), tmp_path / f"p{number}")
    made: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def watched(*arguments: Any, **more: Any) -> Any:
        gc.collect()
        study = prepare(*arguments, **more)
        made.append(weakref.ref(study))
        alive.append(sum(one() is not None for one in made))
        return study

    monkeypatch.setattr(prepared, "prepare", watched)
    evaluate(str(model), tmp_path, threads=1, as_json=True)
    assert len(alive) == 5 and max(alive) <= 2


def test_studies_without_anything_to_measure_are_one_sentence(
    model: Path, make_bar: Callable[..., Study], tmp_path: Path
) -> None:
    write_nifti(make_bar(1).ct, tmp_path / "p" / "CT.nii.gz")
    with pytest.raises(InputError, match="has both a CT and a PET"):
        evaluate(str(model), tmp_path, threads=1, as_json=True)
