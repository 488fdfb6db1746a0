"""A site is on duty once, and says why it is not connected."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from scantwin.errors import InputError, ResourceError
from scantwin.federation.certificates import write_authority
from scantwin.federation.processes import Child
from scantwin.files import lock
from scantwin_clients import supervisor
from scantwin_clients.site import Site
from scantwin_clients.supervisor import Duty, free_port, on_duty, superlink_address


def test_a_second_run_of_a_site_leaves_the_first_ones_secret_alone(tmp_path: Path) -> None:
    site = Site.create("city", tmp_path)
    write_authority(tmp_path, name="Test")
    secret = site.flower_home / "worker.secret"
    secret.write_bytes(b"of the first")
    duty = Duty(site, tmp_path, "127.0.0.1:9", tmp_path / "ca.crt", free_port())
    held = site.folder / "run.lock"
    taken = ResourceError("The test's own lock was not let go.")
    with lock(held, taken), pytest.raises(ResourceError, match="city is on duty already"):
        on_duty(duty, report=lambda _name, _what: None, ready=lambda _data: None)
    assert secret.read_bytes() == b"of the first"
    lock(held, taken).close()  # the first has ended: there is nothing to clean up


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("pet.example.org:443", ("pet.example.org", 443)),
        ("127.0.0.1:9443", ("127.0.0.1", 9443)),
        ("[::1]:9443", ("::1", 9443)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, address: tuple[str, int]) -> None:
    assert superlink_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["", "pet.example.org", ":443", "pet.example.org:", "pet.example.org:https", "https://pet.example.org:443",
     "pet.example.org:0", "pet.example.org:65536", "a b:443", "pet.example.org/fleet:443",
     "pet.example.org:" + "4" * 5000],
)  # fmt: skip
def test_what_is_no_address_is_refused_before_anything_starts(text: str, tmp_path: Path) -> None:
    site = Site.create("city", tmp_path)
    write_authority(tmp_path, name="Test")
    duty = Duty(site, tmp_path, text, tmp_path / "ca.crt", free_port())
    with pytest.raises(InputError, match="not the address of a consortium") as caught:
        on_duty(duty, report=lambda _name, _what: None, ready=lambda _data: None)
    assert "HOST:PORT" in caught.value.hint
    assert not [*site.logs.iterdir()]


def test_what_is_no_certificate_is_refused_before_anything_starts(tmp_path: Path) -> None:
    site = Site.create("city", tmp_path)
    (tmp_path / "ca.crt").write_text("hello")
    duty = Duty(site, tmp_path, "127.0.0.1:9", tmp_path / "ca.crt", free_port())
    with pytest.raises(InputError, match="not a certificate"):
        on_duty(duty, report=lambda _name, _what: None, ready=lambda _data: None)
    assert not [*site.logs.iterdir()]


def on_duty_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: str, superlink: str, lines: int, late_s: float
) -> list[str]:
    """What a site says, `lines` of it, whose SuperNode is this script and is late after so long [s]."""
    site = Site.create("city", tmp_path)
    write_authority(tmp_path, name="Test")
    said: list[str] = []

    def report(name: str, what: str) -> None:
        said.append(f"{name} {what}")
        if len(said) == lines:
            os.kill(os.getpid(), signal.SIGINT)

    def programs(_duty: Duty) -> list[Child]:
        idle = "import time; time.sleep(60)"
        return [
            Child(name, [sys.executable, "-c", script], site.logs / f"{name}.log")
            for name, script in (("supernode", node), ("worker", idle))
        ]

    monkeypatch.setattr(supervisor, "children", programs)
    monkeypatch.setattr(supervisor, "NOT_CONNECTED_S", late_s)
    for proxy in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    # A site that keeps silent ends all the same.
    guard = threading.Timer(20.0, os.kill, (os.getpid(), signal.SIGINT))
    guard.start()
    duty = Duty(site, tmp_path, superlink, tmp_path / "ca.crt", free_port())
    try:
        on_duty(duty, report=report, ready=lambda _data: None)
    finally:
        guard.cancel()
    return said


def test_a_site_that_nothing_answers_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    superlink = f"127.0.0.1:{free_port()}"
    idle = "import time; print('INFO :  Starting', flush=True); time.sleep(60)"
    (said,) = on_duty_with(tmp_path, monkeypatch, idle, superlink, lines=1, late_s=0.5)
    why = f"nothing answers at {superlink} (connection refused)"
    assert said.startswith(f"supernode is not connected yet: {why}; it goes on trying (log ")
    assert "supernode.log" in said


def test_a_site_that_is_connected_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import time; print('INFO :  SuperNode ID: 7', flush=True); time.sleep(2.5); raise SystemExit(3)"
    (said,) = on_duty_with(tmp_path, monkeypatch, script, "127.0.0.1:9", lines=1, late_s=2.0)
    assert said.startswith("supernode ended with code 3; restart")


def test_flowers_words_come_with_what_is_behind_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "print('ERROR :  Exit Code: 305'); raise SystemExit('[code: 2004] Failed to activate SuperNode.')"
    )
    said = on_duty_with(tmp_path, monkeypatch, script, "127.0.0.1:9", lines=4, late_s=2.0)
    assert "Failed to activate SuperNode" in said[0] and "Is the site enrolled" in said[0]
    # That it is not connected, and why, has been said by then.
    assert [line.split(" ")[1] for line in said] == ["ended", "started", "ended", "started"]
