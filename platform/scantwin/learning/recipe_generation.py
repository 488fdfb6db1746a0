"""The sections of the recipes that make CT. Every value has a default, every default its reason or source."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from scantwin.learning.recipe_parts import Part, Positive, Share, Weight

_Even = Annotated[int, Field(gt=0, multiple_of=2)]


class Inpainting(Part):
    """The conditional diffusion of axial slices inside a mask, and what is drawn for it to learn from."""

    steps: Positive = 200
    """Noise levels in training; as many as coarse-diffusion has."""
    channels: tuple[Positive, ...] = (24, 48, 64, 96)
    """Channels of the denoiser's 2D U-Net, finest level first."""
    time_features: _Even = 32
    """Width of the embedding of the noise level."""
    class_features: Positive = 6
    """Width of the embedding of what goes into a voxel (organ class or tumour)."""
    sampler: Literal["ddim", "dpmpp_2m"] = "dpmpp_2m"
    sample_steps: Positive = 16
    """Network evaluations of a sample."""
    ring_mm: Annotated[float, Field(ge=0, le=30)] = 5.0
    """Tissue around a lesion that is made anew with it [mm]: a tumour pushes and blurs into what is there."""
    feather_mm: Annotated[float, Field(ge=0, le=20)] = 3.0
    """Width of the band inside a region's border where the real CT gives way to the made one [mm]."""
    region_mm: tuple[Positive, Positive] = (10, 60)
    """Smallest and largest diameter of the random regions of a training patch [mm]."""
    organs: Share = 0.3
    """Share of training patches where the region is the part of one organ in the patch."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.sample_steps > self.steps:
            raise ValueError("sample_steps <= steps must hold")
        if self.region_mm[0] > self.region_mm[1]:
            raise ValueError("region_mm must rise")
        return self


class Volumes(Part):
    """The latent diffusion of whole CT volumes: a VQ-GAN on 3D patches, a denoiser of what it encodes."""

    steps: Positive = 300
    """Noise levels in training (issue 4)."""
    channels: tuple[Positive, ...] = (32, 64, 96)
    """Channels of the denoiser's 3D U-Net, finest level first."""
    autoencoder_channels: tuple[Positive, ...] = (16, 32, 48)
    """Channels of the VQ-GAN, finest level first; each level after the first halves the resolution."""
    codes: Positive = 512
    """Entries of the code book."""
    code_features: Positive = 4
    """Width of a code."""
    commitment: Weight = 0.25
    """Weight of the encoder's distance from its codes (beta of arXiv 1711.00937, eq. 3)."""
    time_features: _Even = 32
    """Width of the embedding of the noise level."""
