from __future__ import annotations

import threading
from contextlib import closing

import pytest

from scantwin.learning.drawing_ahead import drawn_ahead

WAIT_S = 20.0


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_all_come_in_order_whoever_is_first(threads):
    late = threading.Event()

    def draw(step):
        if step == 5 and threads > 1:
            assert late.wait(WAIT_S), "the sixth is drawn while the fifth is still at work"
        if step == 6:
            late.set()
        return step * step

    assert list(drawn_ahead(draw, range(3, 12), threads)) == [step * step for step in range(3, 12)]


def test_the_next_is_drawn_while_one_is_used():
    began = {step: threading.Event() for step in range(9)}
    with closing(drawn_ahead(lambda step: began[step].set() or step, range(9), 2)) as batches:
        assert next(batches) == 0
        assert began[1].wait(WAIT_S) and began[2].wait(WAIT_S)
        assert not any(began[step].is_set() for step in range(3, 9)), "and no more than are at work"


def test_without_threads_nothing_is_drawn_that_nobody_asked_for():
    drawn = []
    with closing(drawn_ahead(lambda step: drawn.append(step) or step, range(9), 0)) as batches:
        assert [next(batches), next(batches)] == [0, 1] == drawn


def test_closed_it_draws_no_more_and_leaves_no_thread():
    before, drawn = threading.active_count(), []
    with closing(drawn_ahead(drawn.append, range(1000), 2)) as batches:
        next(batches)
    assert len(drawn) <= 3 and threading.active_count() == before


@pytest.mark.parametrize("threads", [0, 2])
def test_what_fails_fails_where_it_is_asked_for(threads):
    def draw(step):
        if step == 2:
            raise MemoryError("no room for the third")
        return step

    with closing(drawn_ahead(draw, range(9), threads)) as batches:
        assert [next(batches), next(batches)] == [0, 1]
        with pytest.raises(MemoryError, match="third"):
            next(batches)
