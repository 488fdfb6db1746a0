"""A real service on a free port of loopback, a small CT and a small untrained model."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.volume import Volume
from scantwin.settings import Settings
from scantwin_twin.client import TwinClient
from scantwin_twin.executor import LocalExecutor
from scantwin_twin.security import expose
from scantwin_twin.server import TwinServer, build
from scantwin_twin.uploads import Limits


@dataclass
class Service:
    server: TwinServer
    client: TwinClient
    executor: LocalExecutor
    home: Path
    model: str

    @property
    def uploads(self) -> Path:
        return self.home / "uploads"

    @property
    def scans(self) -> Path:
        return self.home / "scans"


def body(slices: int = 24) -> Volume:
    """A cylinder of soft tissue (40 HU) with two lungs (-800 HU) in air, 8 x 6 x 6 mm voxels."""
    y, x = np.mgrid[-1:1:56j, -1:1:56j]
    plane = np.where((y / 0.6) ** 2 + (x / 0.85) ** 2 < 1, 40, -1000)
    for side in (-0.4, 0.4):
        plane = np.where((y / 0.35) ** 2 + ((x - side) / 0.25) ** 2 < 1, -800, plane)
    hu = np.repeat(plane[None], slices, axis=0).astype(np.int16)
    return Volume(hu, (8.0, 6.0, 6.0), origin=(-165.0, -165.0, 12.5), unit="HU")


@pytest.fixture(scope="session")
def ct_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nifti(body(), tmp_path_factory.mktemp("ct") / "Doe^Jane.nii.gz")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from scantwin.learning.recipe import Recipe
    from scantwin.learning.weights import Model, system_arrays
    from scantwin.systems import build as build_system

    recipe = Recipe.read(
        {
            "system": "pix2pix", "name": "tiny", "districts": ["whole-body"], "spacing_mm": [8, 8, 8],
            "network": {"channels": [4, 8], "discriminator_channels": [4, 8]},
            "sampling": {"patch": 16, "window": 32, "overlap": 8},
        },
        "test",
    )  # fmt: skip
    components = system_arrays(build_system(recipe, seed=1))
    # The record claims patches, or the scanner would rightly refuse what never learnt anything.
    record = {"patches": {"pix2pix/whole-body/generator": 1}}
    return Model(recipe, components, record).save(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("home")
    executor = LocalExecutor()
    limits = replace(Limits(), upload=4 << 20, members=200)
    server = build(
        Settings(home=home), expose("127.0.0.1", 0), models=[model_folder], limits=limits, executor=executor
    )
    server.start()
    try:
        with TwinClient(server.address) as client:
            yield Service(server, client, executor, home, server.models.version("tiny"))
    finally:
        server.stop()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


@pytest.fixture(scope="session")
def empty_room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CT with nobody in it."""
    air = Volume(np.full((12, 24, 24), -1000, np.int16), (8.0, 8.0, 8.0), unit="HU")
    return write_nifti(air, tmp_path_factory.mktemp("room") / "ct.nii.gz")


@pytest.fixture(scope="session")
def ct_series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same body as a DICOM series of 24 slices, and a report beside them."""
    folder = tmp_path_factory.mktemp("series")
    volume, study, series, frame = body(), generate_uid(), generate_uid(), generate_uid()
    for k, plane in enumerate(np.asarray(volume.array)):
        slice_ = Dataset()
        slice_.file_meta = FileMetaDataset()
        slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_.SOPClassUID, slice_.SOPInstanceUID = CTImageStorage, generate_uid()
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID, slice_.FrameOfReferenceUID = study, series, frame
        slice_.Modality, slice_.PatientID, slice_.PatientName = "CT", "4711", "Doe^Jane"
        slice_.Rows, slice_.Columns = plane.shape
        slice_.PixelSpacing, slice_.SliceThickness = [6.0, 6.0], 8.0
        slice_.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        slice_.ImagePositionPatient = [float(v) for v in volume.world((k, 0, 0))]
        slice_.RescaleSlope, slice_.RescaleIntercept, slice_.InstanceNumber = 1, -1024, k + 1
        slice_.BitsAllocated = slice_.BitsStored = 16
        slice_.HighBit, slice_.PixelRepresentation, slice_.SamplesPerPixel = 15, 0, 1
        slice_.PhotometricInterpretation = "MONOCHROME2"
        slice_.PixelData = (plane + 1024).astype("<u2").tobytes()
        slice_.save_as(folder / f"Doe^Jane_{k:03d}.dcm", enforce_file_format=True)
    (folder / "report.txt").write_text("Dear colleague")
    return folder
