from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from scantwin.imaging.study import DISTRICT_LABEL
from scantwin.phantoms.patient import ORGANS, PatientSpec, Phantom, build_patient, random_patient
from scantwin.phantoms.tissues import TISSUES

BRAIN = ("grey-matter", "white-matter", "cerebellum", "brainstem", "deep-grey")
KIDNEYS = ("kidney-cortex", "kidney-pelvis")
HEART = ("myocardium", "blood")


def grams(phantom: Phantom, *tissues: str) -> float:
    counts = np.bincount(phantom.organs.array.ravel(), minlength=len(ORGANS)) * phantom.organs.voxel_ml
    return float(sum(counts[ORGANS[name]] * TISSUES[name].density for name in tissues))


@pytest.mark.parametrize(
    ("tissues", "man_g", "woman_g", "tolerance"),
    [  # ICRP 89, scaled by the spread between patients of one height (masses.py): 2 SD and 8 % of voxels
        (BRAIN, 1450, 1300, 0.20),
        (("liver",), 1800, 1400, 0.38),
        (KIDNEYS, 310, 275, 0.36),
        (("spleen",), 150, 130, 0.65),
        (("pancreas",), 140, 120, 0.40),
        (("lung",), 1200, 950, 0.35),
    ],
)
def test_organ_masses(
    man: Phantom, woman: Phantom, tissues: tuple[str, ...], man_g: float, woman_g: float, tolerance: float
) -> None:
    assert grams(man, *tissues) == pytest.approx(man_g, rel=tolerance)
    assert grams(woman, *tissues) == pytest.approx(woman_g, rel=tolerance)


def test_masses_over_many_patients_are_those_of_the_reference() -> None:
    specs = [random_patient(s, sex="M", height_cm=176.0, bmi=24.0, condition="negative") for s in range(6)]
    livers = [grams(build_patient(spec, (8.0, 8.0, 8.0)), "liver") for spec in specs]
    # SD 15 % over 6 patients: the mean within 3 standard errors, and 5 % for voxels of 8 mm.
    assert np.mean(livers) == pytest.approx(1800, rel=3 * 0.15 / np.sqrt(6) + 0.05)
    assert np.std(livers) > 50


def test_a_patient_weighs_what_the_spec_says() -> None:
    for seed, fixed in (
        (1, {"bmi": 19.0}),
        (2, {"bmi": 27.0, "sex": "F"}),
        (3, {"bmi": 38.0, "arms": "down"}),
    ):
        spec = random_patient(seed, **fixed)
        phantom = build_patient(spec, (8.0, 8.0, 8.0))
        everything = [name for name in TISSUES if name != "air-outside"]
        assert grams(phantom, *everything) / 1000 == pytest.approx(spec.weight_kg, rel=0.05)


def test_muscle_and_fat_follow_the_reference_man(man: Phantom) -> None:
    assert grams(man, "muscle") == pytest.approx(29_000, rel=0.15)
    assert grams(man, "subcutaneous-fat", "visceral-fat") == pytest.approx(18_200, rel=0.35)


def test_fat_follows_the_bmi() -> None:
    fats = [
        grams(build_patient(random_patient(5, bmi=bmi), (8.0, 8.0, 8.0)), "subcutaneous-fat")
        for bmi in (19.0, 26.0, 36.0)
    ]
    assert fats[0] < fats[1] < fats[2]
    assert fats[2] > 2.5 * fats[0]


def test_the_mean_uptake_closes(man: Phantom, woman: Phantom) -> None:
    for phantom in (man, woman):
        total = float(phantom.suv.array.sum()) * phantom.suv.voxel_ml / (phantom.spec.weight_kg * 1000)
        # 0.85-0.95 is what sources.md assumes; muscle and fat may not go beyond reason, lesions come on top.
        assert 0.72 < total < 1.05


def test_every_organ_is_there(man: Phantom, woman: Phantom) -> None:
    absent = {"air-outside", "lesion", "brown-fat"}
    female = {"uterus", "ovary", "breast", "breast-fat"}
    male = {"prostate", "testis"}
    seen = {name for name, label in ORGANS.items() if (man.organs.array == label).any()}
    assert seen - {"air-outside"} == set(ORGANS) - absent - female
    seen = {name for name, label in ORGANS.items() if (woman.organs.array == label).any()}
    assert seen >= (set(ORGANS) - absent - male) | {"brown-fat"}


def test_true_values_are_those_of_the_tissues(man: Phantom) -> None:
    def median(volume: np.ndarray, name: str) -> float:
        return float(np.median(volume[man.organs.array == ORGANS[name]]))

    hu, suv = man.hu.array, man.suv.array
    assert median(hu, "liver") == pytest.approx(58, abs=20)  # 58 +- 9 over patients
    assert median(hu, "muscle") == pytest.approx(50, abs=12)
    assert median(hu, "subcutaneous-fat") == pytest.approx(-105, abs=12)
    assert -950 < median(hu, "lung") < -600
    # An edge voxel that is mostly air is outside and yet not quite -1000.
    assert hu[man.organs.array == 0].max() < -400
    assert np.percentile(hu[man.organs.array == 0], 95) == -1000
    assert np.percentile(suv[man.organs.array == 0], 95) == 0
    assert median(suv, "grey-matter") > 1.5 * median(suv, "white-matter")
    assert (
        median(suv, "bladder")
        > median(suv, "liver")
        > median(suv, "muscle")
        > median(suv, "subcutaneous-fat")
    )
    liver = suv[man.organs.array == ORGANS["liver"]]
    assert 0.02 < liver.std() / liver.mean() < 0.25, "no organ is flat"


def test_all_volumes_share_one_canonical_grid(man: Phantom) -> None:
    for volume in (man.hu, man.suv, man.lesions, man.districts):
        assert volume.same_grid(man.organs)
    assert man.organs.is_canonical
    height = man.spec.height_cm * 10
    body = np.flatnonzero((man.organs.array > 0).any(axis=(1, 2)))
    z = man.organs.origin[2] + body * man.organs.spacing[0]
    assert z[0] == pytest.approx(0, abs=20), "the soles are at z = 0"
    head = np.flatnonzero((man.districts.array == DISTRICT_LABEL["head"]).any(axis=(1, 2)))
    assert man.organs.origin[2] + head[-1] * man.organs.spacing[0] == pytest.approx(height, abs=15)
    border = man.organs.array.copy()
    border[1:-1, 1:-1, 1:-1] = 0
    assert not border.any(), "the field of view holds the whole body"


def test_districts(man: Phantom, woman: Phantom) -> None:
    for phantom in (man, woman):
        labels, organs = phantom.districts.array, phantom.organs.array

        def share(
            district: str, name: str, labels: np.ndarray = labels, organs: np.ndarray = organs
        ) -> float:
            inside = labels[organs == ORGANS[name]]
            return float((inside == DISTRICT_LABEL[district]).mean())  # type: ignore[index]

        assert share("head", "grey-matter") == 1
        assert share("head", "tonsils") == 1
        assert share("trunk", "liver") == 1
        assert share("trunk", "lung") > 0.99
        assert share("trunk", "bladder") > 0.99
        litres = {d: (labels == k).sum() * phantom.organs.voxel_ml / 1000 for d, k in DISTRICT_LABEL.items()}
        total = sum(litres.values())
        # Segment masses: head and neck 6-9 %, arms 7-12 %, legs 27-40 % of the body (assumed).
        assert 0.05 < litres["head"] / total < 0.10
        assert 0.06 < litres["arms"] / total < 0.13
        assert 0.24 < litres["legs"] / total < 0.42
        assert litres["whole-body"] == 0
        assert ((labels > 0) >= (organs > 0)).mean() > 0.999


def test_arms_are_where_the_spec_says() -> None:
    for arms, expected in (("up", (2, 0)), ("down", (0, 2)), ("one-up", (1, 1))):
        phantom = build_patient(random_patient(9, arms=arms), (8.0, 8.0, 8.0))
        labels = phantom.districts.array == DISTRICT_LABEL["arms"]
        z = phantom.districts.origin[2] + np.arange(labels.shape[0]) * 8
        middle = np.argmin(np.abs(phantom.districts.origin[0] + np.arange(labels.shape[2]) * 8))
        raised = hanging = 0
        for half in (labels[:, :, :middle], labels[:, :, middle:]):
            centre = float((half.sum(axis=(1, 2)) * z).sum() / half.sum()) / (phantom.spec.height_cm * 10)
            raised += centre > 0.85
            hanging += centre < 0.75
        assert (raised, hanging) == expected


def test_the_same_spec_gives_the_same_patient() -> None:
    spec = random_patient(21, condition="melanoma")
    first, second = (build_patient(spec, (10.0, 10.0, 10.0)) for _ in range(2))
    assert np.array_equal(first.hu.array, second.hu.array)
    assert np.array_equal(first.suv.array, second.suv.array)
    assert first.truth == second.truth
    other = build_patient(random_patient(22, condition="melanoma"), (10.0, 10.0, 10.0))
    assert other.hu.shape != first.hu.shape or not np.array_equal(other.hu.array, first.hu.array)


def test_the_patient_does_not_depend_on_the_voxels(man: Phantom) -> None:
    coarse = build_patient(man.spec, (6.0, 5.0, 5.0))
    for name in ("liver", "lung", "grey-matter", "muscle", "bladder"):
        assert grams(coarse, name) == pytest.approx(grams(man, name), rel=0.12)
    at = np.array(man.landmarks["liver"])
    values = []
    for phantom in (man, coarse):
        i, j, k = np.rint(phantom.suv.index(at)).astype(int)
        values.append(float(phantom.suv.array[i - 2 : i + 3, j - 2 : j + 3, k - 2 : k + 3].mean()))
    assert values[0] == pytest.approx(values[1], rel=0.08)


def test_random_patients_are_varied_and_what_is_fixed_is_kept() -> None:
    specs = [random_patient(s) for s in range(300)]
    assert {s.sex for s in specs} == {"M", "F"}
    assert {s.arms for s in specs} == {"up", "down", "one-up"}
    negative = np.mean([s.condition == "negative" for s in specs])
    assert negative == pytest.approx(0.506, abs=4 * np.sqrt(0.25 / 300))
    # A fixed field changes no other draw.
    free, fixed = random_patient(5), random_patient(5, condition="lymphoma")
    assert fixed == free.model_copy(update={"condition": "lymphoma"})


def test_a_spec_is_frozen_and_refuses_what_it_does_not_know() -> None:
    spec = random_patient(1)
    with pytest.raises(ValidationError):
        spec.age = 3  # type: ignore[misc]
    with pytest.raises(ValidationError):
        PatientSpec(**{**spec.model_dump(), "hight": 3})
    with pytest.raises(ValidationError):
        random_patient(1, bmi=80)
