"""Weights that were made elsewhere, against the same network written out with torch's functions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from scantwin.errors import InputError
from scantwin.evaluation.pretrained_features import FEATURES, PretrainedFeatures

BLOCKS = (3, 4, 6, 3)
Weights = dict[str, Tensor]


def weights(*, biases: bool) -> Weights:
    """A ResNet-50 by torchvision's names, with numbers that keep signals alive through fifty layers."""
    random = torch.Generator().manual_seed(7)
    made: Weights = {}

    def layer(conv: str, norm: str, inputs: int, outputs: int, kernel: int) -> None:
        shape = (outputs, inputs, kernel, kernel)
        made[f"{conv}.weight"] = torch.randn(shape, generator=random) * (2 / (inputs * kernel**2)) ** 0.5
        if biases:
            made[f"{conv}.bias"] = torch.randn(outputs, generator=random) * 0.3
        made[f"{norm}.weight"] = 0.5 + torch.rand(outputs, generator=random)
        made[f"{norm}.bias"] = torch.randn(outputs, generator=random) * 0.3
        made[f"{norm}.running_mean"] = torch.randn(outputs, generator=random) * 0.3
        made[f"{norm}.running_var"] = 0.5 + torch.rand(outputs, generator=random)

    layer("conv1", "bn1", 3, 64, 7)
    inputs = 64
    for number, blocks in enumerate(BLOCKS, start=1):
        width = 32 * 2**number
        for block in range(blocks):
            at = f"layer{number}.{block}"
            layer(f"{at}.conv1", f"{at}.bn1", inputs, width, 1)
            layer(f"{at}.conv2", f"{at}.bn2", width, width, 3)
            layer(f"{at}.conv3", f"{at}.bn3", width, 4 * width, 1)
            if block == 0:
                layer(f"{at}.downsample.0", f"{at}.downsample.1", inputs, 4 * width, 1)
            inputs = 4 * width
    return made


def written_out(w: Weights, x: Tensor, *, keras: bool) -> Tensor:
    """Deep Residual Learning (arXiv 1512.03385), table 1, 50 layers; where a block halves: see `keras`."""
    eps = 1.001e-5 if keras else 1e-5

    def through(x: Tensor, conv: str, norm: str, stride: int = 1, padding: int = 0) -> Tensor:
        x = F.conv2d(x, w[f"{conv}.weight"], w.get(f"{conv}.bias"), stride, padding)
        mean, variance = w[f"{norm}.running_mean"], w[f"{norm}.running_var"]
        return F.batch_norm(x, mean, variance, w[f"{norm}.weight"], w[f"{norm}.bias"], eps=eps)

    x = F.max_pool2d(F.relu(through(x, "conv1", "bn1", 2, 3)), 3, 2, 1)
    for number, blocks in enumerate(BLOCKS, start=1):
        for block in range(blocks):
            at = f"layer{number}.{block}"
            halves = 2 if block == 0 and number > 1 else 1
            first, second = (halves, 1) if keras else (1, halves)
            y = F.relu(through(x, f"{at}.conv1", f"{at}.bn1", first))
            y = F.relu(through(y, f"{at}.conv2", f"{at}.bn2", second, 1))
            y = through(y, f"{at}.conv3", f"{at}.bn3")
            if block == 0:
                x = through(x, f"{at}.downsample.0", f"{at}.downsample.1", halves)
            x = F.relu(x + y)
    return x.mean((2, 3))


@pytest.fixture
def slices() -> Tensor:
    return torch.rand(2, 1, 65, 48, generator=torch.Generator().manual_seed(1))


def test_radimagenet_as_keras_made_it(tmp_path: Path, slices: Tensor) -> None:
    made = weights(biases=True)
    save_file(made, tmp_path / "radimagenet.safetensors")
    features = PretrainedFeatures(tmp_path / "radimagenet.safetensors")
    said = features(slices)
    seen = slices - torch.tensor([0.406, 0.456, 0.485]).view(1, 3, 1, 1)
    wanted = written_out(made, seen, keras=True)
    assert said.shape == (2, FEATURES)
    torch.testing.assert_close(said, wanted, rtol=1e-4, atol=1e-4 * float(wanted.std()))
    assert features.figure == "FID"
    assert features.name.startswith("radimagenet-sha256-")


def test_imagenet_as_torchvision_has_it(tmp_path: Path, slices: Tensor) -> None:
    made = weights(biases=False)
    more = {"fc.weight": torch.zeros(10, FEATURES), "fc.bias": torch.zeros(10)}
    save_file(made | more, tmp_path / "w.safetensors")
    seen = slices - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    wanted = written_out(made, seen / torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), keras=False)
    said = PretrainedFeatures(tmp_path / "w.safetensors")(slices)
    torch.testing.assert_close(said, wanted, rtol=1e-4, atol=1e-4 * float(wanted.std()))


def test_what_is_no_resnet_50_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(InputError, match="There is no file"):
        PretrainedFeatures(path)
    path.write_bytes(b"\x80\x04 a pickle is no safetensors file")
    with pytest.raises(InputError, match="not a safetensors file"):
        PretrainedFeatures(path)
    made = weights(biases=False)
    for changed, words in (
        ({k: v for k, v in made.items() if k != "layer3.5.bn3.weight"}, "has no layer3.5.bn3.weight"),
        (made | {"bn1.weight": torch.ones(32)}, r"the shape \(32,\) instead of \(64,\)"),
        (made | {"bn1.bias": torch.full((64,), float("nan"))}, "not finite"),
        (made | {"conv1.bias": torch.zeros(3)}, "without its bn1.running_mean"),
    ):
        save_file(changed, path)
        with pytest.raises(InputError, match=words) as told:
            PretrainedFeatures(path)
        assert told.value.hint
