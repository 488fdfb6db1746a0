"""Programs of a real federation are killed in the middle of a round, as docs/federation.md tells of it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest

from scantwin_clients.site import Site

from .conftest import OTHERS, tiny_values
from .real_federation import COMMAND, Federation, recipe_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

SITES = ("city", "rural-1")
STEPS = 150
"""About five seconds of training: time enough to be killed in."""


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("home"))
    try:
        made.found(SITES)
        yield made
    finally:
        made.end()


class Training:
    """`scantwin consortium train`, which ends with its block, and what can be seen of it meanwhile."""

    def __init__(self, federation: Federation, name: str, *words: str, system: str = "pix2pix") -> None:
        recipe = recipe_file(federation.home, {**tiny_values(system), "steps_per_round": STEPS})
        self.federation = federation
        begin = (
            "--recipe", recipe, "--rounds", "1", "--name", name, "--min-sites", "2", "--deadline", "100s",
        )  # fmt: skip
        self._before = {site: (_jobs(federation, site), _done(federation, site)) for site in SITES}
        self._process = subprocess.Popen(
            [*COMMAND, "consortium", "train", *(words or begin), "--json"], env=federation.env,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def wait_until_both_train(self) -> None:
        """Until each site has taken a job since this began, and is at work on it."""
        wait(lambda: all(self.taken(name) for name in SITES))
        time.sleep(1.0)
        assert not [name for name in SITES if self.done(name) >= self.taken(name)], "nothing is left to kill"

    def taken(self, site: str) -> int:
        """How many jobs the site's worker has taken since this began."""
        return _jobs(self.federation, site) - self._before[site][0]

    def done(self, site: str) -> int:
        """How many of them it has done."""
        return _done(self.federation, site) - self._before[site][1]

    def end(self, code: int = 0) -> dict[str, Any]:
        said, errors = self._process.communicate(timeout=150)
        assert self._process.returncode == code, said + errors + self.federation.logs()
        answer: dict[str, Any] = json.loads(said)
        return answer


def _jobs(federation: Federation, site: str) -> int:
    """How many jobs a site's worker has taken."""
    return _worker_said(federation, site).count("a job has arrived")


def _done(federation: Federation, site: str) -> int:
    """How many jobs a site's worker has handed over."""
    return _worker_said(federation, site).count("done after ")


def _worker_said(federation: Federation, site: str) -> str:
    return (Site.open(site, federation.home).logs / "worker.log").read_text()


def wait(what: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def accepted(run: dict[str, Any]) -> None:
    assert run["status"] == "finished" and run["error"] is None
    assert {name: site["status"] for name, site in run["rounds"][-1]["sites"].items()} == dict.fromkeys(
        SITES, "accepted"
    )
    assert run["rounds"][-1]["status"] == "evaluated"


@pytest.mark.parametrize("system", ["pix2pix", *OTHERS])
def test_a_worker_and_the_other_sites_supernode_are_killed(federation: Federation, system: str) -> None:
    with Training(federation, f"killed-{system}", system=system) as training:
        training.wait_until_both_train()
        before = training.taken("city")
        federation.program("scantwin_clients.worker", "--site city").kill()
        federation.program("scantwin_clients.supernode", "rural-1").kill()
        accepted(training.end())
        assert training.taken("city") > before, "the next worker took the job again"


def test_the_superlink_is_killed(federation: Federation) -> None:
    with Training(federation, "second") as training:
        training.wait_until_both_train()
        federation.program("flower-superlink").kill()
        accepted(training.end())


def test_the_runs_own_process_is_killed_and_the_run_goes_on_later(federation: Federation) -> None:
    with Training(federation, "third") as training:
        training.wait_until_both_train()
        federation.program("scantwin.federation.conductor", "--run").kill()
        run = training.end(code=1)
    assert run["status"] == "failed" and "ended without a word" in run["error"]
    with Training(federation, "third", "--resume", run["run"]) as again:
        accepted(again.end())
