"""Body measures by which SUV is normalised: weight, surface area, lean and ideal mass.

Formulae from DICOM PS3.16 (SUV types, CID 85) and the shared SUV rules. `W` is weight [kg], `H` height [cm].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, get_args

SuvType = Literal["bw", "lbm", "lbm-james128", "lbm-janma", "bsa", "ibw"]
"""What activity per injected dose is multiplied by; `bw` is body weight."""
SUV_TYPES: Final[tuple[SuvType, ...]] = get_args(SuvType)

DICOM_SUV_TYPES: Final[dict[str, SuvType]] = {
    "": "bw", "BW": "bw", "BSA": "bsa", "LBM": "lbm", "LBMJAMES128": "lbm-james128", "LBMJANMA": "lbm-janma",
    "IBW": "ibw",
}  # fmt: skip
"""SUVType (0054,1006) of the standard -> our name; an empty one is BW by the standard."""

Sex = Literal["M", "F", "O"]
"""PatientSex (0010,0040); "O" is taken as the mean of M and F."""


def body_surface_cm2(W: float, H: float) -> float:
    """Body surface area [cm2] (Du Bois & Du Bois 1916: 0.007184 W^0.425 H^0.725 m2)."""
    return float(0.007184 * W**0.425 * H**0.725 * 1e4)


def lean_mass_g(W: float, H: float, sex: Sex) -> float:
    """Lean body mass [g] of DICOM's "LBM" (James 1976, with 120 for men)."""
    return _by_sex(sex, lambda: 1.10 * W - 120 * (W / H) ** 2, lambda: 1.07 * W - 148 * (W / H) ** 2)


def lean_mass_james128_g(W: float, H: float, sex: Sex) -> float:
    """Lean body mass [g] of DICOM's "LBMJAMES128" (James 1976, with 128 for men)."""
    return _by_sex(sex, lambda: 1.10 * W - 128 * (W / H) ** 2, lambda: 1.07 * W - 148 * (W / H) ** 2)


def lean_mass_janmahasatian_g(W: float, H: float, sex: Sex) -> float:
    """Lean body mass [g] of DICOM's "LBMJANMA" (Janmahasatian 2005)."""
    bmi = W / (H / 100) ** 2
    return _by_sex(sex, lambda: 9270 * W / (6680 + 216 * bmi), lambda: 9270 * W / (8780 + 244 * bmi))


def ideal_mass_g(W: float, H: float, sex: Sex) -> float:  # noqa: ARG001 - the measures share one signature
    """Ideal body weight [g] of DICOM's "IBW"; it does not depend on the weight."""
    return _by_sex(sex, lambda: 48 + 1.06 * (H - 152), lambda: 45.5 + 0.91 * (H - 152))


def body_measure(suv_type: SuvType, W: float, H: float | None, sex: Sex | None) -> float:
    """What activity per dose is multiplied by: [g]; [cm2] for `bsa`. Raises ValueError without H or sex."""
    if suv_type == "bw":
        return W * 1000.0
    if H is None:
        raise ValueError("height")
    if suv_type == "bsa":
        return body_surface_cm2(W, H)
    if sex is None:
        raise ValueError("sex")
    return _BY_SEX[suv_type](W, H, sex)


_BY_SEX: Final[dict[str, Callable[[float, float, Sex], float]]] = {
    "lbm": lean_mass_g,
    "lbm-james128": lean_mass_james128_g,
    "lbm-janma": lean_mass_janmahasatian_g,
    "ibw": ideal_mass_g,
}


def _by_sex(sex: Sex, male: Callable[[], float], female: Callable[[], float]) -> float:
    """[g] from formulae in [kg]."""
    if sex == "M":
        return 1000 * male()
    if sex == "F":
        return 1000 * female()
    return 500 * (male() + female())
