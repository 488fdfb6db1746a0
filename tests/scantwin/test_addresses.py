"""Addresses that people type, taken apart."""

from __future__ import annotations

import pytest

from scantwin.addresses import host_and_port, is_loopback


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pacs.local:104", ("pacs.local", 104)), ("[::1]:65535", ("[::1]", 65535)), ("a:b:1", ("a:b", 1)),
        ("h:00080", ("h", 80)),
    ],
)  # fmt: skip
def test_an_address_is_a_host_and_a_port(text: str, found: tuple[str, int]) -> None:
    assert host_and_port(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h",
        "h:",
        ":1",
        "h:0",
        "h:65536",
        "h:-1",
        "h:+1",
        "h: 1",
        "h:1\n",
        "h:5²",
        "h:١",
        "h:" + "1" * 5000,
    ],
)
def test_what_is_no_address_is_none(text: str) -> None:
    """A superscript is a digit to `isdigit`, but not to `int`, which also refuses thousands of digits."""
    assert host_and_port(text) is None


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True), ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False), ("10.0.0.1", False), ("clinic.example", False), ("", False),
        ("localhost.evil.example", False),
    ],
)  # fmt: skip
def test_only_this_machine_reaches_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local
