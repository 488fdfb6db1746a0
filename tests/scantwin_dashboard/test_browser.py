"""The dashboard in a real browser: every page, no error box, a slider that moves, nothing from outside."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scantwin import NOTICE

pytestmark = pytest.mark.browser

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


DRAWN = """chart => [...chart.querySelectorAll('.role-axis text, .mark-symbol path')]
    .map(mark => [mark.getAttribute('transform'), mark.textContent, mark.getAttribute('aria-label')])"""
"""Where the dates of a chart's axes and its points lie, and what is said of them."""


@pytest.fixture
def address(filled: Path, tied: Callable[[subprocess.Popen[str]], subprocess.Popen[str]]) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = "from scantwin.cli.main import main; main()"
    process = tied(subprocess.Popen(
        [sys.executable, "-c", code, "dashboard", "--port", str(port), "--home", str(filled)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True,
    ))  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=1):  # noqa: S310
                break
        except OSError:
            time.sleep(0.2)
    else:
        pytest.fail("the dashboard did not answer within a minute")
    yield url
    process.send_signal(signal.SIGINT)
    process.wait(timeout=20)


@pytest.fixture
def browser() -> Iterator[Any]:
    chromium = os.environ.get("SCANTWIN_TEST_CHROMIUM") or shutil.which("chromium")
    if not chromium:
        pytest.skip("there is no chromium here (apt-get install chromium, or set SCANTWIN_TEST_CHROMIUM)")
    api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    with api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield made
        made.close()


def test_every_page_in_chromium(address: str, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 1000})
    page.set_default_timeout(60_000)
    outside: list[str] = []
    local = (address, address.replace("http", "ws"), "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(local) else outside.append(request.url))
    page.goto(address)
    titles = {
        "Overview": "Consortium", "Rounds and metrics": "Rounds and metrics", "Sites": "Sites",
        "Scans": "Scans", "About": "About",
    }  # fmt: skip
    for link, title in titles.items():
        page.get_by_role("link", name=link, exact=False).first.click()
        page.get_by_role("heading", name=title, exact=True, level=1).wait_for()
        page.get_by_text(NOTICE).first.wait_for()
        if link in ("Rounds and metrics", "Sites"):
            page.locator("[data-testid=stVegaLiteChart]").first.wait_for()
        assert page.locator("[data-testid=stException]").count() == 0
        if link == "Sites":
            _drift_is_shown(page)
    page.get_by_role("link", name="Scans").click()
    page.get_by_text("coronal slice").wait_for()
    before = page.get_by_text("coronal slice").inner_text()
    page.get_by_role("slider", name="Slice").press("ArrowRight")
    page.get_by_text("coronal slice").filter(has_not_text=before).wait_for()
    page.get_by_role("img", name="PET").first.wait_for()  # drawn anew, a moment after its caption
    assert page.locator("[data-testid=stException]").count() == 0
    assert outside == []


def test_times_are_utc_wherever_the_browser_is(address: str, browser: Any) -> None:
    drawn = []
    for zone in ("UTC", "America/Los_Angeles"):
        page = browser.new_context(timezone_id=zone).new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{address}/sites?site=Troms%C3%B8")
        charts = page.locator("[data-testid=stVegaLiteChart] svg:visible")
        charts.nth(2).wait_for()  # the samples, EWMA and CUSUM
        page.wait_for_timeout(1500)  # they are drawn again when their width is known
        drawn.append([charts.nth(i).evaluate(DRAWN) for i in range(3)])
    assert all(len(chart) > 20 for chart in drawn[0])
    assert drawn[0] == drawn[1]


def _drift_is_shown(page: Any) -> None:
    """EWMA and CUSUM beside the limits, and the table of alerts."""
    for name in ("EWMA of", "CUSUM of"):
        page.get_by_role("img", name=name).or_(page.get_by_label(name)).first.wait_for(state="attached")
    page.get_by_text("Alerts", exact=True).first.wait_for()
