"""Layers with the values of torch's own, to within rounding, that are quicker on a processor (decision 4)."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_HAS_ONEDNN: Final[bool] = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


class Conv3d(nn.Conv3d):
    """torch's `Conv3d`; on a processor, without gradients, one image takes the way that several take.

    torch leaves oneDNN for a single image whose channels, slices and rows multiply to at most 20,480
    (`use_mkldnn` in its Convolution.cpp), as those of a scan's lower levels do. Its other way took twice as
    long for windows of 48^3 and 64^3 (docs/decisions/0004-networks.md).
    """

    def forward(self, input: Tensor) -> Tensor:
        """(1 or B, inputs, D, H, W) -> (1 or B, outputs, D', H', W'), to within rounding what torch says."""
        if not self._stays(input):
            return super().forward(input)
        assert not isinstance(self.padding, str)  # noqa: S101 - all of ours give numbers
        return torch.mkldnn_convolution(
            input, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
        )

    def _stays(self, x: Tensor) -> bool:
        """Whether torch would leave oneDNN although it is quicker. In reduced precision it stays by itself;
        gradients would go its other way again."""
        return (
            x.dim() == 5  # batch, channel, z, y, x
            and len(x) == 1
            and x.device.type == "cpu"
            and x.dtype == torch.float32
            and max(self.kernel_size) > 1
            and not torch.is_grad_enabled()
            and not torch.is_autocast_enabled("cpu")
            and _HAS_ONEDNN
        )


def halved(x: Tensor) -> Tensor:
    """Means of 2 x 2 x 2 voxels of (B, C, D, H, W); the last of an odd side stands alone.

    torch's pooling knows no `channels_last_3d` on a processor: it copies the image to another layout, and the
    next convolution copies it back.
    """
    d, h, w = x.shape[2:]
    if d % 2 or h % 2 or w % 2:
        x = F.pad(x, (0, w % 2, 0, h % 2, 0, d % 2), mode="replicate")
    if x.device.type != "cpu" or x.dtype != torch.float32:  # sums of fewer bits would be rounded three times
        return F.avg_pool3d(x, 2)
    for axis in (-3, -2, -1):
        even, odd = torch.unflatten(x, axis, (-1, 2)).unbind(axis)
        x = even + odd
    return x / 8
