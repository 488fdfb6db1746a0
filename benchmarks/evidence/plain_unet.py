"""The reference that costs as much time as a model: a plain 3D U-Net, MONAI's, from CT to PET with L1.

None of what the systems are made of is in it: no place in the body, no tissue curve, no adversary, no choice
of hot spots, no average of weights, no choice of the step. Layers are normalised by instance, as is usual.
Its patches are drawn as the recipes' are, and it sees both windows of the CT.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from monai.networks.nets import UNet
from numpy.typing import NDArray
from torch import Tensor, nn

from scantwin.learning.patches import Sampler
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.recipe import Recipe
from scantwin.terminal import Advance, silent

_CT: Final = 2
"""Leading channels of a network's inputs that are the CT: two windows of it."""
_CHANNELS: Final = (16, 32, 64, 128)
"""A million weights and more, ten times what the recipes' generators have."""
_OVERLAP: Final = 0.5
"""Of neighbouring windows, which are as large as patches: each is normalised for itself."""


def train(
    studies: Sequence[PreparedStudy], recipe: Recipe, budget_s: float, *, seed: int = 0,
    advance: Advance = silent,
) -> nn.Module:  # fmt: skip
    """The network after `budget_s` seconds; `recipe` says how patches are drawn, and the learning rate."""
    sampler = Sampler(list(studies), recipe, "whole-body", seed)
    torch.manual_seed(seed)
    network = UNet(3, _CT, 1, _CHANNELS, strides=(2,) * (len(_CHANNELS) - 1), num_res_units=2)
    optimiser = torch.optim.Adam(network.parameters(), recipe.optimisation.learning_rate)
    began, step = time.monotonic(), 0
    while (spent := time.monotonic() - began) < budget_s:
        advance(spent, budget_s, f"plain U-Net, step {step}")
        batch = sampler.batch(step)
        error = (network(batch.inputs[:, :_CT]) - batch.suv).abs()
        optimiser.zero_grad()
        ((error * batch.weight).sum() / batch.weight.sum()).backward()
        optimiser.step()
        step += 1
    return network.eval()


@torch.no_grad()
def say(network: nn.Module, study: PreparedStudy, recipe: Recipe) -> NDArray[np.float32]:
    """PET [g/ml] of a study on its working grid (z, y, x), 0 outside the body."""
    inputs: Tensor = torch.from_numpy(study.inputs("whole-body", (0, 0, 0), study.hu.shape)[None, :_CT])
    edge = (recipe.sampling.patch,) * 3
    said = sliding_window_inference(inputs, edge, 4, network, _OVERLAP, mode="gaussian", cval=-1.0)
    pet = np.clip(torch.as_tensor(said)[0, 0].numpy(), *recipe.suv_range)
    return np.where(study.body, pet, np.float32(0.0))
