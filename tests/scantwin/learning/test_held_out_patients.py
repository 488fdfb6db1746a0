"""Who is held out stays so."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scantwin.errors import InputError
from scantwin.learning.cohort import Cohort
from scantwin.learning.held_out_patients import Assigned

NAMES = st.sets(st.text("abcdef", min_size=1, max_size=3), max_size=30)


@example(first={"a"}, later={"b"}, other=set(), share=0.1)  # the held-out one is left alone
@given(first=NAMES, later=NAMES, other=NAMES, share=st.sampled_from([0.0, 0.1, 0.25, 0.5]))
def test_nobody_is_taught_and_held_out_whoever_comes_or_goes(tmp_path_factory, first, later, other, share):
    path = tmp_path_factory.mktemp("held-out") / "held-out.json"
    was_held: dict[str, bool] = {}
    for patients in (first, first | later, later | other, first | later | other):
        known = Assigned.read(path)
        held = known.held_out_of(patients, share, "salt")
        known.keep(path, patients - held, held)
        for name in patients:
            assert was_held.setdefault(name, name in held) == (name in held)


@given(patients=NAMES.filter(lambda names: len(names) > 1), share=st.floats(0.01, 0.9))
def test_at_first_so_many_are_held_out_as_asked_for(patients, share):
    held = Assigned().held_out_of(patients, share, "salt")
    assert 1 <= len(held) < len(patients) and abs(len(held) - share * len(patients)) <= 1
    assert held == Assigned().held_out_of(patients, share, "salt") <= patients


def test_newcomers_fill_up_what_lacks():
    old = {f"old-{k}" for k in range(8)}
    held = Assigned().held_out_of(old, 0.25, "x")
    known = Assigned(tuple(sorted(old - held)), tuple(sorted(held)))
    new = {f"new-{k}" for k in range(8)}
    now = known.held_out_of(old | new, 0.25, "x")
    assert len(now) == 4 and now & old == held


def test_a_file_of_another_kind_is_not_written_over(tmp_path):
    path = tmp_path / "held-out.json"
    for content in ("", "[]", '{"training": 3}', "not JSON"):
        path.write_text(content)
        with pytest.raises(InputError, match="held out"):
            Assigned.read(path)
        assert path.read_text() == content


def test_a_cohort_remembers_and_is_private(tiny_recipe, tmp_path, make_bar):
    def held_out(numbers):
        bars = [(f"bar-{k}", lambda k=k: make_bar(k)) for k in numbers]
        cohort = Cohort.prepare(bars, tiny_recipe, tmp_path / "cache", assigned=tmp_path / "held-out.json")
        return {study.name for study in cohort.held_out}, {study.name for study in cohort.training}

    held, learnt = held_out(range(3))
    assert len(held) == 1 and (tmp_path / "held-out.json").stat().st_mode & 0o077 == 0
    for more in (5, 8, 9):
        now, taught = held_out(range(more))
        assert held <= now and learnt <= taught and not now & taught
