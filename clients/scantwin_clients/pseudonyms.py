"""Pseudonyms: names for patients and studies that only this site can trace back.

A pseudonym is the start of the identifier's HMAC-SHA256 under the site's secret (RFC 2104), in base32. The
same identifier gives the same pseudonym within one site and a different one at every other site; without the
secret it can neither be traced back nor be found by trying identifiers.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final, Literal

PATIENT_LETTERS: Final = 10
"""Letters of a patient's pseudonym: 50 bits, one chance in a million of a clash among 45,000 patients."""
STUDY_LETTERS: Final = 6
"""Letters that tell the studies of one patient apart: 30 bits."""

Purpose = Literal["patient", "study", "files", "qc-scan", "qc-sample"]
"""Keeps the uses of the secret apart: equal texts give different digests for different purposes."""


def digest(secret: bytes, purpose: Purpose, text: str) -> str:
    """Base32 (small letters) of HMAC-SHA256 of `text`, 52 letters."""
    return base64.b32encode(mac(secret, purpose, text)).decode().rstrip("=").lower()


def mac(secret: bytes, purpose: Purpose, text: str) -> bytes:
    """HMAC-SHA256 of `text`, 32 bytes."""
    return hmac.digest(secret, f"{purpose}\0{text}".encode("utf-8", "surrogateescape"), hashlib.sha256)


def patient_of(pseudonym: str) -> str:
    """The patient's part of a study's pseudonym."""
    return pseudonym.partition("-")[0]


def study_pseudonym(secret: bytes, patient: str, study: str) -> str:
    """`<patient>-<study>`: studies of one patient share the first part; with none, the study stands in."""
    whose = digest(secret, "patient", patient or f"study {study}")[:PATIENT_LETTERS]
    return f"{whose}-{digest(secret, 'study', study)[:STUDY_LETTERS]}"
