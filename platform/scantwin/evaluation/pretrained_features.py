"""Features of a ResNet-50 trained elsewhere: with them a Frechet distance may be called FID.

The weights are the user's own file. RadImageNet's are those by which public generators of CT volumes are
compared; ImageNet's are recognised as well. Nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from scantwin.errors import InputError
from scantwin.files import sha256

FEATURES: Final = 2048
"""Features per slice: the channels of the last layer, averaged over the slice."""

_LARGEST_FILE: Final = 256 * 2**20
"""Bytes: two and a half times what the weights take in float32."""
_KERAS_EPSILON: Final = 1.001e-5
"""Added to variances where weights come from Keras (tensorflow/keras applications/resnet.py)."""
_BGR_MEAN: Final = (0.406, 0.456, 0.485)
"""Subtracted from the channels for RadImageNet, as in the evaluation scripts of MONAI's MAISI."""
_RGB_MEAN: Final = (0.485, 0.456, 0.406)
_RGB_SD: Final = (0.229, 0.224, 0.225)
"""ImageNet's channels, as torchvision's weights expect them."""
_HINT: Final = (
    "Give ResNet-50 weights as safetensors, with torchvision's names (conv1.weight ... layer4.2.bn3.bias)."
)


class PretrainedFeatures(nn.Module):
    """An `Extractor`: the ResNet-50 whose weights a safetensors file holds.

    Convolutions with a bias mark a network that came from Keras, as RadImageNet's did: it halves an image in
    the first convolution of a block, torchvision's in the second.
    """

    figure = "FID"

    def __init__(self, path: Path) -> None:
        """Raises `InputError` for a file that is not such weights."""
        super().__init__()
        from monai.networks.nets.resnet import resnet50

        arrays = _read(path)
        from_keras = "conv1.bias" in arrays
        self.name = f"{path.stem}-sha256-{sha256(path)[:12]}"
        self.body = resnet50(
            spatial_dims=2, n_input_channels=3, conv1_t_stride=2, bias_downsample=False, feed_forward=False
        )
        if from_keras:
            arrays = _without_biases(arrays)
            _as_in_keras(self.body)
        _load(self.body, arrays, path)
        self.register_buffer("mean", torch.tensor(_BGR_MEAN if from_keras else _RGB_MEAN).view(1, 3, 1, 1))
        self.register_buffer("sd", torch.tensor((1.0,) * 3 if from_keras else _RGB_SD).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, slices: Tensor) -> Tensor:
        """(N, 1, H, W) with values in 0..1 -> (N, FEATURES)."""
        mean, sd = self.get_buffer("mean"), self.get_buffer("sd")
        return torch.as_tensor(self.body((slices - mean) / sd))


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"There is no file {path}.", hint=_HINT)
    if path.stat().st_size > _LARGEST_FILE:
        raise InputError(f"{path} is too large for a ResNet-50.", hint=_HINT)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file: {error}.", hint=_HINT) from None


def _without_biases(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same network without biases: its normalisations would subtract again what a convolution adds."""
    kept = dict(arrays)
    for name, weight in arrays.items():
        layer, _, last = name.rpartition(".")
        bias = kept.pop(f"{layer}.bias", None) if last == "weight" and weight.dim() == 4 else None
        if bias is None:
            continue
        # conv2 -> bn2; in a shortcut, the first of its two layers -> the second.
        norm = f"{layer[:-1]}1" if "downsample" in layer else layer.replace("conv", "bn")
        mean = f"{norm}.running_mean"
        if mean not in kept or kept[mean].shape != bias.shape:
            raise InputError(f"The weights have a bias {layer}.bias without its {mean}.", hint=_HINT)
        kept[mean] = kept[mean] - bias
    return kept


def _as_in_keras(body: nn.Module) -> None:
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = _KERAS_EPSILON
    for layer in ("layer2", "layer3", "layer4"):
        body.get_submodule(f"{layer}.0.conv1").stride = (2, 2)  # type: ignore[assignment]
        body.get_submodule(f"{layer}.0.conv2").stride = (1, 1)  # type: ignore[assignment]


def _load(body: nn.Module, arrays: dict[str, Tensor], path: Path) -> None:
    wanted = {k: v for k, v in body.state_dict().items() if not k.endswith("num_batches_tracked")}
    for name, value in wanted.items():
        if name not in arrays:
            raise InputError(f"{path} has no {name}: it is not a ResNet-50.", hint=_HINT)
        if arrays[name].shape != value.shape:
            shapes = f"{tuple(arrays[name].shape)} instead of {tuple(value.shape)}"
            raise InputError(f"{path} has {name} with the shape {shapes}: it is not a ResNet-50.", hint=_HINT)
        if not torch.isfinite(arrays[name]).all():
            raise InputError(f"{path} has numbers in {name} that are not finite.", hint=_HINT)
    # A classifier on top and the counts of batches are ignored.
    body.load_state_dict({name: arrays[name].float() for name in wanted}, strict=False)
