"""What people type on the command line, taken apart."""

from __future__ import annotations

import pytest

from scantwin.terminal import host_and_port


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
