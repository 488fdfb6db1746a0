"""Experiments side by side: what runs with what, that all are heard of, and that nothing is left behind."""

from __future__ import annotations

import multiprocessing
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # benchmarks are no part of the package

from benchmarks.evidence import side_by_side
from benchmarks.evidence.experiments import EXPERIMENTS
from benchmarks.evidence.settings import QUICK
from benchmarks.evidence.side_by_side import ROWS, Order, together


def test_every_experiment_stands_in_one_row_at_most_and_minutes_are_not_shared() -> None:
    names = [name for row in ROWS for name in row]
    assert len(names) == len(set(names)) and set(names) < set(EXPERIMENTS)
    assert "sarcoma" not in names, "it trains for minutes of a clock, of the whole machine"


def test_what_shares_models_is_never_side_by_side() -> None:
    assert together(["volumes", "districts", "sarcoma", "sampling"]) == [
        ["districts", "sampling"],
        ["volumes"],
    ]
    assert together(["sampling", "districts", "sarcoma"]) == [], "one row alone has the whole machine"


def test_each_is_heard_of_as_it_ends(tmp_path: Path) -> None:
    order = Order(QUICK, tmp_path / "work", tmp_path / "pictures", again=False)
    shown = []
    # No modules of that name: the shortest experiments there are.
    found = dict(side_by_side._run_rows([["here", "there"], ["nowhere"]], order, lambda *a: shown.append(a)))
    assert found == {"here": None, "there": None, "nowhere": None}
    assert shown[-1][:2] == (3, 3)
    assert not multiprocessing.active_children()


def test_one_that_fails_ends_all_and_says_why(tmp_path: Path) -> None:
    order = Order(QUICK, tmp_path / "work", tmp_path / "pictures", again=False)
    with pytest.raises(AttributeError, match="run"):
        # A module of the package that is no experiment.
        list(side_by_side._run_rows([["findings"], ["nowhere"]], order, lambda *_: None))
    assert not multiprocessing.active_children()


def test_one_that_fails_does_not_wait_for_the_others(tmp_path: Path) -> None:
    """What was at work, or waited for its turn, would take hours."""
    order = Order(QUICK, tmp_path / "work", tmp_path / "pictures", again=False)
    began = time.monotonic()
    with pytest.raises(AttributeError, match="run"):
        # A whole chapter, which begins with making phantoms: minutes.
        list(side_by_side._run_rows([["findings"], ["diffusion", "volumes"]], order, lambda *_: None))
    assert not multiprocessing.active_children()
    # On a busy machine three processes that import torch take a minute.
    assert time.monotonic() - began < 200.0
