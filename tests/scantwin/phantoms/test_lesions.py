from __future__ import annotations

import numpy as np
import pytest

from scantwin.phantoms.patient import ORGANS, Phantom, build_patient, random_patient

COARSE = (6.0, 6.0, 6.0)


def test_a_healthy_patient_has_none(man: Phantom) -> None:
    assert man.truth == ()
    assert not man.lesions.array.any()


def assert_truth_is_painted(phantom: Phantom) -> None:
    labels = phantom.lesions.array
    assert set(np.unique(labels)) - {0} == {lesion.label for lesion in phantom.truth}
    for lesion in phantom.truth:
        inside = labels == lesion.label
        assert lesion.volume_ml == pytest.approx(inside.sum() * phantom.lesions.voxel_ml, abs=0.001)
        assert lesion.suvmax == pytest.approx(phantom.suv.array[inside].max(), abs=0.01)


def test_labels_and_truth_agree(woman: Phantom) -> None:
    assert len(woman.truth) >= 1
    assert_truth_is_painted(woman)
    labels = woman.lesions.array
    for lesion in woman.truth:
        inside = labels == lesion.label
        if inside.sum() < 8:
            continue  # grown over by its neighbour
        index = np.argwhere(inside).mean(axis=0)
        assert np.linalg.norm(woman.lesions.world(index) - lesion.centre_mm) < 20


def test_a_lesion_that_others_have_grown_over_is_none() -> None:
    phantom = build_patient(random_patient(28, condition="lymphoma"), (12.0, 12.0, 12.0))
    assert max(lesion.label for lesion in phantom.truth) > len(phantom.truth) > 10, "one of 20 is gone"
    assert_truth_is_painted(phantom)


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
    # At least 2 where they are hottest, of which voxels as large as these show a part.
    assert all(0 < lesion.suvmax <= 43 for lesion in lesions)
    assert np.median([lesion.suvmax for lesion in lesions]) > 2
    kinds = {lesion.kind for lesion in lesions}
    assert len(kinds) >= 3
    assert ("lung" in kinds) == (condition != "lymphoma")


def test_lesions_lie_in_the_body() -> None:
    phantom = build_patient(random_patient(3, condition="melanoma"), COARSE)
    inside = phantom.lesions.array > 0
    assert (phantom.organs.array[inside] > 0).all()
    assert (phantom.organs.array == ORGANS["lesion"]).any()
