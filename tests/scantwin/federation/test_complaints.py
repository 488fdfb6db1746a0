"""Out of a program's log: why it ended, and nothing that is secret."""

from __future__ import annotations

import pytest

from scantwin.federation.complaints import LONGEST, complaint

BEGIN = """\x1b[92mINFO \x1b[0m:      Starting Flower SuperNode
\x1b[93mWARNING \x1b[0m:   EXPERIMENTAL: SuperExec authentication is experimental.
INFO:     Uvicorn running on http://127.0.0.1:40001 (Press CTRL+C to quit)
"""

NOT_ENROLLED = (
    BEGIN
    + """\x1b[91mERROR \x1b[0m:     Exit Code: 305
Failed to initialize the connection to the SuperLink.
[code: 2004] Failed to activate SuperNode.

For more information, visit: <https://flower.ai/docs/framework/1.41/en/ref-exit-codes/305.html>
INFO:     Shutting down
"""
)
"""As Flower 1.41 wrote it of a site that was not enrolled, shortened."""

TRACEBACK = (
    BEGIN
    + """Traceback (most recent call last):
  File "supernode.py", line 59, in <module>
    main()
ssl.SSLError: [X509: NO_CERTIFICATE_OR_CRL_FOUND] no certificate or crl found
"""
)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (BEGIN, ""),
        (
            NOT_ENROLLED,
            "Exit Code: 305 Failed to initialize the connection to the SuperLink. "
            "[code: 2004] Failed to activate SuperNode",
        ),
        (TRACEBACK, "ssl.SSLError: [X509: NO_CERTIFICATE_OR_CRL_FOUND] no certificate or crl found"),
        ("2026-11-30T06:17:43.639Z ERROR [uvicorn.error] [Errno 98] in use\n", "[Errno 98] in use"),
        (
            "2026-11-30 06:17:43,639 scantwin.site ERROR refused: no file /data/DOE^JANE\n",
            "",
        ),
    ],
)
def test_it_is_what_a_person_needs(output: str, said: str) -> None:
    assert complaint(output) == said


def test_it_is_short_and_without_secrets() -> None:
    token = "eyJhbGciOiJFUzM4NCJ9_" * 3
    said = complaint(f"ERROR: {token} of postgresql://lead:sesame@db.example.org failed\n{'word ' * 900}")
    assert "sesame" not in said and "eyJ" not in said and "db.example.org failed" in said
    assert len(said) <= LONGEST
