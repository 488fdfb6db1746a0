"""`scantwin suv` as people and scripts call it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import (
    PYDICOM_IMPLEMENTATION_UID,
    ExplicitVRLittleEndian,
    PositronEmissionTomographyImageStorage,
)

from scantwin.cli.main import main
from scantwin.imaging.reasons import code_of

KEYS = (
    "path", "series_uid", "modality", "units", "suv_type", "factor", "reference_rule", "reference_time",
    "dose_at_reference_bq", "warnings", "error",
)  # fmt: skip
"""The contract."""
RIGHT = 70_000 / (368.08e6 * 2 ** (-3600 / 6586.2))


def write_slice(path: Path, *, number: int = 1, series: str = "1.2.3", **changes: Any) -> Path:
    """A PET instance of the digital reference object, without pixels. A change to None removes a field."""
    drug = pydicom.Dataset()
    drug.RadiopharmaceuticalStartTime = "100000"
    drug.RadionuclideTotalDose = "368080000"
    drug.RadionuclideHalfLife = "6586.2"
    dataset = pydicom.Dataset()
    dataset.SOPClassUID = PositronEmissionTomographyImageStorage
    dataset.SOPInstanceUID = f"{series}.{number}"
    dataset.SeriesInstanceUID = series
    dataset.Modality = "PT"
    dataset.Units = "BQML"
    dataset.DecayCorrection = "START"
    dataset.CorrectedImage = ["ATTN", "DECY"]
    dataset.PatientWeight = "70"
    dataset.SeriesDate = dataset.AcquisitionDate = "20250101"
    dataset.SeriesTime = dataset.AcquisitionTime = "110000"
    dataset.RescaleSlope, dataset.RescaleIntercept = "1.5", "0"
    dataset.RadiopharmaceuticalInformationSequence = [drug]
    for keyword, value in changes.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["scantwin", "suv", *map(str, arguments)])
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, capsys.readouterr().out


@pytest.fixture
def suv(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: object) -> tuple[int, dict[str, Any]]:
        code, text = run(monkeypatch, capsys, *arguments, "--json")
        return code, json.loads(text)

    return call


def test_the_contract(suv: Any, tmp_path: Path) -> None:
    for number in (2, 1, 3):
        write_slice(tmp_path / f"pet/{number}.dcm", number=number)
    code, said = suv(tmp_path)
    assert code == 0
    assert said["notice"] == "SYNTHETIC, NOT FOR DIAGNOSIS"
    (entry,) = said["series"]
    assert set(KEYS) <= set(entry)
    assert entry["factor"] == pytest.approx(RIGHT, rel=1e-12)
    assert (entry["path"], entry["series_uid"]) == (str(tmp_path / "pet"), "1.2.3")
    assert (entry["modality"], entry["units"], entry["suv_type"]) == ("PT", "BQML", "bw")
    assert (entry["reference_rule"], entry["reference_time"]) == ("series-time", "2025-01-01T11:00:00")
    assert entry["dose_at_reference_bq"] == pytest.approx(368.08e6 * 2 ** (-3600 / 6586.2), rel=1e-12)
    assert (entry["error"], entry["warnings"]) == (None, [])
    assert len(entry["derivation"]) >= 4


def test_texts_and_names_that_are_no_utf_8_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = {"Units": "BQML\ud800", "CorrectedImage": ["ATTN", "DECY"], "Radiopharmaceutical": "X\udcff"}
    (tmp_path / "dump.json").write_text(json.dumps([dump]))
    code, said = run(monkeypatch, capsys, tmp_path / "dump.json")
    assert code == 0
    assert "Units (0054,1001) is BQML?" in said.replace("\n", " ")
    write_slice(tmp_path / os.fsdecode(b"M\xfcller") / "1.dcm")
    code, said = run(monkeypatch, capsys, tmp_path / os.fsdecode(b"M\xfcller"))
    assert code == 0
    assert "M\\udcfcller" in said


def test_a_refused_series_is_reported_beside_a_good_one(suv: Any, tmp_path: Path) -> None:
    write_slice(tmp_path / "a/1.dcm", series="1.2.3")
    write_slice(tmp_path / "b/1.dcm", series="1.2.4", CorrectedImage=["DECY"])
    write_slice(tmp_path / "c/1.dcm", series="1.2.5", PatientWeight=None)
    code, said = suv(tmp_path)
    assert code == 0
    good, nac, no_weight = said["series"]
    assert good["factor"] and good["error"] is None
    assert (nac["factor"], nac["error"]["code"]) == (None, "pet.no-attenuation-correction")
    assert no_weight["error"]["code"] == "suv.no-weight"
    assert [code_of(w) for w in no_weight["warnings"]] == ["pet.as-activity"]
    assert no_weight["error"]["message"] and no_weight["error"]["hint"]


def test_one_factor_per_slice_where_they_differ(suv: Any, tmp_path: Path) -> None:
    for number, clock in ((1, "110000"), (2, "110300")):
        write_slice(
            tmp_path / f"{number}.dcm", number=number, AcquisitionTime=clock, DecayCorrection="NONE",
            ActualFrameDuration="180000",
        )  # fmt: skip
    _, said = suv(tmp_path)
    low, high = said["series"][0]["factor"]
    assert high / low == pytest.approx(2 ** (180 / 6586.2), rel=1e-9)


def test_a_zip_and_the_same_slices_beside_it_count_once(suv: Any, tmp_path: Path) -> None:
    write_slice(tmp_path / "pet/1.dcm")
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.write(tmp_path / "pet/1.dcm", "PET/1.dcm")
    assert suv(tmp_path / "export.zip")[1]["series"][0]["path"].endswith("export.zip!PET/1.dcm")
    _, said = suv(tmp_path)
    assert [entry["instances"] for entry in said["series"]] == [1]


def test_two_series_of_a_careless_writer_with_one_instance_uid(suv: Any, tmp_path: Path) -> None:
    write_slice(tmp_path / "a.dcm", series="1.2.3", SOPInstanceUID="1.9")
    write_slice(tmp_path / "b.dcm", series="1.2.4", SOPInstanceUID="1.9")
    assert len(suv(tmp_path)[1]["series"]) == 2


def test_a_single_file(suv: Any, tmp_path: Path) -> None:
    path = write_slice(tmp_path / "1.dcm")
    assert suv(path)[1]["series"][0]["path"] == str(path)


def test_types(suv: Any, tmp_path: Path) -> None:
    path = write_slice(tmp_path / "1.dcm", PatientSize="1.75", PatientSex="M")
    surface = 0.007184 * 70**0.425 * 175**0.725 * 1e4
    assert suv(path, "--type", "bsa")[1]["series"][0]["factor"] == pytest.approx(RIGHT / 70_000 * surface)
    assert suv(path, "--type", "LBM-janma")[1]["series"][0]["suv_type"] == "lbm-janma"
    code, said = suv(path, "--type", "lean")
    assert (code, "lbm-james128" in said["error"]["hint"]) == (2, True)


@pytest.mark.parametrize("prepare", ["nothing", "empty", "text", "garbage", "bad-zip", "bad-json"])
def test_exit_2_where_there_is_no_pet(suv: Any, tmp_path: Path, prepare: str) -> None:
    target = tmp_path / "there"
    if prepare != "nothing":
        target.mkdir()
    if prepare == "text":
        (target / "note.txt").write_text("hello")
    if prepare == "garbage":
        (target / "x.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 500)
    if prepare == "bad-zip":
        target = target / "x.zip"
        target.write_bytes(b"PK\x03\x04 nonsense")
    if prepare == "bad-json":
        target = target / "x.json"
        target.write_text("[1, 2")
    code, said = suv(target)
    assert code == 2
    assert said["error"]["code"].startswith(("study.", "dicom.", "zip."))
    assert said["error"]["message"] and said["error"]["hint"]


def test_a_damaged_file_does_not_hide_the_rest(suv: Any, tmp_path: Path) -> None:
    write_slice(tmp_path / "1.dcm")
    (tmp_path / "2.dcm").write_bytes((tmp_path / "1.dcm").read_bytes()[:500])
    code, said = suv(tmp_path)
    assert (code, len(said["series"])) == (0, 1)


def test_for_people(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_slice(tmp_path / "a/1.dcm", series="1.2.3")
    write_slice(tmp_path / "[b]/1.dcm", series="1.2.4", PatientWeight=None)
    code, text = run(monkeypatch, capsys, tmp_path)
    assert code == 0
    for part in (
        "rule 2",
        "0.000277778",
        "no SUV",
        "stay an activity in Bq/ml",
        "suv.no-weight",
        "Restore PatientWeight",
        "[b]/1.dcm",
    ):
        assert part in text


@pytest.mark.data
def test_header_dumps(suv: Any, shared_data: Path) -> None:
    _, said = suv(shared_data / "suv/headers/SIEMENS.json")
    assert said["series"][0]["factor"] == pytest.approx(0.00042748316187, rel=1e-6)
    code, said = suv(shared_data / "suv/headers/SIEMENS.json", "--out", "x.nii.gz")
    assert (code, "no pixels" in said["error"]["message"]) == (2, True)


@pytest.mark.data
def test_out_writes_suv(suv: Any, shared_data: Path, tmp_path: Path) -> None:
    import nibabel
    import numpy as np

    target = tmp_path / "SUV.nii.gz"
    code, said = suv(shared_data / "suv/dro/DRO_0_0.zip", "--out", target)
    assert (code, said["out"]) == (0, str(target))
    with zipfile.ZipFile(shared_data / "suv/dro/DRO_0_0.zip") as archive:
        archive.extractall(tmp_path)
    image = np.asarray(nibabel.load(target).dataobj)
    mask = np.asarray(nibabel.load(tmp_path / "DRO_0_0/mask/DRO_mask.nii.gz").dataobj) > 0
    assert np.median(image[mask]) == pytest.approx(1.0, abs=0.005)


def test_out_is_refused_where_it_would_not_be_suv(suv: Any, tmp_path: Path) -> None:
    path = write_slice(tmp_path / "1.dcm", PatientWeight=None)
    target = tmp_path / "SUV.nii.gz"
    assert suv(path, "--out", target)[1]["error"]["code"] == "suv.no-weight"
    assert suv(path, "--out", tmp_path / "SUV.png")[0] == 2
    assert suv(path, "--out", target, "--type", "lbm")[0] == 2
    write_slice(tmp_path / "two/1.dcm", series="1.2.7")
    write_slice(tmp_path / "two/2.dcm", series="1.2.8")
    code, said = suv(tmp_path / "two", "--out", target)
    assert (code, "--out takes one" in said["error"]["message"]) == (2, True)
    drug = pydicom.Dataset()
    drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = "150000000", "4069"
    drug.RadiopharmaceuticalStartTime = "100000"
    gallium = write_slice(tmp_path / "ga.dcm", RadiopharmaceuticalInformationSequence=[drug])
    assert suv(gallium)[1]["series"][0]["error"]["code"] == "pet.not-fdg"
    assert suv(gallium, "--any-nuclide")[1]["series"][0]["factor"] > 0
    assert suv(gallium, "--any-nuclide", "--out", target)[0] == 2
    assert not target.exists()


def test_broken_and_nested_zips_and_links_are_said(suv: Any, tmp_path: Path) -> None:
    good = write_slice(tmp_path / "a/1.dcm")
    with zipfile.ZipFile(tmp_path / "a/inner.zip", "w") as archive:
        archive.write(good, "1.dcm")
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.write(tmp_path / "a/inner.zip", "inner.zip")
    assert suv(tmp_path / "outer.zip")[1]["error"]["code"] == "zip.nested"
    (tmp_path / "a/broken.zip").write_bytes(b"PK\x03\x04" + bytes(40))
    code, said = suv(tmp_path / "a")
    assert (code, len(said["series"])) == (0, 1)
    assert [u["code"] for u in said["unreadable"]] == ["zip.unreadable"]
    (tmp_path / "links").mkdir()
    (tmp_path / "links/one").symlink_to(tmp_path / "a")
    assert suv(tmp_path / "links")[1]["error"]["code"] == "study.only-links"
    assert suv(tmp_path / "links/one")[0] == 0, "a link that is pointed to is followed"


def test_header_work_imports_neither_torch_nor_simpleitk(tmp_path: Path) -> None:
    write_slice(tmp_path / "1.dcm")
    script = (
        "import sys; sys.argv = ['scantwin', 'suv', sys.argv[1], '--json']\n"
        "from scantwin.cli.main import main; main()\n"
        "assert not {'torch', 'SimpleITK', 'scipy', 'nibabel'} & set(sys.modules), 'heavy'"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["series"]


def test_the_command_is_installed() -> None:
    assert shutil.which("scantwin") or (Path(sys.executable).parent / "scantwin").exists()
