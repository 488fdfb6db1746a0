"""How a run looks, to machines and to people."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from scantwin.cli import consortium_view
from scantwin.cli.consortium_view import LiveRun, run_as_json, say_end, say_status
from scantwin.store.database import Database
from scantwin.store.models import ModelVersion, Round, Run, Site, Update

MAE = {"whole-body": {"mae": {"mean": 0.42, "sd": 0.1, "n": 3}}}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose first round two sites answered, one of them oddly."""
    database = Database(f"sqlite:///{tmp_path / 'scantwin.db'}").migrate()
    with database.session() as session:
        session.add(ModelVersion(id="pix2pix-0", system="pix2pix", name="base", recipe={}))
        session.flush()
        run = Run(
            id="ab" * 16, name="first", system="pix2pix", status="running", rounds_planned=2,
            base_version="pix2pix-0",
        )  # fmt: skip
        losses = {"losses": {"trunk/l1": 0.25}}
        patches = {"pix2pix/trunk/generator": 80}
        good = Update(
            site=Site(name="city"), status="accepted", patches=patches, metrics=losses, seconds=12.4
        )
        odd = Update(site=Site(name="rural-1"), status="refused", reason="Not all numbers are finite.")
        run.rounds = [
            Round(number=1, status="evaluated", held_out=MAE, updates=[good, odd]),
            Round(number=2, status="running", updates=[]),
        ]
        session.add(run)
        return run


def shown(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> io.StringIO:
    """What goes to both consoles."""
    text = io.StringIO()
    for name in ("out", "err"):
        monkeypatch.setattr(consortium_view, name, Console(file=text, force_terminal=terminal, width=140))
    return text


def test_machines_get_all_of_it(run: Run) -> None:
    data = run_as_json(run)
    assert data["rounds"][0]["sites"]["city"]["patches"] == {"pix2pix/trunk/generator": 80}
    assert data["rounds"][0]["sites"]["rural-1"]["reason"] == "Not all numbers are finite."
    assert data["rounds"][0]["held_out"] == MAE
    assert data["rounds"][1]["sites"] == {}
    assert "NOT FOR DIAGNOSIS" in data["notice"]


def test_people_at_a_terminal_get_a_table(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, terminal=True)
    with LiveRun(2, quiet=False) as live:
        live.show(run)
    said = text.getvalue()
    for words in ("1 of 2", "MAE 0.42 SUV", "accepted", "refused", "Not all numbers", "0.250", "80"):
        assert words in said


def test_a_log_gets_a_line_per_change(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, terminal=False)
    with LiveRun(2, quiet=False) as live:
        live.show(run)
        live.show(run)
    assert text.getvalue().splitlines() == ["round 1 of 2: evaluated", "round 2 of 2: running"]


def test_quiet_is_quiet(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, terminal=True)
    with LiveRun(2, quiet=True) as live:
        live.show(run)
    assert text.getvalue() == ""


def test_the_end_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, terminal=False)
    run.status, run.error = "failed", "Round 2 ended with 1 of 2 sites."
    say_end(run)
    run.status, run.error, run.final_version = "finished", None, "pix2pix-1"
    say_end(run)
    assert "The run failed: Round 2 ended with 1 of 2 sites." in text.getvalue()
    assert "first is now the version pix2pix-1" in text.getvalue()


def test_status_is_two_tables(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, terminal=False)
    site = {"site": "city", "kind": "hospital", "status": "active", "link": "online"}
    say_status(
        {
            "name": "Test",
            "running": True,
            "superlink": "127.0.0.1:1",
            "sites": [site],
            "runs": [run_as_json(run)],
        }
    )
    for words in ("Test runs at 127.0.0.1:1", "city", "online", "2 of 2", "running"):
        assert words in text.getvalue()


def test_a_narrow_terminal_loses_no_letter_of_a_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(consortium_view, "out", Console(file=text, width=80, soft_wrap=True))
    run.name, run.final_version = "n" * 48, "coarse-diffusion-0123456789ab"
    about = {"name": "Test", "running": True, "superlink": "127.0.0.1:1", "sites": []}
    say_status({**about, "runs": [run_as_json(run)]})
    columns = [line.split("│") for line in text.getvalue().splitlines() if line.count("│") > 5]
    wrapped = ["".join(cells[number].strip() for cells in columns) for number in (1, 2, 5)]
    assert wrapped == [run.id, run.name, run.final_version]


def test_a_run_of_cts_is_measured_in_hu_and_generates(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, terminal=False)
    run.status, run.final_version = "finished", "v1"
    say_end(run)
    assert "scantwin scan CT" in text.getvalue()
    run.system = "ct-inpainting"
    say_end(run)
    assert "scantwin generate lesions" in text.getvalue()
    out = Console(file=io.StringIO(), width=140)
    out.print(consortium_view._table(run, 2))
    assert "0.42 HU" in out.file.getvalue()


def test_words_of_a_site_are_no_markup(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, terminal=False)
    words = "The site failed: [/red] [bold]y"
    run.rounds[0].updates[1].reason = words
    consortium_view.out.print(consortium_view._table(run, 2))
    for status in ("failed", "finished"):
        run.status, run.error = status, words
        say_end(run)
    assert text.getvalue().count(words) == 3
