from __future__ import annotations

import numpy as np
import pytest

from scantwin.phantoms.patient import ORGANS, Phantom, build_patient, random_patient

COARSE = (6.0, 6.0, 6.0)


def test_a_healthy_patient_has_none(man: Phantom) -> None:
    assert man.truth == ()
    assert not man.lesions.array.any()


def test_labels_and_truth_agree(woman: Phantom) -> None:
    assert len(woman.truth) >= 1
    labels = woman.lesions.array
    assert set(np.unique(labels)) - {0} <= {lesion.label for lesion in woman.truth}
    for lesion in woman.truth:
        inside = labels == lesion.label
        if inside.sum() < 8:
            continue  # grown over by its neighbour
        suv = woman.suv.array[inside]
        # A neighbour that grew into it may be hotter.
        assert suv.max() <= 1.01 * max(other.suvmax for other in woman.truth)
        index = np.argwhere(inside).mean(axis=0)
        assert np.linalg.norm(woman.lesions.world(index) - lesion.centre_mm) < 20


def test_suvmean_is_about_six_tenths_of_suvmax() -> None:
    phantom = build_patient(random_patient(2, condition="lung-cancer", contrast=False), (4.0, 4.0, 4.0))
    primary = phantom.truth[0]
    assert primary.kind == "lung"
    suv = phantom.suv.array[phantom.lesions.array == primary.label]
    # 0.55-0.65 (assumed), wider for partial volume at the rim and a dead core.
    assert 0.4 < suv.mean() / suv.max() < 0.75


@pytest.mark.parametrize("condition", ["melanoma", "lymphoma", "lung-cancer"])
def test_numbers_volumes_and_uptake(condition: str) -> None:
    lesions = []
    counts = []
    for seed in range(8):
        phantom = build_patient(random_patient(seed, condition=condition), (12.0, 12.0, 12.0))
        counts.append(len(phantom.truth))
        lesions += phantom.truth
    assert all(1 <= n <= 30 for n in counts)
    assert 1 <= np.median(counts) <= 7
    assert all(2 <= lesion.suvmax <= 43 for lesion in lesions)
    kinds = {lesion.kind for lesion in lesions}
    assert len(kinds) >= 3
    assert ("lung" in kinds) == (condition != "lymphoma")


def test_lesions_lie_in_the_body() -> None:
    phantom = build_patient(random_patient(3, condition="melanoma"), COARSE)
    inside = phantom.lesions.array > 0
    assert (phantom.organs.array[inside] > 0).all()
    assert (phantom.organs.array == ORGANS["lesion"]).any()
