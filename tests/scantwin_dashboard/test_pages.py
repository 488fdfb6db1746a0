"""Every page with no database, an empty and a full one, in Streamlit's own test bench."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import delete, select
from sqlalchemy.exc import DataError
from streamlit.testing.v1 import AppTest

from scantwin import NOTICE
from scantwin.errors import ServiceError
from scantwin.imaging.nifti import read_nifti, write_nifti
from scantwin.learning.recipe import GENERATORS
from scantwin.store.database import Database
from scantwin.store.models import CalibrationSample, ModelVersion, Round, Run, Scan, Site, Update
from scantwin_dashboard import queries, state
from scantwin_dashboard.pages import rounds, scans

CT_FIGURES = {"mae": 42.06, "bias": -3.02, "spread": 0.9, "denoising": 0.1}
"""What systems that make CT measure [HU], and figures of their own that the page does not show."""

PAGES = ("overview", "rounds", "sites", "scans", "about")
APP = Path(__file__).parents[2] / "dashboard" / "app.py"


def _page(name: str, **query: str) -> AppTest:
    page = AppTest.from_string(
        f"from scantwin_dashboard.pages import {name}\n{name}.show()", default_timeout=30
    )
    for key, value in query.items():
        page.query_params[key] = value
    return page.run()


def _words(page: AppTest) -> str:
    parts = [*page.title, *page.caption, *page.markdown, *page.info, *page.warning, *page.error, *page.code]
    parts += [*page.subheader, *page.success]
    return "\n".join(str(part.value) for part in parts) + "\n".join(
        f"{m.label}: {m.value}" for m in page.metric
    )


@pytest.mark.parametrize("name", PAGES)
def test_without_a_database_it_says_what_to_run(name: str, home: Path) -> None:
    page = _page(name)
    assert not page.exception
    if name != "about":
        assert "does not exist or is empty" in _words(page)
        assert "scantwin demo" in _words(page)
    assert not home.exists()  # looking leaves no trace


@pytest.mark.parametrize(
    ("name", "sentence", "command"),
    [
        ("overview", "No site is enrolled", "scantwin demo"),
        ("rounds", "Nothing has been trained", "scantwin demo"),
        ("sites", "No site is enrolled", "scantwin consortium enrol"),
        ("scans", "No patient has been scanned", "scantwin twin submit"),
        ("about", NOTICE, ""),
    ],
)
def test_an_empty_database_says_what_to_run(name: str, sentence: str, command: str, empty: Path) -> None:
    page = _page(name)
    assert not page.exception
    assert sentence in _words(page)
    assert command in _words(page)


@pytest.mark.parametrize("name", PAGES)
def test_a_full_database_draws_without_an_error(name: str, filled: Path) -> None:
    page = _page(name)
    assert not page.exception
    assert not [w for w in page.warning if "cannot" in w.value]
    assert page.title


def test_the_frame_has_the_notice_and_the_place(filled: Path) -> None:
    page = AppTest.from_file(str(APP), default_timeout=30).run()
    assert not page.exception
    assert page.title[0].value == "Consortium"
    assert any(NOTICE in html.body for html in page.get("html")) or NOTICE in str(page.main)
    assert str(filled) in "".join(caption.value for caption in page.sidebar.caption)


def test_the_overview_names_what_needs_attention(filled: Path) -> None:
    page = _page("overview")
    assert any("Klinik Passau" in e.value and "EARL" in e.value for e in page.error)
    assert any("is suspended" in w.value for w in page.warning)
    words = _words(page)
    assert "Active sites: 4 of 5" in words
    assert "Running now: 1" in words


def test_a_run_of_the_address_is_shown(filled: Path) -> None:
    with Database.from_settings().session() as session:
        run = session.scalars(select(Run).where(Run.name == "autumn-2026")).one()
    page = _page("rounds", run=run.id)
    assert "Rounds: 8 of 8" in _words(page)
    assert "Updates accepted: 34 of 40" in _words(page)
    reasons = next(d.value for d in page.dataframe if "Reason" in d.value.columns)
    assert "No answer within 30 min." in set(reasons["Reason"])


def test_the_error_is_that_of_the_whole_body_beside_its_bias(filled: Path) -> None:
    with Database.from_settings().session() as session:
        run = session.scalars(select(Run).where(Run.name == "autumn-2026")).one()
        newest = run.rounds[-1]
        shown = {
            "MAE now": newest.held_out["whole-body"],
            "MAE of the median": newest.references["training-median"]["whole-body"],
        }
    page = _page("rounds", run=run.id)
    for label, figures in shown.items():
        (metric,) = (m for m in page.metric if m.label == label)
        assert metric.value == f"{figures['mae']['mean']:.3f} SUV, bias −{-figures['bias']['mean']:.3f}"
        assert "hole bod" in metric.help
    table = next(d.value for d in page.dataframe if "Bias [SUV]" in d.value.columns)
    assert table["Bias [SUV]"].str.startswith("−").all()


@pytest.mark.parametrize(
    ("system", "words"),
    [("low-resource-3d", "reconstructed CT"), ("ct-inpainting", "inside the regions")],
)
def test_a_run_of_cts_is_measured_in_hu_without_references(filled: Path, system: str, words: str) -> None:
    measured = {name: {"mean": mean, "sd": 4.0, "n": 3} for name, mean in CT_FIGURES.items()}
    with Database.from_settings().session() as session:
        run = session.scalars(select(Run).where(Run.name == "autumn-2026")).one()
        run.system = system
        for one in run.rounds:
            one.held_out, one.references = {"whole-body": measured}, {}
    page = _page("rounds", run=run.id)
    assert not page.exception
    (now,) = (m for m in page.metric if m.label.startswith("MAE"))
    assert now.value == "42.1 HU, bias −3.0"
    assert page.button_group[0].options == ["MAE", "Bias"]
    assert words in _words(page) and "SUV" not in _words(page)
    (table,) = (d.value for d in page.dataframe if "District" in d.value.columns)
    assert list(table.columns) == ["District", "Who", "MAE [HU]", "Bias [HU]", "Patients"]
    page.button_group[0].set_value("bias").run()
    assert not page.exception
    assert any("Nearer to 0 is better" in caption.value for caption in page.caption)


def test_the_page_knows_every_system_that_makes_ct() -> None:
    assert rounds._OF_CT.keys() == set(GENERATORS)


def test_another_metric_can_be_chosen(filled: Path) -> None:
    page = _page("rounds")
    page.button_group[0].set_value("ssim").run()
    assert not page.exception
    assert any("Higher is better" in caption.value for caption in page.caption)


def test_a_run_that_nobody_measured_yet(filled: Path) -> None:
    with Database.from_settings().session() as session:
        run = session.scalars(select(Run).where(Run.status == "failed")).one()
    page = _page("rounds", run=run.id)
    assert not page.exception
    assert "No round has been measured yet" in _words(page)
    assert "Fewer than two sites answered" in _words(page)


def test_a_site_of_the_address_is_shown(filled: Path) -> None:
    page = _page("sites", site="Klinik Passau")
    words = _words(page)
    assert "Refused: 3" in words
    assert [tab.label for tab in page.tabs] == ["Uniform cylinder", "Sphere phantom", "Liver, in vivo"]
    assert "Each point is one patient" in words
    assert "interval" not in words
    assert any("out of control" in d.value.to_string() for d in page.dataframe)


def test_the_spread_of_a_site_starts_anew_at_a_recalibration(filled: Path) -> None:
    spread = next(m.value for m in _page("sites", site="Tromsø").metric if m.label == "Spread")
    assert 1.0 < float(spread.split()[0]) < 3.0  # the samples since then have a deviation of 2 %


def test_a_site_that_has_only_enrolled(empty: Path) -> None:
    with Database.from_settings().session() as session:
        session.add(Site(name="new *site*"))
    for name in ("sites", "overview"):
        page = _page(name)
        assert not page.exception
        assert "measured nothing yet" in _words(page) or "no uniform cylinder yet" in _words(page)


@pytest.mark.parametrize(("name", "key"), [("rounds", "run"), ("sites", "site"), ("scans", "scan")])
def test_a_link_to_what_is_not_there_shows_nothing_else(name: str, key: str, filled: Path) -> None:
    page = _page(name, **{key: "*gone*"})
    assert not page.exception
    assert [w.value for w in page.warning if rf"{key} \*gone\* here" in w.value]
    assert not page.metric
    assert page.query_params[key] in ("*gone*", ["*gone*"])
    page.selectbox[0].select_index(0).run()
    assert not page.exception
    assert page.metric
    assert not [w for w in page.warning if "gone" in w.value]


def test_a_link_to_an_older_scan_than_are_listed_shows_that_one(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Database.from_settings().session() as session:
        listed = queries.scans(session)
    monkeypatch.setattr(queries, "scans", lambda _session: listed[:1])
    page = _page("scans", scan=listed[2].id)
    assert "The CT shows less than one district." in _words(page)
    assert not [w for w in page.warning if "There is no scan" in w.value]


def test_a_scan_of_one_slice_is_shown(thin: Callable[[int], Path]) -> None:
    thin(1)
    page = _page("scans")
    assert not page.exception
    assert not page.slider
    assert "axial slice 1 of 1" in _words(page)


def test_a_scan_shows_its_slices_and_moves(filled: Path) -> None:
    page = _page("scans")
    assert not page.exception
    assert NOTICE in _words(page)
    assert page.slider[0].label == "Slice"
    before = next(c.value for c in page.caption if "slice" in c.value)
    page.slider[0].set_value(3).run()
    after = next(c.value for c in page.caption if "slice" in c.value)
    assert not page.exception
    assert after != before
    assert "coronal slice 3 of 28" in after


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("running", "Trunk, window 31 of 50"),
        ("failed", "The CT shows less than one district."),
        ("queued", "worker"),
    ],
)
def test_scans_that_are_not_done(status: str, words: str, filled: Path) -> None:
    with Database.from_settings().session() as session:
        scan = session.scalars(select(Scan).where(Scan.status == status)).one()
    page = _page("scans", scan=scan.id)
    assert not page.exception
    assert words in _words(page) + " ".join(str(p.proto) for p in page.get("progress"))


def test_a_scan_whose_folder_is_gone_says_so(filled: Path) -> None:
    (filled / "scans" / "done" / "pet.nii.gz").unlink()
    page = _page("scans")
    assert not page.exception
    assert any("not on this machine" in w.value for w in page.warning)


def test_nothing_to_do_without_sites_claims_nothing_of_sites(filled: Path) -> None:
    with Database.from_settings().session() as session:
        for table in (Update, CalibrationSample, Round, Run, Site):
            session.execute(delete(table))
        session.execute(delete(Scan).where(Scan.status == "failed"))
    (said,) = [box.value for box in _page("overview").success]
    assert "no site is enrolled" in said and "0 of the 3 scans" in said


def test_a_scan_shows_its_triage(filled: Path) -> None:
    reasons = ["The error of 97% of the voxels above SUV 0.5 was never measured.", "A *second* one."]
    with Database.from_settings().session() as session:
        scan = session.scalars(select(Scan).where(Scan.status == "done")).one()
        scan.summary = {**scan.summary, "triage": {"answer": "cannot tell", "reasons": reasons}}
    (box,) = [w.value for w in _page("scans").warning]
    assert "**Triage: cannot tell.**" in box and "97%" in box and r"A \*second\* one." in box


def test_a_scan_whose_error_was_mostly_not_measured_says_so(filled: Path) -> None:
    assert not _page("scans").warning
    path = filled / "scans" / "done" / "std.nii.gz"
    std = read_nifti(path, "1")
    pet = read_nifti(path.with_name("pet.nii.gz"), "1")
    array = np.where(np.asarray(pet.array) > 2, std.array, np.nan).astype(np.float32)
    write_nifti(std.with_array(array), path)
    (filled / "scans" / "done" / "pet.nii.gz").touch()
    state.forget()
    scans._volumes.clear()
    (box,) = [w.value for w in _page("scans").warning]
    assert "was never measured" in box


@pytest.mark.parametrize("tab", ["Slices", "Projections", "Manifest", "Files"])
def test_a_scan_of_another_user_says_who_may_see_it(
    tab: str, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin service keeps scans/ for its own user; root, who may run the tests, can read everything."""
    is_file, folder = Path.is_file, filled / "scans"

    def closed(path: Path) -> bool:
        if path.is_relative_to(folder):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", closed)
    page = AppTest.from_string("from scantwin_dashboard.pages import scans\nscans.show()", default_timeout=30)
    page.session_state["tab"] = tab
    page.run()
    assert not page.exception
    assert [w.value for w in page.warning if "No permission" in w.value and "twin service" in w.value]


def test_a_broken_picture_says_so(filled: Path) -> None:
    (filled / "scans" / "done" / "pet.nii.gz").write_bytes(b"\x1f\x8b broken")
    page = _page("scans")
    assert not page.exception
    assert page.warning


def test_a_database_that_cannot_be_reached(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANTWIN_DATABASE_URL", "postgresql://lead:sesame@127.0.0.1:1/scantwin")
    for name in PAGES:
        page = _page(name)
        assert not page.exception
        assert "sesame" not in _words(page)
    assert any("cannot be used" in w.value for w in _page("overview").warning)


def test_a_question_that_the_database_refuses_is_a_sentence(
    filled: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """PostgreSQL cannot be asked for a NUL, which a link may hold."""

    def scan(_session: object, scan_id: str) -> None:
        raise DataError("SELECT scans.id", {"id": scan_id}, ValueError("NUL"))

    monkeypatch.setattr(queries, "scan", scan)
    page = _page("scans", scan="a\0b")
    assert not page.exception
    assert ["cannot answer" in w.value for w in page.warning] == [True]
    assert "SELECT" not in _words(page) and "SELECT" in caplog.text


def test_the_pages_cannot_write(filled: Path) -> None:
    with pytest.raises(ServiceError, match="reading only"), state.database().session() as session:
        session.add(Site(name="intruder"))


def test_another_home_is_not_answered_from_the_cache(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Active sites" in _words(_page("overview"))
    monkeypatch.setenv("SCANTWIN_HOME", str(tmp_path / "other"))
    Database.from_settings().migrate().close()
    assert "No site is enrolled" in _words(_page("overview"))


def test_no_page_imports_torch() -> None:
    code = (
        "import sys, pkgutil, importlib, scantwin_dashboard;"
        "[importlib.import_module(m.name) for m in"
        " pkgutil.walk_packages(scantwin_dashboard.__path__, 'scantwin_dashboard.')];"
        "bad = {'torch', 'monai', 'flwr', 'grpc'} & set(sys.modules); print(bad); sys.exit(bool(bad))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_database_that_cannot_be_opened_is_not_said_to_be_missing(home: Path) -> None:
    """Who runs the dashboard from another account is not told to begin anew."""
    (home / "scantwin.db").mkdir(parents=True)
    page = _page("overview")
    assert not page.exception
    assert "does not exist" not in _words(page) and "scantwin demo" not in _words(page)
    assert page.warning


def test_the_cohort_is_that_of_one_round(filled: Path) -> None:
    """A district that was trained long ago, and held-out patients of another round, are not the newest."""
    soon = datetime.now(UTC) + timedelta(minutes=1)
    with Database.from_settings().session() as session:
        site = session.query(Site).filter_by(name="Tromsø").one()
        base = session.scalars(select(ModelVersion.id)).first()
        run = Run(
            name="spring", system="pix2pix", status="running", rounds_planned=3, base_version=base, seed=1,
            started_at=soon,
        )  # fmt: skip
        now = Round(number=1, status="aggregated", run=run, started_at=soon)
        session.add(Update(round=now, site=site, status="accepted", patches={"pix2pix/trunk/generator": 7}))
    (table,) = [f.value for f in _page("sites", site="Tromsø").dataframe if "Held-out patients" in f.value]
    assert list(table["District"]) == ["trunk"]
    assert list(table["Patches, newest round"]) == [7]
    assert list(table["Held-out patients"]) == ["–"]
