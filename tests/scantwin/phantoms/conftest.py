"""Patients that several tests look at, built once."""

from __future__ import annotations

import pytest

from scantwin.phantoms.patient import Phantom, build_patient
from scantwin.phantoms.spec import random_patient

FINE = (4.0, 4.0, 4.0)
COARSE = (8.0, 8.0, 8.0)


@pytest.fixture(scope="session")
def man() -> Phantom:
    """An average man, arms up, healthy."""
    spec = random_patient(
        7, sex="M", age=45, height_cm=176.0, bmi=23.6, arms="up", condition="negative", contrast=False,
        brown_fat=False, prosthesis=False,
    )  # fmt: skip
    return build_patient(spec, FINE)


@pytest.fixture(scope="session")
def woman() -> Phantom:
    """A woman with lymphoma, arms down."""
    spec = random_patient(
        12, sex="F", age=62, height_cm=163.0, bmi=27.0, arms="down", condition="lymphoma", brown_fat=True
    )
    return build_patient(spec, FINE)
