"""Submit, watch, fetch, cancel: against a real service on loopback, with a real worker process."""

from __future__ import annotations

import json
import os
import signal
import time
import zipfile

import nibabel as nib
import numpy as np
import pydicom
import pytest

from scantwin import NOTICE
from scantwin.errors import InputError, ServiceError
from scantwin.store.models import AuditEntry
from scantwin_twin import messages
from scantwin_twin.client import TwinClient
from scantwin_twin.v1 import twin_pb2 as pb


@pytest.fixture(scope="module")
def done(service, ct_file, tmp_path_factory):
    """A finished scan: its events, its message and what export gave."""
    queued = service.client.submit(ct_file, model="tiny", twin="patient-7", seed=3)
    events = list(service.client.watch(queued.id))
    out = tmp_path_factory.mktemp("out")
    return queued, events, service.client.get(queued.id), service.client.export(queued.id, out), out


def test_a_scan_is_queued_watched_and_done(service, done):
    queued, events, scan, _contract, _out = done
    assert (queued.twin, queued.model, queued.seed) == ("patient-7", service.model, 3)
    assert messages.WORD[events[-1].status] == "done" and events[-1].progress == 1.0
    progress = [e.progress for e in events]
    assert progress == sorted(progress)
    assert any("scanning" in e.stage for e in events) or any("writing" in e.stage for e in events)
    assert scan.started.ToDatetime() <= scan.finished.ToDatetime()


def test_every_message_with_a_result_carries_the_notice(service, done):
    queued, events, scan, contract, _out = done
    heads = service.client._calls.FetchResult(pb.FetchResultRequest(id=scan.id, name="manifest.json"))
    said = [
        queued.notice, scan.notice, contract["notice"], *(e.notice for e in events), next(heads).head.notice,
        service.client.scans().notice, service.client.models().notice,
        service.client.twin("patient-7").notice, service.client.twins().notice,
    ]  # fmt: skip
    heads.cancel()
    assert set(said) == {NOTICE}


def test_the_export_is_the_json_contract_with_files_that_exist(done):
    _queued, _events, scan, contract, out = done
    assert contract["scan"] == scan.id
    for key in ("pet_nifti", "std_nifti", "manifest"):
        assert (out / contract[key]).is_file()
    assert len(contract["pictures"]) >= 2 and all(
        (out / p).read_bytes()[:4] == b"\x89PNG" for p in contract["pictures"]
    )
    assert contract["seconds"] and contract["districts"] and json.dumps(contract, allow_nan=False)
    assert contract["triage"]["answer"] == "cannot tell" and contract["triage"]["reasons"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["seed"], manifest["model_version"], manifest["notice"]) == (3, scan.model, NOTICE)


def test_the_dicom_says_the_same_suv_as_the_nifti_within_one_step(done):
    _queued, _events, _scan, contract, out = done
    image = nib.load(contract["pet_nifti"])
    suv = np.asarray(image.dataobj, np.float64).transpose(2, 1, 0)
    # NIfTI is RAS, DICOM is LPS: the x and y of its affine have the other sign.
    assert suv.max() > 0.5
    slices = sorted(
        (pydicom.dcmread(p) for p in (out / "dicom").iterdir()),
        key=lambda d: float(d.ImagePositionPatient[2]),
    )
    assert len(slices) == suv.shape[0]
    for plane, slice_ in zip(suv, slices, strict=True):
        assert slice_.Units == "GML" and float(slice_.RescaleIntercept) == 0
        read = slice_.pixel_array * float(slice_.RescaleSlope)
        assert np.abs(read - plane).max() <= float(slice_.RescaleSlope) * 1.001
    z = [float(s.ImagePositionPatient[2]) for s in slices]
    assert z[0] == pytest.approx(image.affine[2, 3], abs=1e-3)


def test_the_same_seed_and_ct_give_the_same_pet(service, ct_file, done):
    again = service.client.wait(service.client.submit(ct_file, model=service.model, seed=3).id)
    one, two = ({r.name: r.sha256 for r in s.results} for s in (done[2], again))
    image = {n for n in one if n in ("pet.nii.gz", "std.nii.gz")}
    first, second = (nib.load(service.scans / s.id / "pet.nii.gz").get_fdata() for s in (done[2], again))
    assert len(image) == 2 and set(one) == set(two) and np.array_equal(first, second)


def test_an_idempotency_key_makes_one_scan(service, ct_file):
    first = service.client.submit(ct_file, model="tiny", twin="p", key="k1")
    again = service.client.submit(ct_file, model="tiny", twin="p", key="k1")
    other = service.client.submit(ct_file, model="tiny", twin="q", key="k1")
    assert first.id == again.id != other.id
    with pytest.raises(InputError, match="used before") as caught:
        service.client.submit(ct_file, model="tiny", twin="p", seed=1, key="k1")
    assert caught.value.code == "key-reused"
    for scan in (first, other):
        service.client.cancel(scan.id)


def test_only_listed_results_of_done_scans_are_sent(service, done, ct_file, tmp_path):
    for name in ("../../../scantwin.db", "/etc/passwd", "ct.nii.gz/../pet.nii.gz", "", "dicom/00001.dcm"):
        with pytest.raises(InputError, match="has no result") as caught:
            service.client.fetch(done[0].id, name, tmp_path / "x")
        assert caught.value.code == "unknown-result"
    scan = service.client.cancel(service.client.submit(ct_file, model="tiny").id)
    with pytest.raises(InputError, match="is cancelled"):
        service.client.fetch(scan.id, "pet.nii.gz", tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_a_result_that_was_changed_on_the_disk_is_not_passed_on(service, ct_file, tmp_path):
    scan = service.client.wait(service.client.submit(ct_file, model="tiny").id)
    results = service.scans / scan.id
    flipped = bytearray((results / "pet.nii.gz").read_bytes())
    flipped[100] ^= 1
    (results / "pet.nii.gz").write_bytes(flipped)
    (results / "std.nii.gz").write_bytes(b"short")
    for name, said in (("pet.nii.gz", "damaged"), ("std.nii.gz", "changed or removed")):
        with pytest.raises(ServiceError, match=said):
            service.client.fetch(scan.id, name, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_a_name_of_the_file_is_not_kept(service, done):
    assert [p.name for p in (service.uploads / done[0].id).iterdir()] == ["ct.nii.gz"]
    assert all(folder.stat().st_mode & 0o077 == 0 for folder in (service.uploads, service.scans))
    assert not [p for p in service.home.rglob("*") if "Doe" in p.name]


def test_who_did_what_is_in_the_audit_log(service, done):
    with service.server.database.session() as session:
        entries = session.query(AuditEntry).filter_by(subject=done[0].id).order_by(AuditEntry.id).all()
        actions = [entry.action for entry in entries]
        assert actions[:3] == ["scan.submit", "scan.run", "scan.done"] and "scan.fetch" in actions
        assert entries[0].actor.startswith("twin-client ipv4:127.0.0.1")


def test_lists_and_twins(service, done):
    assert done[0].id in {s.id for s in service.client.scans(twin="patient-7", status="done").scans}
    assert not service.client.scans(twin="nobody").scans
    page = service.client.scans(limit=1)
    assert len(page.scans) == 1
    assert service.client.twin("patient-7").scans >= 1
    assert [m.version for m in service.client.models().models] == [service.model]
    with pytest.raises(InputError, match="no status"):
        service.client.scans(status="finished")


def test_a_zip_of_dicom_joins_the_patients_study(service, ct_series, tmp_path):
    """`ct_series` is a folder of DICOM; the client zips it on the fly."""
    study = pydicom.dcmread(next(ct_series.iterdir()), stop_before_pixels=True).StudyInstanceUID
    scan = service.client.wait(service.client.submit(ct_series, model="tiny", twin="patient-8").id)
    with zipfile.ZipFile(service.uploads / scan.id / "ct.zip") as archive:
        assert archive.namelist()[0] == "00001.dcm"
    service.client.export(scan.id, tmp_path)
    made = pydicom.dcmread(next((tmp_path / "dicom").iterdir()))
    assert made.StudyInstanceUID == study and "SYNTHETIC" in made.SeriesDescription


def test_a_ct_that_is_none_fails_with_our_sentence(service, tmp_path):
    letter = tmp_path / "letter.zip"
    with zipfile.ZipFile(letter, "w") as archive:
        archive.writestr("letter.txt", "Dear colleague")
    queued = service.client.submit(letter, model="tiny")
    with pytest.raises(InputError) as caught:
        service.client.wait(queued.id)
    assert caught.value.code and str(service.home) not in caught.value.message
    failed = service.client.get(queued.id)
    assert failed.status == pb.STATUS_FAILED and not failed.results
    with pytest.raises(InputError, match="has no results"):
        service.client.export(queued.id, tmp_path / "out")


def test_an_empty_room_fails_with_our_sentence(service, empty_room):
    with pytest.raises(InputError, match=r"body|CT"):
        service.client.wait(service.client.submit(empty_room, model="tiny").id)


def test_a_running_scan_is_cancelled_and_the_next_one_runs(service, ct_file):
    scan = service.client.submit(ct_file, model="tiny")
    pid = _frozen(service, scan.id)
    waiting = service.client.submit(ct_file, model="tiny")
    behind = service.client.submit(ct_file, model="tiny")
    assert messages.WORD[service.client.cancel(waiting.id).status] == "cancelled"
    assert messages.WORD[service.client.cancel(scan.id).status] == "cancelled"
    with pytest.raises(ServiceError, match="was cancelled"):
        service.client.wait(scan.id)
    assert service.client.wait(behind.id).status == pb.STATUS_DONE
    assert not _alive(pid)
    assert not [p for p in service.scans.iterdir() if scan.id in p.name]
    # Cancelling again, or what is done, changes nothing.
    assert service.client.cancel(scan.id).status == pb.STATUS_CANCELLED
    assert service.client.cancel(behind.id).status == pb.STATUS_DONE


def test_a_worker_that_is_killed_fails_its_scan_only(service, ct_file):
    scan = service.client.submit(ct_file, model="tiny")
    os.kill(_frozen(service, scan.id), signal.SIGKILL)
    with pytest.raises(ServiceError, match="SIGKILL") as caught:
        service.client.wait(scan.id)
    assert caught.value.code == "worker-died"
    assert service.client.wait(service.client.submit(ct_file, model="tiny").id).status == pb.STATUS_DONE


def _frozen(service, scan_id: str) -> int:
    """Waits until the worker has the scan and freezes it: it cannot end before the test goes on."""
    for _ in range(400):
        state = service.client.get(scan_id)
        assert state.status in (pb.STATUS_QUEUED, pb.STATUS_RUNNING)
        if state.status == pb.STATUS_RUNNING and (pid := service.executor.pid):
            os.kill(pid, signal.SIGSTOP)
            return pid
        time.sleep(0.005)
    raise AssertionError("the scan never ran")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_scan_replaces_another_ones_files_and_nothing_else(service, done, ct_file, tmp_path):
    """Two patients' files in one folder would be taken for one scan."""
    out = tmp_path / "scan"
    service.client.export(done[0].id, out)
    (out / "dicom-extra").mkdir(exist_ok=True)
    (out / "dicom-extra" / "seg.dcm").write_text("lesions of the patient before")
    contract = service.client.export(done[0].id, out)
    assert not (out / "dicom-extra" / "seg.dcm").exists()
    named = [contract["pet_nifti"], contract["manifest"], *contract["pictures"], contract["pet_dicom"]]
    assert all(str(path).startswith(str(out)) for path in named)
    assert len(list((out / "dicom").iterdir())) > 1 and not (out / "dicom.zip").exists()
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("Dear colleague")
    with pytest.raises(InputError, match="is not empty"):
        service.client.export(done[0].id, tmp_path / "letters")
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["letter.txt"]


def test_what_a_zip_calls_its_files_is_not_kept(service, ct_series, tmp_path):
    """A refusal stands in the database and on pages without login; a file may be named after a patient."""
    broken = tmp_path / "ct.zip"
    with zipfile.ZipFile(broken, "w") as archive:
        for path in sorted(ct_series.iterdir()):
            data = path.read_bytes()
            archive.writestr(f"DOE^JANE_4711/{path.name}", data[: len(data) // 2])
    with pytest.raises(InputError) as caught:
        service.client.wait(service.client.submit(broken, model="tiny", twin="patient-9").id)
    assert "DOE" not in caught.value.message and "4711" not in caught.value.message
    (failed,) = service.client.scans(twin="patient-9").scans
    assert "DOE" not in str(failed) and "4711" not in str(failed)


def test_two_calls_at_once_with_one_key_and_two_cts_are_not_one_scan(service, ct_file, monkeypatch):
    jobs = service.server.jobs
    first = service.client.submit(ct_file, model="tiny", twin="p", key="k2")
    found = jobs.find
    answers = iter([None])  # the look before the upload came too early
    monkeypatch.setattr(jobs, "find", lambda scan: next(answers, None) or found(scan))
    with pytest.raises(InputError, match="used before"):
        service.client.submit(ct_file, model="tiny", twin="p", seed=1, key="k2")
    service.client.cancel(first.id)


def test_no_proxy_comes_between_this_machine_and_itself(service, monkeypatch):
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    with TwinClient(service.server.address) as client:
        assert [model.version for model in client.models().models] == [service.model]
