"""Makes the README's pictures from a demo that has run: python docs/pictures/make.py DEMO-FOLDER

Needs the development extras and Debian's chromium.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
)
PAGES = {
    "Rounds and metrics": "dashboard-rounds.png",
    "Sites": "dashboard-site.png",
    "Scans": "dashboard-scan.png",
}
PORT = "8599"
SITE = "rural-clinic"
"""The site whose calibration drifts."""


def main(demo: Path) -> None:
    """Writes the pictures beside this file."""
    Image.open(demo / "scan-and-truth.png").save(HERE / "scan.png", optimize=True)
    words = ["dashboard", "--home", str(demo / "state"), "--port", PORT, "--json"]
    dashboard = subprocess.Popen(
        [sys.executable, "-m", "scantwin", *words], stdout=subprocess.PIPE, text=True
    )
    try:
        said = ""
        while dashboard.stdout and not said.rstrip().endswith("}"):
            said += dashboard.stdout.readline()
        photograph(json.loads(said)["url"])
    finally:
        dashboard.terminate()
        dashboard.wait(timeout=20)


def photograph(url: str) -> None:
    """Takes a picture of each page."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1280, "height": 1400})
        page.goto(url)
        for link, name in PAGES.items():
            before = page.url
            page.get_by_role("link", name=link, exact=False).first.click()
            page.wait_for_url(partial(str.__ne__, before))  # the page of before stays until then
            page.get_by_role("heading", level=1).wait_for()
            if link == "Sites":
                page.goto(f"{page.url.partition('?')[0]}?site={SITE}")
                page.get_by_role("heading", level=1).wait_for()
            page.wait_for_timeout(4000)  # charts are drawn after the page
            page.screenshot(path=HERE / name)
            Image.open(HERE / name).convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(
                HERE / name, optimize=True
            )
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
