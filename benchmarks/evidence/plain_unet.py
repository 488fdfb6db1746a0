"""The reference that costs as much time as a model: a plain 3D U-Net, MONAI's, from CT to PET with L1.

It has nothing of what the systems are made of: no place in the body, no tissue curve, no adversary, no choice
of hot spots, no average of weights, no choice of the step. Its layers have instance normalisation, as is
usual. It sees both windows of the CT. Its patches come from our sampler, drawn evenly from the body and
mirrored where a body could not be split, no more. It works in fp32: bf16, which the recipes use where a
machine has it, made its steps a fifth shorter, but gives instance normalisation no finite gradient where a
patch is nearly all of one value.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np
import torch
from benchmarks.evidence.findings import Setting, Workshop
from benchmarks.evidence.measuring import Measurer, Standing
from benchmarks.evidence.settings import L1_ALONE, translation_recipe
from benchmarks.evidence.workshop import key_of
from monai.inferers import sliding_window_inference
from monai.networks.nets import UNet
from numpy.typing import NDArray
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from scantwin.files import whole_file
from scantwin.learning.machine import device
from scantwin.learning.patches import Sampler
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.recipe import Recipe

_CT: Final = 2
"""Number of leading input channels that are the CT: two windows of it."""
_CHANNELS: Final = (16, 32, 64, 128)
"""1.2 million weights: two and a half times what Pix2Pix's generator has."""
_OVERLAP: Final = 0.5
"""Overlap of neighbouring windows. They are as large as patches, since each is normalised on its own."""
_LESS: Final = 0.25
"""Overlap in whole bodies, where half would take a quarter of an hour; MONAI's default."""


def standing(setting: Setting, workshop: Workshop, measurer: Measurer, budget_s: float) -> Standing:
    """Measure the network that learnt from the training phantoms for `budget_s` s; its weights are kept."""
    recipe = translation_recipe(setting, L1_ALONE, districts=["whole-body"], shares={})
    whose = [study.name for study in measurer.training]
    key = key_of(recipe.model_dump(mode="json"), budget_s, setting.seed, setting.spacing_mm, whose)
    path = workshop.folder / "models" / f"plain-unet-{key}.safetensors"
    if path.is_file():
        network = _network()
        load_model(network, path)
    else:
        network = train(measurer.training, recipe, budget_s, seed=setting.seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as aside:
            save_model(network, str(aside))
    return measurer.of_pets(path.stem, partial(say, network, recipe=recipe, overlap=_LESS))


def train(studies: Sequence[PreparedStudy], recipe: Recipe, budget_s: float, *, seed: int = 0) -> nn.Module:
    """The network after `budget_s` seconds; `recipe` sets how patches are drawn and the learning rate."""
    sampler = Sampler(list(studies), recipe, "whole-body", seed)
    torch.manual_seed(seed)
    network = _network()
    optimiser = torch.optim.Adam(network.parameters(), recipe.optimisation.learning_rate)
    if not sampler:  # it finds where to draw from; as for the models, outside the timed budget
        raise ValueError("no study has a CT and a PET")
    began, step = time.monotonic(), 0
    while time.monotonic() - began < budget_s:
        batch = sampler.batch(step).to(device())
        error = (network(_packed(batch.inputs[:, :_CT])) - batch.suv).abs()
        optimiser.zero_grad()
        ((error * batch.weight).sum() / batch.weight.sum()).backward()
        optimiser.step()
        step += 1
    return network


@torch.no_grad()
def say(
    network: nn.Module, study: PreparedStudy, recipe: Recipe, overlap: float = _OVERLAP
) -> NDArray[np.float32]:
    """PET [g/ml] of a study on its working grid (z, y, x), 0 outside the body."""
    edge, shape = recipe.sampling.patch, study.hu.shape
    z, y, x = (max(edge, n) for n in shape)  # beyond the grid there is air
    inputs = torch.from_numpy(study.inputs("whole-body", (0, 0, 0), (z, y, x))[None, :_CT]).to(device())

    said = sliding_window_inference(_packed(inputs), (edge,) * 3, 4, network.eval(), overlap, mode="gaussian")
    pet = torch.as_tensor(said)[0, 0].cpu().numpy()[tuple(slice(n) for n in shape)]
    return np.where(study.body, np.clip(pet, *recipe.suv_range), np.float32(0.0))


def _network() -> nn.Module:
    network = UNet(3, _CT, 1, _CHANNELS, strides=(2,) * (len(_CHANNELS) - 1), num_res_units=2)
    return network.to(device(), memory_format=torch.channels_last_3d)


def _packed(ct: Tensor) -> Tensor:
    """The memory layout in which its convolutions are fastest: a step takes four fifths of the time."""
    return ct.contiguous(memory_format=torch.channels_last_3d)
