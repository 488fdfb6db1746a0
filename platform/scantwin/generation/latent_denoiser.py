"""The denoiser of latents and the adapter that gives it masks. No attention, no statistics of a window.

Both see their position (fields.PLACE). Attention over the million latent voxels of a large volume is too much
for a small machine, and with statistics of a window the prediction would depend on the window's size. So the
channels of each voxel are normalised alone, and memory grows only with the window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from scantwin.generation.fields import PLACE
from scantwin.generation.mask_guess import MaskGuess
from scantwin.generation.usual_latents import UsualLatents
from scantwin.learning.layers import Conv3d, halved

_WAVES: Final = (math.pi / 2, math.pi, 2 * math.pi, 4 * math.pi)
"""Frequencies of the place channels [1 / their unit]: wavelengths of 2 m to 25 cm along the body, 80 to 10 cm
across it. A network takes long to draw an outline from linear ramps (arXiv 2006.10739)."""

_SEEN: Final = len(PLACE) * (1 + 2 * len(_WAVES))
"""Channels that encode the place."""


_RATE: Final = 0.02
"""How fast the memory of fields of view moves: it spans some fifty patients."""


def waves(place: Tensor) -> Tensor:
    """Place channels (B, 4, D, H, W) and their sines and cosines: (B, _SEEN, D, H, W)."""
    return torch.cat([place, *(f(place * w) for w in _WAVES for f in (torch.sin, torch.cos))], dim=1)


def evened(x: Tensor) -> Tensor:
    """`x` (B, C, ...) with the channels of every voxel normalised to a root mean square of 1."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-6)


class ResidualBlock(nn.Module):
    """Two convolutions beside a skip path; the noise level scales and shifts what lies between them."""

    def __init__(self, inputs: int, outputs: int, features: int) -> None:
        super().__init__()
        self.first = Conv3d(inputs, outputs, 3, padding=1)
        self.second = Conv3d(outputs, outputs, 3, padding=1)
        self.shift = nn.Linear(features, 2 * outputs)
        self.through = Conv3d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        # Deep stacks learn from the first step if each block starts as its skip path.
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, inputs, D, H, W), embedding (B, features) -> (B, outputs, D, H, W)."""
        scale, shift = self.shift(embedding)[:, :, None, None, None].chunk(2, dim=1)
        y = self.first(F.silu(evened(x)))
        y = self.second(F.silu(evened(y) * (1.0 + scale) + shift))
        return self.through(x) + y  # type: ignore[no-any-return]


class Downward(nn.Module):
    """The first half of a U-Net, with the embedding of the noise level."""

    def __init__(self, latents: int, channels: tuple[int, ...], features: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(features, features), nn.SiLU(), nn.Linear(features, features))
        self.stem = Conv3d(latents, channels[0], 3, padding=1)
        self.where = Conv3d(_SEEN, channels[0], 3, padding=1, bias=False)
        widths = (channels[0], *channels)
        self.blocks = nn.ModuleList(
            ResidualBlock(a, b, features) for a, b in zip(widths, channels, strict=False)
        )
        rates = torch.exp(torch.linspace(0.0, math.log(100.0), features // 2)) * math.pi / 2
        self.register_buffer("rates", rates, persistent=False)

    def forward(
        self, x: Tensor, place: Tensor, level: Tensor, hint: Tensor | None = None, *, sparing: bool = False
    ) -> tuple[list[Tensor], Tensor]:
        """The features of each level, finest first, and the embedding (B, features) of `level` (B,) in 0..1.

        `x` are latents (B, C, D, H, W) at `place` (1, 4, D, H, W). `hint` (B, channels[0], D, H, W) is added
        to the stem's output. `sparing` recomputes what the gradient needs instead of keeping it.
        """
        angles = level[:, None] * torch.as_tensor(self.rates)[None]
        embedding = self.embed(torch.cat([angles.sin(), angles.cos()], dim=1))
        # The place is the same at all noise levels of a window: it is computed once for all of them.
        x = self.stem(x) + self.where(waves(place))
        x = x if hint is None else x + hint
        kept = []
        for number, block in enumerate(self.blocks):
            x = run(block, halved(x) if number else x, embedding, sparing=sparing)
            kept.append(x)
        return kept, embedding


class LatentDenoiser(nn.Module):
    """A U-Net that predicts what place and level do not tell of the velocity of a noised latent."""

    def __init__(self, latents: int, channels: tuple[int, ...], features: int) -> None:
        super().__init__()
        self.usual = UsualLatents(latents)
        self.down = Downward(latents, channels, features)
        self.middle = ResidualBlock(channels[-1], channels[-1], features)
        self.up = nn.ModuleList(
            ResidualBlock(b + a, a, features) for a, b in zip(channels, channels[1:], strict=False)
        )
        self.head = Conv3d(channels[0], latents, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        # Sizes of the fields of view: weight, sum and sum of squares of their sides (z, y, x) [m].
        self.register_buffer("fields", torch.zeros(3, 3))
        self.fields: Tensor

    def remember(self, place: Tensor, field_m: Tensor, latent: Tensor) -> None:
        """Updates the memory of fields of view (3,) [m] and of latents at their places."""
        self.fields.lerp_(torch.stack([torch.ones_like(field_m), field_m, field_m**2]), _RATE)
        self.usual.remember(place, latent)

    def forward(
        self,
        noised: Tensor,
        place: Tensor,
        level: Tensor,
        control: list[Tensor] | None = None,
        *,
        sparing: bool = False,
    ) -> Tensor:
        """The prediction for `noised` (B, C, D, H, W), whatever its sides are.

        `place` (1, 4, D, H, W) holds the place channels, `level` (B,) in 0..1 the noise level; `control` is
        what an `Adapter` adds to each level of the U-Net (`Control.levels`).
        """
        kept, embedding = self.down(noised, place, level, sparing=sparing)
        if control is not None:
            kept = [found + added for found, added in zip(kept, control, strict=True)]
        x = run(self.middle, kept[-1], embedding, sparing=sparing)
        for number in range(len(self.up) - 1, -1, -1):
            x = torch.cat([doubled(x, kept[number]), kept[number]], dim=1)
            x = run(self.up[number], x, embedding, sparing=sparing)
        return self.head(F.silu(evened(x)))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Control:
    """What an adapter gives to a denoiser."""

    levels: list[Tensor]
    """Added to the features of each level of the denoiser's downward path."""
    expected: Tensor
    """Latents expected from the mask alone (B, C, D, H, W)."""
    sd: Tensor
    """SD of latents around them (1, C, 1, 1, 1)."""
    said: Tensor
    """What remains of the velocity beside the mask's guess, in units of its SD (B, C, D, H, W)."""
    trust: Tensor
    """Log-odds of trusting the mask's guess more than its SD says (B, C, 1, 1, 1)."""


class Adapter(nn.Module):
    """Gives a mask to a frozen denoiser (ControlNet, arXiv 2302.05543).

    A copy of the denoiser's downward path sees the mask beside the latent; convolutions that start at zero
    add its features to the denoiser's own. That alone learns nothing within minutes, so there is also a guess
    that needs no gradient descent (mask_guess.MaskGuess) and a short path from the features to the output.
    """

    def __init__(self, latents: int, classes: int, channels: tuple[int, ...], features: int) -> None:
        super().__init__()
        self.guess = MaskGuess(latents, classes)
        self.hint = Conv3d(classes, channels[0], 3, padding=1)
        self.down = Downward(latents, channels, features)
        self.gates = nn.ModuleList(Conv3d(width, width, 1) for width in channels)
        self.head = Conv3d(channels[0], latents, 3, padding=1)
        self.trust = nn.Linear(features, latents)
        for part in (self.gates, self.head, self.trust):
            for parameter in part.parameters():
                nn.init.zeros_(parameter)

    @property
    def learnt(self) -> bool:
        """Whether it has seen anything at all."""
        return self.guess.known

    def begin_as(self, denoiser: LatentDenoiser) -> None:
        """Copies the denoiser's downward path as the starting point."""
        self.down.load_state_dict(denoiser.down.state_dict())

    def forward(
        self, noised: Tensor, place: Tensor, level: Tensor, mask: Tensor, *, sparing: bool = False
    ) -> Control:
        """What the denoiser is given; `mask` (B, classes, D, H, W) holds the share of each class."""
        kept, embedding = self.down(noised, place, level, self.hint(mask), sparing=sparing)
        with torch.autocast(mask.device.type, enabled=False):  # 8 bits are too few for sums
            expected, sd = self.guess(mask)
        return Control(
            [gate(found) for gate, found in zip(self.gates, kept, strict=True)],
            expected,
            sd,
            self.head(F.silu(evened(kept[0]))).float(),
            self.trust(embedding).float()[:, :, None, None, None],
        )


def doubled(x: Tensor, like: Tensor) -> Tensor:
    """Every voxel eight times, cropped to the sides of `like`, from which `x` was halved."""
    d, h, w = like.shape[2:]
    return F.interpolate(x, scale_factor=2.0, mode="nearest")[..., :d, :h, :w]


def run(block: nn.Module, x: Tensor, embedding: Tensor, *, sparing: bool) -> Tensor:
    """A block's output; `sparing` drops inner activations and recomputes them for the gradient."""
    if sparing and torch.is_grad_enabled():
        return torch.as_tensor(checkpoint(block, x, embedding, use_reentrant=False))
    return torch.as_tensor(block(x, embedding))
