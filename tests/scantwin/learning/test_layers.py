"""Our own layers say what torch's say; one image takes oneDNN's way."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from scantwin.learning.layers import Conv3d, halved

_SMALL = (1, 4, 8, 8, 8)
"""A single image for which torch itself leaves oneDNN."""


def _ways(layer: nn.Module, image: torch.Tensor) -> set[str]:
    """The names of what torch calls for `image`."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        layer(image)
    return {event.key for event in seen.key_averages()}


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
def test_one_image_stays_with_onednn_while_no_gradients_are_taken():
    ours, torchs = Conv3d(4, 4, 3, padding=1), nn.Conv3d(4, 4, 3, padding=1)
    image = torch.randn(_SMALL)
    with torch.no_grad():
        assert "aten::slow_conv3d_forward" not in _ways(ours, image)
        # Once torch itself stays, this class has nothing left to do.
        assert "aten::slow_conv3d_forward" in _ways(torchs, image)


@pytest.mark.parametrize("kernel, stride, padding", [(3, 1, 1), (4, 2, 1), (4, 4, 0), (1, 1, 0)])
@pytest.mark.parametrize("batch", [1, 2])
def test_the_values_are_those_of_torch(kernel, stride, padding, batch):
    torch.manual_seed(0)
    ours = Conv3d(4, 6, kernel, stride=stride, padding=padding)
    torchs = nn.Conv3d(4, 6, kernel, stride=stride, padding=padding)
    torchs.load_state_dict(ours.state_dict())
    image = torch.randn(batch, *_SMALL[1:])
    with torch.no_grad():
        # Sums of up to 256 products of about 1/16: rounding of 1e-7 of each, in another order.
        torch.testing.assert_close(ours(image), torchs(image), rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_torch():
    layer = Conv3d(4, 4, 3, padding=1)
    image = torch.randn(_SMALL, requires_grad=True)
    again = image.detach().clone().requires_grad_()
    layer(image).square().sum().backward()
    nn.functional.conv3d(again, layer.weight, layer.bias, padding=1).square().sum().backward()
    assert image.grad is not None and torch.equal(image.grad, again.grad)


def test_reduced_precision_is_left_to_torch():
    layer = Conv3d(4, 4, 3, padding=1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(_SMALL)).dtype == torch.bfloat16


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_halved_is_an_average_that_keeps_the_layout(layout):
    image = torch.randn(2, 3, 4, 6, 8).contiguous(memory_format=layout)
    torch.testing.assert_close(halved(image), F.avg_pool3d(image, 2))
    assert halved(image).is_contiguous(memory_format=layout)


def test_the_last_voxel_of_an_odd_side_stands_alone():
    image = torch.arange(3.0).view(1, 1, 1, 1, 3)
    assert halved(image).flatten().tolist() == [0.5, 2.0]


def test_halved_in_reduced_precision_sums_with_all_bits():
    torch.manual_seed(0)
    image = torch.rand(1, 1, 8, 8, 8).to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(halved(image), F.avg_pool3d(image.float(), 2))
