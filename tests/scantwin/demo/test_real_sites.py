"""Real studies become the demo's sites: whose they are, and what the sites are called."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from scantwin.demo.beforehand import _real_sites
from scantwin.demo.plan import DemoOptions
from scantwin.demo.progress import _database
from scantwin.demo.stages import _real
from scantwin.demo.story import Story
from scantwin.errors import InputError
from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.reading import find_studies


def study(folder: Path, make_bar, slice_mm: float = 8.0) -> None:
    bar = make_bar(1)
    folder.mkdir(parents=True)
    for image, name in ((bar.ct, "CT"), (bar.pet, "SUV")):
        moved = image.with_array(image.array)
        write_nifti(
            type(moved)(moved.array, (slice_mm, 8.0, 8.0), unit=moved.unit), folder / f"{name}.nii.gz"
        )


def test_sites_that_differ_in_their_slices_alone_have_names_of_their_own(tmp_path, make_bar):
    for number in range(6):
        study(tmp_path / f"s{number}", make_bar, 8.0 if number < 4 else 6.0)
    groups = _real_sites(tmp_path, 3)
    assert [name for name, _ in groups] == ["site-8-00x8-00x8-00mm", "site-8-00x8-00x6-00mm"]
    (alone,) = _real_sites(tmp_path, 1)
    assert alone[0] == "site-8-00mm" and len(alone[1]) == 4


def test_a_site_has_two_patients_and_the_new_one_is_in_none(tmp_path, make_bar):
    """Of FDG-PET-CT-Lesions a patient has several studies, in a folder of their own."""
    data, out = tmp_path / "data", tmp_path / "out"
    for whose, count in (("PETCT_a", 1), ("PETCT_b", 2), ("PETCT_c", 2)):
        for number in range(count):
            study(data / whose / f"visit-{number}", make_bar)
    study(data / "PETCT_d" / "visit-0", make_bar, 6.0)  # a scanner with one patient: no site
    groups = _real_sites(data, 3)
    assert [len(patients) for _, patients in groups] == [3]
    sites, ct = _real(groups, DemoOptions(out=out, data=data), Story(quiet=True))
    assert [site.patients for site in sites] == [2] and ct.is_file()
    copied = find_studies(out / "studies" / sites[0].name)
    assert sorted(source.patient for source in copied) == ["PETCT_a", "PETCT_b", "PETCT_b"]


def test_one_patient_with_three_studies_is_too_few(tmp_path, make_bar):
    for number in range(3):
        study(tmp_path / "PETCT_a" / f"visit-{number}", make_bar)
    with pytest.raises(InputError, match="too few patients for a demo: 1 of one scanner"):
        _real_sites(tmp_path, 3)


def test_two_scanners_with_two_patients_each_are_too_few(tmp_path, make_bar):
    for number in range(4):
        study(tmp_path / f"s{number}", make_bar, 8.0 if number % 2 else 6.0)
    with pytest.raises(InputError, match="too few patients for a demo: 2 of one scanner"):
        _real_sites(tmp_path, 3)


def test_the_new_patient_is_learnt_from_at_no_other_scanner(tmp_path, make_bar):
    for whose, slices in (("a", 8.0), ("b", 8.0), ("c", 8.0), ("c", 6.0), ("d", 6.0), ("e", 6.0)):
        study(tmp_path / f"PETCT_{whose}" / f"of-{slices:.0f}", make_bar, slices)
    (_, first), (_, second) = _real_sites(tmp_path, 2)
    assert first[-1][0].parent.name == "PETCT_c"
    assert [patient[0].parent.name for patient in second] == ["PETCT_d", "PETCT_e"]


def test_the_demos_database_is_its_own(tmp_path, monkeypatch):
    """Whoever leads a consortium has another one in the environment."""
    monkeypatch.setenv("SCANTWIN_DATABASE_URL", "postgresql://a:b@db/prod")
    assert str(tmp_path) in _database(tmp_path / "state").place


def test_studies_inside_a_zip_are_left_out_before_anything_is_copied(tmp_path, make_bar, capsys):
    """The demo copies folders. In one zip, studies of several patients would count as one patient."""
    for name in "abcdef":
        study(tmp_path / "whole" / name, make_bar)
    data = tmp_path / "data"
    shutil.copytree(tmp_path / "whole", data)
    for name in "def":
        with zipfile.ZipFile(data / f"{name}.zip", "w") as file:
            for image in (data / name).iterdir():
                file.write(image, f"PETCT_{name}/{image.name}")
        shutil.rmtree(data / name)
    ((_, patients),) = _real_sites(data, 3)
    assert [path.name for patient in patients for path in patient] == ["a", "b", "c"]
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("left out:") == 3 and "d.zip" in said and "Unpack it" in said
    shutil.rmtree(data / "a")
    with pytest.raises(InputError, match="2 of one scanner"):
        _real_sites(data, 3)
