"""Sums over neighbours of the same class, against a loop over pixels."""

from __future__ import annotations

import torch

from scantwin.generation.same_class import by_class, medians_around, sums_around


def test_only_pixels_of_the_class_that_are_looked_at_count():
    torch.manual_seed(1)
    image, where = torch.randn(2, 9, 11), torch.rand(2, 9, 11) < 0.7
    classes = torch.randint(0, 3, (2, 9, 11))
    for reach, stride in ((1, 1), (4, 2)):
        total, count = sums_around(image, where, classes, reach=reach, stride=stride)
        for z, y, x in ((0, 0, 0), (0, 4, 5), (1, 8, 10), (1, 3, 0)):
            offsets = range(-reach, reach + 1, stride)
            around = [(y + a, x + b) for a in offsets for b in offsets if 0 <= y + a < 9 and 0 <= x + b < 11]
            same = [p for p in around if where[z, *p] and classes[z, *p] == classes[z, y, x]]
            assert int(count[z, y, x]) == len(same)
            expected = sum((image[z, *p] for p in same), torch.zeros(()))
            assert torch.isclose(total[z, y, x], expected, atol=1e-5)


def test_a_table_says_one_value_a_class():
    classes = torch.tensor([[[[0, 2], [1, 1]]], [[[2, 2], [0, 1]]]])
    said = by_class(torch.tensor([[5.0, 6.0, 7.0], [0.5, 0.6, 0.7]]), classes)
    assert torch.equal(said, torch.tensor([[[[5.0, 7.0], [6.0, 6.0]]], [[[0.7, 0.7], [0.5, 0.6]]]]))


def test_a_class_is_told_by_enough_voxels_outside_of_the_region_and_only_if_it_is_in_it():
    classes = torch.tensor([[[[0, 0, 0, 1, 1, 2]]]])
    region = torch.tensor([[[[1.0, 0.0, 0.0, 1.0, 0.0, 0.0]]]])
    values = torch.tensor([[[[9.0, 3.0, 5.0, 9.0, 4.0, 8.0]]]])
    table = torch.tensor([[-1.0, -2.0, -3.0]])

    def told(enough):
        return medians_around(values, region == 0, region, classes, table, enough=enough).tolist()

    assert told(1) == [[3.0, 4.0, -3.0]], "of two the lower one; 2 is not in the region"
    assert told(2) == [[3.0, -2.0, -3.0]]
    assert table.tolist() == [[-1.0, -2.0, -3.0]], "what was given stays"
