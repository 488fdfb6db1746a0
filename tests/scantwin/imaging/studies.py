"""Studies of the reading tests, and how they are read."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from scantwin.errors import Rejection
from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.reading import find_studies, read_study
from scantwin.imaging.reasons import code_of
from scantwin.imaging.volume import Volume


def codes(study) -> list[str]:
    return [code_of(note) for note in study.warnings]


def one(path: Path, **options):
    (source,) = find_studies(path)
    return read_study(source, **options)


def rejected(path: Path, **options) -> str:
    with pytest.raises(Rejection) as caught:
        one(path, **options)
    assert caught.value.message
    return caught.value.code


def nifti_study(folder: Path, *, ct: str = "CTres", seg: str = "SEG", said: object = None) -> Path:
    rng = np.random.default_rng(0)
    shape, spacing = (6, 8, 9), (3.0, 2.0, 2.0)
    write_nifti(
        Volume(rng.integers(-1000, 900, shape).astype(np.int16), spacing, unit="HU"), folder / f"{ct}.nii.gz"
    )
    write_nifti(
        Volume(rng.random(shape, np.float32) * 9, spacing, unit="SUV"), folder / "SUV.nii.gz"
    )  # fmt: skip
    write_nifti(Volume((rng.random(shape) > 0.9), spacing, unit="label"), folder / f"{seg}.nii.gz")
    if said is not None:
        (folder / "study.json").write_text(json.dumps(said))
    return folder


def zipped(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return target
