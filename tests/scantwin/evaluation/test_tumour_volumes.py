from __future__ import annotations

import math

import numpy as np
import pytest

from scantwin.evaluation.tumour_volumes import dice, false_volumes, responses, tumour


def boxes(*corners, edge=3):
    mask = np.zeros((20, 20, 20), bool)
    for z, y, x in corners:
        mask[z : z + edge, y : y + edge, x : x + edge] = True
    return mask


def test_volume_and_glycolysis_of_a_box():
    region = boxes((2, 2, 2))
    suv = np.where(region, 5.0, 1.0).astype(np.float32)
    suv[2, 2, 2] = 10.0
    assert tumour(suv, region, 0.5, 4.0).mtv == pytest.approx(13.5)  # 27 voxels of half a millilitre
    assert tumour(suv, region, 0.5, 4.0).tlg == pytest.approx((26 * 5 + 10) * 0.5)
    assert tumour(suv, region, 0.5).mtv == pytest.approx(13.5)  # 41 % of 10 is below 5
    suv[2, 2, 2] = 13.0
    assert tumour(suv, region, 0.5).mtv == pytest.approx(0.5)
    assert tumour(suv, region, 0.5, 20.0).tlg == 0.0


def test_each_lesion_is_measured_from_its_own_maximum():
    hot, faint = boxes((2, 2, 2)), boxes((10, 10, 10))
    suv = (np.where(hot, 20.0, 0.0) + np.where(faint, 5.0, 0.0)).astype(np.float32)
    suv[10, 10, 10] = 2.0  # 40 % of its lesion's
    both = tumour(suv, hot | faint, 0.5)
    assert both.mtv == pytest.approx((27 + 26) * 0.5)
    assert both.tlg == pytest.approx((27 * 20 + 26 * 5) * 0.5)


def test_overlap_is_autopets():
    true, predicted = boxes((1, 1, 1), (10, 10, 10)), boxes((1, 1, 1), (15, 1, 1))
    assert dice(predicted, true) == pytest.approx(0.5)
    assert false_volumes(predicted, true, 0.1) == pytest.approx((2.7, 2.7))
    # A component that overlaps by one voxel is no false one, however large the rest of it is.
    assert false_volumes(boxes((3, 3, 3), edge=8), true, 0.1) == pytest.approx((0.0, 0.0))
    nothing = np.zeros_like(true)
    assert math.isnan(dice(predicted, nothing))
    positive, negative = false_volumes(predicted, nothing, 0.1)
    assert positive == pytest.approx(5.4) and math.isnan(negative)


def test_components_touch_along_edges_but_not_at_corners():
    true = boxes((1, 1, 1), edge=1)
    edge, corner = true.copy(), true.copy()
    edge[2, 2, 1] = corner[2, 2, 2] = True
    assert false_volumes(edge, true, 1.0)[0] == 0.0
    assert false_volumes(corner, true, 1.0)[0] == 1.0


def test_free_response_counts_lesions_and_false_marks():
    lesions, body = boxes((1, 1, 1), (10, 10, 10)), np.ones((20, 20, 20), bool)
    suv = np.where(boxes((1, 1, 1)), 8.0, 1.0) + np.where(boxes((10, 10, 10)), 2.5, 0.0)
    suv = (suv + np.where(boxes((16, 1, 1)), 5.0, 0.0)).astype(np.float32)
    low, middle, high = responses(suv, lesions, body, (3.0, 4.0, 9.0))
    assert (low.found, low.lesions, low.false_marks) == (2, 2, 1)
    assert (middle.found, middle.false_marks) == (1, 1)
    assert (high.found, high.false_marks) == (0, 0)
