"""Districts from another program's label map (MOOSE, TotalSegmentator, or any NIfTI of labels).

A mapping file (JSON) says which label is which district, so another subdivision needs no code:

    {"name": "mine", "labels": {"1": "legs", "2": "trunk"}}
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy import ndimage

from scantwin.errors import InputError, ServiceError
from scantwin.imaging.body import body_mask, coarsen
from scantwin.imaging.districts import Districts, present_in
from scantwin.imaging.nifti import read_nifti, write_nifti
from scantwin.imaging.resampling import resample_like
from scantwin.imaging.study import DISTRICT_LABEL, District
from scantwin.imaging.volume import Volume

NEAR_MM: Final = 80.0
"""A voxel without a label takes its district from the nearest label, which is trusted up to this distance
[mm]: the radius of a thigh, since some maps label only the bone of a limb."""
_PACKAGED = files("scantwin.imaging") / "mappings"


class Mapping(BaseModel):
    """One mapping file: a program's labels -> districts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    labels: dict[Annotated[int, Field(gt=0, le=65535)], District] = Field(min_length=1)
    """Label number -> district. Labels not listed here count as unlabelled."""
    source: str = ""
    """Whose label numbers these are."""
    tool: Literal["", "moosez", "TotalSegmentator"] = ""
    """The program that makes such a map; empty if there is none to run."""
    task: str = Field(default="", pattern=r"^[A-Za-z0-9_]*$")
    """The program's name for the model."""
    legs_below: tuple[int, ...] = ()
    """Labels of the hip bones: the legs begin below their lowest voxel, since the femur reaches above it."""


def mapping_names() -> tuple[str, ...]:
    """The mappings that come with the package."""
    return tuple(
        sorted(f.name.removesuffix(".json") for f in _PACKAGED.iterdir() if f.name.endswith(".json"))
    )


def load_mapping(name_or_path: str | Path) -> Mapping:
    """The mapping of that name in the package, or the one in a JSON file."""
    path = Path(name_or_path)
    try:
        if str(name_or_path) in mapping_names():
            text = (_PACKAGED / f"{name_or_path}.json").read_text(encoding="utf-8")
        else:
            text = path.read_text(encoding="utf-8")
        return Mapping.model_validate(json.loads(text))
    except (FileNotFoundError, IsADirectoryError) as error:
        known = ", ".join(mapping_names())
        raise InputError(
            f"There is no mapping {name_or_path}.", hint=f"Give a file, or one of: {known}."
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError) as error:
        what = str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise InputError(
            f"The mapping {path} cannot be used ({what}).",
            hint='It reads {"name": "...", "labels": {"1": "legs", "2": "trunk"}}.',
        ) from error


def read_districts(
    path: Path, mapping: Mapping, ct: Volume, body: NDArray[np.bool_] | None = None
) -> Districts:
    """Districts on the grid of `ct` [HU] from the label map in the NIfTI file `path`."""
    return districts_from_labels(read_nifti(path, "label"), mapping, ct, body)


def districts_from_labels(
    labels: Volume, mapping: Mapping, ct: Volume, body: NDArray[np.bool_] | None = None
) -> Districts:
    """Districts on the grid of `ct` [HU] from a label map on any grid; `body` is the mask (z, y, x) of `ct`.

    Body voxels without a label take the district of the nearest label in the patient.
    """
    mask = body_mask(ct) if body is None else body
    theirs = np.rint(np.asarray(resample_like(labels, ct, how="nearest").array)).astype(np.int32)
    known = np.where(mask, _translate(theirs, mapping), 0).astype(np.uint8)
    if not known.any():
        whole = np.where(mask, DISTRICT_LABEL["whole-body"], 0).astype(np.uint8)
        reason = f"The label map has no label of the mapping {mapping.name} inside the body."
        return Districts(ct.with_array(whole, "label"), 0.0, present_in(whole), reason)
    nearest, distance = _nearest(known, ct)
    array = np.where(mask, np.where(known > 0, known, nearest), 0).astype(np.uint8)
    _cut_legs(array, theirs, mapping, ct)
    trusted = float(np.mean((distance <= NEAR_MM)[mask]))
    reason = f"Taken from a label map through the mapping {mapping.name}."
    return Districts(ct.with_array(array, "label"), trusted, present_in(array), reason)


def run_tool(ct: Volume, mapping: Mapping, *, timeout_s: float = 3600.0) -> Volume:
    """Runs the program of `mapping`, which must be installed here, on a CT [HU] and returns its label map."""
    if not mapping.tool:
        raise InputError(
            f"The mapping {mapping.name} names no program to run.", hint="Give the label map as a NIfTI file."
        )
    program = shutil.which(mapping.tool)
    if program is None:
        raise InputError(
            f"{mapping.tool} is not installed on this machine.",
            hint="Install it, or make the label map elsewhere and give it as a NIfTI file.",
        )
    with tempfile.TemporaryDirectory(prefix="scantwin-labels-") as folder:
        subject = Path(folder) / "subject"
        subject.mkdir()
        scan = write_nifti(ct, subject / "CT_scan.nii.gz")
        out = Path(folder) / "labels.nii.gz"
        command = _command(program, mapping, scan, out)
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ServiceError(
                f"{mapping.tool} took longer than {timeout_s:.0f} s.",
                hint="Run it by hand and give its label map.",
            ) from error
        made = [out] if out.exists() else sorted(subject.glob("moosez-*/segmentations/*.nii*"))
        if done.returncode != 0 or not made:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
            raise ServiceError(
                f"{mapping.tool} failed with exit code {done.returncode}: {last[0]}",
                hint="Run it by hand on the same CT to see why, and give its label map.",
            )
        return read_nifti(made[0], "label")


def _command(program: str, mapping: Mapping, scan: Path, out: Path) -> list[str]:
    """The program's command line, as its own help describes it."""
    if mapping.tool == "moosez":
        return [program, "-d", str(scan.parent.parent), "-m", mapping.task]
    return [program, "-i", str(scan), "-o", str(out), "--ml", "--task", mapping.task]


def _translate(theirs: NDArray[np.int32], mapping: Mapping) -> NDArray[np.uint8]:
    top = max(mapping.labels)
    table = np.zeros(top + 2, np.uint8)
    for label, district in mapping.labels.items():
        table[label] = DISTRICT_LABEL[district]
    return np.asarray(table[np.where((theirs < 0) | (theirs > top), top + 1, theirs)], np.uint8)


def _nearest(known: NDArray[np.uint8], ct: Volume) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The label nearest to each voxel and its distance [mm], computed on blocks of about 4 mm."""
    blocks = coarsen(ct)
    missing = [(0, -n % f) for n, f in zip(ct.shape, blocks.factor, strict=True)]
    (nz, ny, nx), (fz, fy, fx) = blocks.hu.shape, blocks.factor
    coarse = np.pad(known, missing).reshape(nz, fz, ny, fy, nx, fx).max(axis=(1, 3, 5))
    distance, index = ndimage.distance_transform_edt(
        coarse == 0, sampling=blocks.spacing, return_indices=True
    )
    nearest = coarse[tuple(index)]
    return blocks.expand(nearest, ct.shape), blocks.expand(distance.astype(np.float32), ct.shape)


def _cut_legs(array: NDArray[np.uint8], theirs: NDArray[np.int32], mapping: Mapping, ct: Volume) -> None:
    """Gives leg voxels above the lowest voxel of the hip bones back to the trunk, in place."""
    hips = np.isin(theirs, mapping.legs_below) if mapping.legs_below else np.zeros(0, bool)
    if not hips.any():
        return
    index = np.argwhere(hips)
    lowest = ct.world(index)[:, 2].min()
    legs = np.argwhere(array == DISTRICT_LABEL["legs"])
    above = legs[ct.world(legs)[:, 2] >= lowest]
    array[tuple(above.T)] = DISTRICT_LABEL["trunk"]
