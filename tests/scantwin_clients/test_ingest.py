"""Taking in studies: parallel, repeatable, resumable, and one bad study harms no other."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

import scantwin_clients.ingest as ingesting
from scantwin.errors import InputError
from scantwin.imaging.dicom_files import FileRef
from scantwin.imaging.dicom_series import IndexEntry, index_file
from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.reading import find_studies
from scantwin.imaging.reasons import REASONS
from scantwin.imaging.volume import Volume
from scantwin_clients import reading_pool
from scantwin_clients.catalogue import Catalogue
from scantwin_clients.commands import app
from scantwin_clients.ingest import forget, ingest
from scantwin_clients.reading_pool import ReadingPool
from scantwin_clients.site import Site

from .test_catalogue import series_maker


def nifti_study(folder: Path, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    ct = rng.integers(-1000, 900, (6, 8, 9)).astype(np.int16)
    write_nifti(Volume(ct, (3, 2, 2), unit="HU"), folder / "CTres.nii.gz")
    suv = rng.random((6, 8, 9), np.float32) * 9
    write_nifti(Volume(suv, (3, 2, 2), unit="SUV"), folder / "SUV.nii.gz")
    return folder


@pytest.fixture
def site(home) -> Site:
    return Site.create("rural-1")


@pytest.fixture
def data(tmp_path) -> Path:
    for k in range(4):
        nifti_study(tmp_path / "data" / f"p{k}", k)
    return tmp_path / "data"


def test_the_json_contract_and_the_progress(site, data):
    said = []
    result = ingest(site.folder, data, workers=2, advance=lambda *step: said.append(step))
    assert result["counts"] == {"accepted": 4, "warned": 0, "rejected": 0, "total": 4, "read": 4}
    assert {"study", "status", "codes", "message"} <= set(result["studies"][0])
    assert said[0][:2] == (0, 4)
    assert said[-1][:2] == (4, 4)
    assert [done for done, _, *_ in said] == sorted(done for done, _, *_ in said)


def test_a_folder_whose_name_is_no_utf_8_is_taken_in_like_any_other(site, data):
    """As an old disk has it: one such name must not keep the others out either."""
    old = Path(os.fsdecode(bytes(data) + b"/M\xfcller"))
    nifti_study(old / "files", 7)
    series_maker()().write(old / "dicom")
    for path in (old / "dicom").iterdir():
        ds = pydicom.dcmread(path)
        ds.StudyInstanceUID = ""  # then its folder is its key
        ds.save_as(path)
    result = ingest(site.folder, data, workers=0)
    assert result["counts"]["total"] == 6
    assert result["counts"]["rejected"] == 0
    json.dumps(result).encode()
    catalogue = Catalogue(site.folder)
    assert {Path(e.path).parent for e in catalogue.entries()} == {data, old}
    assert all(catalogue.read(entry).ct.shape for entry in catalogue.below(old))
    catalogue.close()
    assert ingest(site.folder, data, workers=0)["counts"]["read"] == 0
    assert forget(site.folder, old)["forgotten"] == 2


def test_unchanged_studies_are_not_read_again(site, data, monkeypatch):
    ingest(site.folder, data, workers=0)
    monkeypatch.setattr(ingesting, "read_one", lambda source: pytest.fail("it was read again"))
    again = ingest(site.folder, data, workers=0)
    assert again["counts"]["read"] == 0
    assert again["counts"]["accepted"] == 4


def test_changed_new_and_vanished_studies_are_noticed(site, data):
    first = ingest(site.folder, data, workers=0)
    (site.folder / "cache" / "prepared.safetensors").write_bytes(b"x")
    nifti_study(data / "p1", 77)
    nifti_study(data / "p9", 9)
    for path in sorted((data / "p2").iterdir()):
        path.unlink()
    second = ingest(site.folder, data, workers=0)
    assert second["counts"]["read"] == 2
    assert second["counts"]["total"] == 4
    assert len({s["study"] for s in first["studies"]} & {s["study"] for s in second["studies"]}) == 3
    assert not list((site.folder / "cache").iterdir())  # prepared from what is no longer there


def test_a_subfolder_or_another_folder_leaves_the_rest_alone(site, data, tmp_path):
    ingest(site.folder, data, workers=0)
    other = nifti_study(tmp_path / "more" / "q", 5).parent
    assert ingest(site.folder, other, workers=0)["counts"]["total"] == 1
    assert ingest(site.folder, data / "p1", workers=0)["counts"]["read"] == 0
    assert sum(Catalogue(site.folder).counts().values()) == 5


def test_a_study_is_one_however_its_folder_is_reached(site, data, tmp_path, monkeypatch):
    """Two names would make two patients of one: enough for `min_studies`, or both taught and held out."""
    ct = series_maker()(fields={"StudyInstanceUID": ""})  # then its folder is its key
    ct.write(data / "dicom")
    first = ingest(site.folder, data, workers=0)
    (tmp_path / "PETCT_other").mkdir()
    monkeypatch.chdir(tmp_path / "PETCT_other")
    (tmp_path / "link").symlink_to(tmp_path)
    for way in ("../data", "../link/data", tmp_path / "PETCT_other" / ".." / "data"):
        again = ingest(site.folder, way, workers=0)
        assert again["studies"] == first["studies"]
        assert again["counts"]["read"] == 0
    assert forget(site.folder, "../link/data")["forgotten"] == 5


def test_a_file_keeps_its_name_where_a_link_leads_to_a_store_of_contents(site, tmp_path):
    """As git-annex keeps large files: their description lies beside the link."""
    stored = nifti_study(tmp_path / "stored") / "CTres.nii.gz"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "study.json").write_text('{"patient": "one"}')
    for name in ("first.nii.gz", "second.nii.gz"):
        (tmp_path / "data" / name).symlink_to(stored)
        (said,) = ingest(site.folder, tmp_path / "data" / name, workers=0)["studies"]
        assert said["path"] == str(tmp_path / "data" / name)
    patients = {entry.study.partition("-")[0] for entry in Catalogue(site.folder).entries()}
    assert len(patients) == 1


def test_an_interrupted_run_goes_on_where_it_stopped(site, data, monkeypatch):
    whole = ingesting.read_one
    seen = []

    def stop_at_third(source):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(source)
        return whole(source)

    monkeypatch.setattr(ingesting, "read_one", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        ingest(site.folder, data, workers=0)
    monkeypatch.setattr(ingesting, "read_one", whole)
    assert ingest(site.folder, data, workers=0)["counts"] == {
        "accepted": 4, "warned": 0, "rejected": 0, "total": 4, "read": 2,
    }  # fmt: skip


def test_a_study_that_kills_its_reader_is_refused_and_the_others_are_read():
    # `eval` of a text stands for a reader: a worker can import it, and one task ends its process.
    pool = ReadingPool(2, eval, "crashed")
    tasks = {"one": "1 + 1", "bad": "__import__('os')._exit(9)", "two": "2 + 2", "three": "3 + 3"}
    assert dict(pool.answers(tasks)) == {"one": 2, "bad": "crashed", "two": 4, "three": 6}
    pool.close()
    refusal = ingesting._crashed().refusal  # what ingest gives the pool for such a study
    assert refusal is not None
    assert refusal[0] == "study.reader-crashed"


def test_a_reader_that_dies_while_nobody_looks_costs_one_study():
    pool = ReadingPool(1, eval, "crashed")
    tasks = {"one": "1 + 1", "bad": "__import__('os')._exit(9)", "two": "2 + 2", "three": "3 + 3"}
    answers = pool.answers(tasks)
    first = next(answers)
    deadline = time.monotonic() + 30
    while not pool._pool._broken and time.monotonic() < deadline:  # the catalogue takes its time to write
        time.sleep(0.01)
    assert dict([first, *answers]) == {"one": 2, "bad": "crashed", "two": 4, "three": 6}
    pool.close()


class Deadly(FileRef):
    """A file that ends the process that it is sent to."""

    def __reduce__(self):
        return os._exit, (9,)


def test_a_file_that_kills_its_indexer_is_marked_and_the_others_are_indexed(tmp_path, monkeypatch):
    monkeypatch.setattr(reading_pool, "_FEW", 0)
    monkeypatch.setattr(reading_pool, "_CHUNK", 2)
    series_maker()(slices=2).write(tmp_path)
    refs = [FileRef(path) for path in sorted(tmp_path.iterdir())]
    deadly = Deadly(tmp_path / "deadly.dcm")
    pool = ReadingPool(2, eval, None)
    entries = list(pool.index([*refs[:1], deadly, *refs[1:]]))
    pool.close()
    marked = IndexEntry(deadly, "", "", "", "", "", readable=False)
    assert entries == [index_file(refs[0]), marked, *map(index_file, refs[1:])]


def test_nothing_to_take_in_is_bad_input(site, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(InputError) as caught:
            ingest(site.folder, folder, workers=0)
        assert caught.value.exit_code == 2


def test_two_sites_give_one_patient_two_names(home, data):
    a, b = Site.create("a"), Site.create("b")
    names = [{s["study"] for s in ingest(s.folder, data, workers=0)["studies"]} for s in (a, b)]
    assert not names[0] & names[1]


def test_a_pet_without_a_ct_is_taken_in_with_a_warning(site, data):
    (data / "p0" / "CTres.nii.gz").unlink()
    result = ingest(site.folder, data, workers=1)
    assert result["counts"] == {"accepted": 3, "warned": 1, "rejected": 0, "total": 4, "read": 4}
    (warned,) = (study for study in result["studies"] if study["status"] == "warned")
    assert warned["codes"] == ["study.pet-only"]
    assert warned["message"] == REASONS["study.pet-only"].sentence, "no path, no name"
    catalogue = Catalogue(site.folder)
    (entry,) = catalogue.entries("warned")
    assert entry.has_pet and not entry.has_ct and entry.pet_voxel_mm == [3.0, 2.0, 2.0]
    study = catalogue.read(entry)
    assert study.name == entry.study and not study.has_ct
    (data / "p0").rename(data.parent / "away")
    assert ingest(site.folder, data, workers=0)["counts"]["total"] == 3


def test_a_pet_that_a_former_version_refused_is_read_again(site, data, monkeypatch):
    series_maker()(modality="PT", slices=9, shape=(8, 9), spacing=(4, 3.5, 3)).write(data / "pet")

    def as_before(path, *, pets_alone, **more):
        return find_studies(path, **more)

    monkeypatch.setattr(ingesting, "find_studies", as_before)
    (refused,) = (s for s in ingest(site.folder, data, workers=0)["studies"] if s["status"] == "rejected")
    assert refused["codes"] == ["study.no-ct"]
    monkeypatch.undo()
    now = ingest(site.folder, data, workers=0)
    assert now["counts"] == {"accepted": 4, "warned": 1, "rejected": 0, "total": 5, "read": 1}
    (warned,) = (s for s in now["studies"] if s["status"] == "warned")
    assert (warned["study"], warned["codes"]) == (refused["study"], ["study.pet-only"])


def prepared(site: Site, *names: str) -> list[Path]:
    """Cached files of these studies, as far as they say whose they are."""
    paths = [site.cache / f"{number:024x}.9.safetensors" for number, _ in enumerate(names)]
    for path, name in zip(paths, names, strict=True):
        save_file({"hu": np.zeros(3, np.float32)}, path, metadata={"study": json.dumps({"name": name})})
    return paths


def test_what_is_gone_can_be_forgotten(site, data, tmp_path):
    ingest(site.folder, data, workers=0)
    other = ingest(site.folder, nifti_study(tmp_path / "more" / "q", 5).parent, workers=0)
    (kept,) = (one["study"] for one in other["studies"])
    names = [entry.study for entry in Catalogue(site.folder).entries() if entry.study != kept]
    paths = prepared(site, kept, names[0])
    data.rename(tmp_path / "moved")
    with pytest.raises(InputError, match="no such file or folder") as caught:
        ingest(site.folder, data, workers=0)
    assert f"4; scantwin site forget {data}" in caught.value.hint
    said = forget(site.folder, data.parent / "more" / ".." / "data")
    assert said["forgotten"] == 4 and said["studies"] == names
    assert said["counts"] == {"accepted": 1, "warned": 0, "rejected": 0}
    assert [path.exists() for path in paths] == [True, False]
    with pytest.raises(InputError, match="No study was taken in from"):
        forget(site.folder, data)


def test_the_last_study_of_a_folder_can_be_forgotten(site, data):
    ingest(site.folder, data / "p1", workers=0)
    for path in (data / "p1").iterdir():
        path.unlink()
    with pytest.raises(InputError) as caught:
        ingest(site.folder, data / "p1", workers=0)
    assert "site forget" in caught.value.hint
    assert forget(site.folder, data / "p1")["forgotten"] == 1


def test_of_what_was_prepared_only_the_changed_is_dropped(site, data):
    names = [one["study"] for one in ingest(site.folder, data, workers=0)["studies"]]
    paths = prepared(site, *names)
    changed = next(e.study for e in Catalogue(site.folder).entries() if e.path.endswith("p1"))
    nifti_study(data / "p1", 77)
    ingest(site.folder, data, workers=0)
    assert [path.exists() for path in paths] == [name != changed for name in names]


def test_the_command_says_how_many_are_forgotten(site, data):
    ingest(site.folder, data, workers=0)
    said = CliRunner().invoke(app, ["forget", str(data / "p1"), "--json"])
    assert json.loads(said.stdout)["forgotten"] == 1
    (site.pictures / "run").mkdir()
    told = " ".join(CliRunner().invoke(app, ["forget", str(data)]).stdout.split())
    assert "3 studies are forgotten; 0 usable ones are left." in told and "Pictures" in told
    assert CliRunner().invoke(app, ["forget", str(data)]).exit_code != 0
