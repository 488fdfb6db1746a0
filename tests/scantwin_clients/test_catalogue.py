"""The catalogue of a site: pseudonyms, what it may say, and that nothing in it identifies a patient."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import DataElement

from scantwin.errors import InputError
from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.reasons import REASONS
from scantwin.imaging.said_safely import said_safely
from scantwin.imaging.volume import Volume
from scantwin_clients.catalogue import Catalogue
from scantwin_clients.ingest import ingest
from scantwin_clients.pseudonyms import digest, study_pseudonym
from scantwin_clients.site import Site


def series_maker():
    """The maker of DICOM series of the imaging tests."""
    path = Path(__file__).parents[1] / "scantwin" / "imaging" / "conftest.py"
    spec = importlib.util.spec_from_file_location("imaging_makers", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.SeriesMaker


def nifti_study(folder: Path, seed: int = 0, pet: bool = True) -> Path:
    rng = np.random.default_rng(seed)
    ct = rng.integers(-1000, 900, (6, 8, 9)).astype(np.int16)
    write_nifti(Volume(ct, (3, 2, 2), unit="HU"), folder / "CTres.nii.gz")
    if pet:
        suv = rng.random((6, 8, 9), np.float32) * 9
        write_nifti(Volume(suv, (3, 2, 2), unit="SUV"), folder / "SUV.nii.gz")
    return folder


@pytest.fixture
def site(home) -> Site:
    return Site.create("rural-1")


def test_pseudonyms_depend_on_the_secret_and_the_identifier_only():
    a, b = b"a" * 32, b"b" * 32
    assert study_pseudonym(a, "P1", "S1") == study_pseudonym(a, "P1", "S1")
    assert study_pseudonym(a, "P1", "S1") != study_pseudonym(b, "P1", "S1")
    assert study_pseudonym(a, "P1", "S1").split("-")[0] == study_pseudonym(a, "P1", "S2").split("-")[0]
    assert study_pseudonym(a, "P1", "S1").split("-")[0] != study_pseudonym(a, "P2", "S1").split("-")[0]
    assert study_pseudonym(a, "", "S1").split("-")[0] != study_pseudonym(a, "", "S2").split("-")[0]
    assert digest(a, "patient", "x") != digest(a, "study", "x")


def test_the_digest_is_hmac_sha256():
    # RFC 4231 gives vectors of HMAC-SHA256; the text here carries the purpose, so the base is checked itself.
    import base64
    import hashlib
    import hmac

    raw = hmac.new(b"k" * 32, b"patient\0one", hashlib.sha256).digest()
    assert digest(b"k" * 32, "patient", "one") == base64.b32encode(raw).decode().rstrip("=").lower()


@given(st.text(max_size=40), st.sampled_from(sorted(REASONS)))
def test_what_is_said_holds_nothing_of_a_quoted_text(quoted, code):
    sentence = REASONS[code].sentence
    import re

    filled = re.sub(r"\{\w+\}", lambda _: "Zq" + quoted + "qZ", sentence)
    assert "Zq" not in said_safely(code, filled)


def test_plain_numbers_are_kept_and_dates_are_not():
    text = REASONS["geometry.missing-slices"].sentence
    assert "3 slices" in said_safely("geometry.missing-slices", text.format(found=3))
    assert "20200101" not in said_safely("geometry.missing-slices", text.format(found="20200101"))
    assert said_safely("no.such-code", "Jane Doe") == "The study could not be read."


def test_a_catalogue_needs_a_site(tmp_path):
    with pytest.raises(InputError):
        Catalogue(tmp_path)


def _of_another_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE studies (study TEXT)")


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b"garbage" * 100), _of_another_version])
def test_a_catalogue_that_cannot_be_read_is_made_anew(site, spoil):
    spoil(site.folder / "catalogue.db")
    with pytest.raises(InputError, match="catalogue of studies") as caught:
        Catalogue(site.folder).entries()
    assert "site ingest" in caught.value.hint and "SCANTWIN" not in caught.value.hint


def test_entries_are_read_under_their_pseudonyms(site, tmp_path):
    data = tmp_path / "data"
    nifti_study(data / "one", 1)
    nifti_study(data / "two", 2, pet=False)
    (nifti_study(data / "three", 3) / "study.json").write_text(
        '{"condition": "lymphoma", "name": "Jane Doe"}'
    )
    (nifti_study(data / "four", 4) / "SUV.nii.gz").write_bytes(b"nothing")
    ingest(site.folder, data, workers=0)
    catalogue = Catalogue(site.folder)
    assert catalogue.counts() == {"accepted": 2, "warned": 1, "rejected": 1}
    usable = catalogue.usable()
    assert len(usable) == 3
    studies = {name: read() for name, read in usable}
    assert all(study.name == name for name, study in studies.items())
    assert sorted(study.condition for study in studies.values()) == ["lymphoma", "unknown", "unknown"]
    (warned,) = catalogue.entries("warned")
    assert warned.codes == ["study.ct-only"]
    assert catalogue.entries("rejected")[0].codes == ["nifti.unreadable"]
    accepted = catalogue.entries("accepted")[0]
    assert accepted.ct_voxel_mm == accepted.pet_voxel_mm == [3.0, 2.0, 2.0]
    assert (site.folder / "catalogue.db").stat().st_mode & 0o077 == 0


def test_pets_alone_are_given_only_to_those_who_need_no_ct(site, tmp_path):
    data = tmp_path / "data"
    nifti_study(data / "both", 1)
    nifti_study(data / "ct", 2, pet=False)
    (nifti_study(data / "pet", 3) / "CTres.nii.gz").unlink()
    ingest(site.folder, data, workers=0)
    catalogue = Catalogue(site.folder)

    def given(**asked: bool) -> list[tuple[bool, bool]]:
        studies = [read() for _, read in catalogue.usable(**asked)]
        return sorted((study.has_ct, study.pet is not None) for study in studies)

    both, ct, pet = (True, True), (True, False), (False, True)
    assert given() == [ct, both]
    assert given(ct=False) == [pet, ct, both]
    assert given(ct=False, pet=True) == [pet, both]
    assert given(pet=True) == [both]


SECRET = "QQDOEJANE4711"
KEPT = {
    "SOPClassUID", "SOPInstanceUID", "Modality", "ImageType", "StudyInstanceUID", "SeriesInstanceUID",
    "FrameOfReferenceUID", "PhotometricInterpretation", "Units", "SUVType", "DecayCorrection",
    "CorrectedImage", "SeriesType", "PatientSex", "SpecificCharacterSet", "RescaleType", "TransferSyntaxUID",
}  # fmt: skip
TEXTS = {"LO", "SH", "PN", "LT", "ST", "UT", "UC", "AE", "CS", "UR"}


def plant(ds, _i) -> None:
    """Puts an identifier into every text element of the dictionary and into private ones."""
    groups = (0x08, 0x10, 0x18, 0x20, 0x28, 0x32, 0x40, 0x54)
    for tag, (vr, vm, _name, retired, keyword) in DicomDictionary.items():
        if vr in TEXTS and keyword not in KEPT and not retired and tag >> 16 in groups:
            value = SECRET if vm.startswith("1") else [SECRET, SECRET]
            ds.add(DataElement(tag, vr, value))
    for group in (0x0009, 0x0011, 0x0029, 0x7053):
        block = ds.private_block(group, "ACME " + SECRET[:6], create=True)
        for offset, vr in ((1, "LO"), (2, "PN"), (3, "UT"), (4, "SH")):
            block.add_new(offset, vr, SECRET)


def test_nothing_in_the_catalogue_identifies_a_patient(site, tmp_path, monkeypatch):
    monkeypatch.setattr(pydicom.config.settings, "writing_validation_mode", pydicom.config.IGNORE)
    SeriesMaker = series_maker()
    wide = {"modality": "PT", "slices": 9, "shape": (8, 9), "spacing": (4, 3.5, 3), "origin": (-14, -9, -19)}
    data = tmp_path / "data"
    uids = []
    spoilt = {
        "fine": {}, "units": {"Units": SECRET}, "corrected": {"CorrectedImage": [SECRET]},
        "decay": {"Units": "BQML", "DecayCorrection": SECRET}, "type": {"SUVType": SECRET},
    }  # fmt: skip
    for k, (case, fields) in enumerate(spoilt.items()):
        uid = f"1.2.826.0.1.99.{k}"
        uids.append(uid)
        for extra, own in (({}, {}), (wide, fields)):
            SeriesMaker(study=uid, frame=f"{uid}.9", fields=own, **extra).write(
                data / case / extra.get("modality", "CT"),
                change=lambda ds, i, own=own: (plant(ds, i), [setattr(ds, n, v) for n, v in own.items()]),
            )
    ct_type = SeriesMaker(study="1.2.826.0.1.99.77", fields={"RescaleType": SECRET})
    ct_type.write(data / "rescale", change=plant)
    result = ingest(site.folder, data, workers=0)
    assert result["counts"]["rejected"] == 5
    assert result["counts"]["total"] == 6
    content = (site.folder / "catalogue.db").read_bytes() + json.dumps(result).encode()
    for part in (SECRET, SECRET[:6], "1.2.826.0.1", "20200101", "2020-01-01", "Test^One"):
        assert part.encode() not in content, part
    assert all(site.secret.hex() not in text for text in (content.hex(), content.decode("latin-1")))


def test_a_study_is_read_with_what_stands_above_its_series(site, tmp_path):
    """As it was taken in: its condition, and whose organ labels stand beside it."""
    SeriesMaker = series_maker()
    wide = {"modality": "PT", "slices": 9, "shape": (8, 9), "spacing": (4, 3.5, 3), "origin": (-14, -9, -19)}
    for number in range(2):
        uid = f"1.2.826.0.1.98.{number}"
        for kind, extra in (("CT", {}), ("PT", wide)):
            maker = SeriesMaker(study=uid, frame=f"{uid}.9", **extra)
            maker.write(tmp_path / "data" / f"p{number}" / "DICOM" / kind)
        (tmp_path / "data" / f"p{number}" / "study.json").write_text('{"condition": "lymphoma"}')
    ingest(site.folder, tmp_path / "data", workers=0)
    catalogue = Catalogue(site.folder)
    assert {entry.condition for entry in catalogue.entries()} == {"lymphoma"}
    assert [read().condition for _, read in catalogue.usable()] == ["lymphoma", "lymphoma"]
