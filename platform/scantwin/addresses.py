"""Network addresses as people type them, and who can reach them."""

from __future__ import annotations

import ipaddress
import re


def host_and_port(text: str) -> tuple[str, int] | None:
    """Host and port of `HOST:PORT`, an IPv6 address with its brackets; None if it is no such address.

    Not by `isdigit`, which accepts superscripts; and `int` refuses thousands of digits.
    """
    found = re.fullmatch(r"(.+):([0-9]{1,5})", text)
    if found is None or not 0 < int(found[2]) < 65536:
        return None
    return found[1], int(found[2])


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. A name other than localhost counts as reachable."""
    bare = host.strip("[]")
    if bare == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False
