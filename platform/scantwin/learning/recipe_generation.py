"""The sections of the recipes that make CT. Every value has a default, every default its reason or source."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from scantwin.learning.recipe_parts import Channels, Part, Positive, Share

_Even = Annotated[int, Field(gt=0, multiple_of=2)]
_GridSize = Annotated[int, Field(ge=3, le=255)]


class Inpainting(Part):
    """Axial slices synthesised inside a mask: a Pix2Pix, then a diffusion; how training regions are drawn."""

    steps: Positive = 200
    """Noise levels in training; as many as coarse-diffusion has."""
    channels: Channels = (24, 48, 64, 96)
    """Channels of the denoiser's 2D U-Net, finest level first."""
    time_features: _Even = 32
    """Width of the embedding of the noise level."""
    class_features: Positive = 6
    """Width of the embedding of what fills a voxel (organ class or tumour)."""
    sampler: Literal["ddim", "dpmpp_2m", "unipc"] = "dpmpp_2m"
    sample_steps: Positive = 16
    """Network evaluations per sample."""
    painter_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of a training in which the Pix2Pix learns; then it is frozen, and the diffusion learns the
    texture that it leaves out."""
    ring_mm: Annotated[float, Field(ge=0, le=30)] = 5.0
    """Tissue around a lesion synthesised with it [mm]: a tumour pushes and blurs into its surroundings."""
    feather_mm: Annotated[float, Field(ge=0, le=20)] = 3.0
    """Width of the band inside a region's border where the real CT gives way to the synthetic one [mm]."""
    region_mm: tuple[Positive, Positive] = (15, 80)
    """Smallest and largest diameter of the random regions of a training patch [mm]."""
    coverage: Share = 0.4
    """Share of a training patch's middle slice to synthesise: random regions are added up to it."""
    organs: Share = 0.3
    """Share of training patches whose region is the part of one organ inside the patch."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.sample_steps > self.steps:
            raise ValueError("sample_steps <= steps must hold")
        if self.region_mm[0] > self.region_mm[1]:
            raise ValueError("region_mm must rise")
        return self


class Volumes(Part):
    """The latent diffusion of whole CT volumes: a VQ-GAN on 3D patches and a denoiser of its latents."""

    steps: Positive = 300
    """Noise levels in training (issue 4)."""
    autoencoder_channels: tuple[Positive, Positive, Positive] = (12, 24, 48)
    """Channels of the VQ-GAN at full, half and quarter resolution. Few at full resolution: they determine the
    memory that a decoded tile needs."""
    levels: tuple[_GridSize, ...] = (63, 15, 15, 15, 15, 15, 15, 15)
    """Grid values of each latent channel (finite scalar quantisation, arXiv 2309.15505); odd, so that one of
    them is 0. The first channel begins as the mean of 64 voxels, so it gets the finest grid; all channels
    together hold 33 bits for 64 voxels."""
    latent_gain: Annotated[float, Field(gt=0)] = 3.0
    """Factor on the latents for the diffusion: within [-1, 1] their channels have SDs of 0.2-0.36 (phantoms),
    while noise has 1. A denoiser that is shown mostly noise learns mostly noise."""
    channels: Channels = (24, 48, 96, 96)
    """Channels of the denoiser's 3D U-Net on the latent grid, finest level first. Few at the finest,
    where most of the time goes."""
    draws: Positive = 2
    """Noise levels that are learnt from a window in one step: it is cut and encoded only once."""
    time_features: _Even = 64
    """Width of the embedding of the noise level."""
    autoencoder_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of a training in which the autoencoder learns; then it is frozen and the denoiser learns."""
    adversarial_from: Share = 0.6
    """Share of the autoencoder's own time after which the discriminator joins: until then L1 suffices."""
    masks: Literal["organs", "body", "none"] = "organs"
    """What an adapter gives the denoiser: organ classes, the body alone, or nothing (no adapter)."""
    masks_from: Share = 0.5
    """Share of the denoiser's time after which half of the steps, drawn at random, train the adapter."""
    error: Literal["squared", "absolute"] = "squared"
    """Error of the velocity in training. Absolute errors (L1, arXiv 2503.13211) teach medians, whose samples
    are too small where fewer than half of the patients have body (docs/decisions/0014-guided.md)."""
    guidance: Annotated[float, Field(ge=1, le=3)] = 1.3
    """How far a sample moves from what is usual at its place, over how far the denoiser says (w of arXiv
    2406.02507, eq. 3, with the usual latents as its bad version): after minutes it says too little."""
    window: tuple[Positive, Positive, Positive] = (320, 96, 160)
    """Largest field shown to the denoiser in training (z, y, x) [voxels]; a whole body where it fits."""
    largest: tuple[Positive, Positive, Positive] = (256, 512, 512)
    """Largest window of the denoiser at inference (z, y, x) [voxels]. Larger volumes are assembled from
    several overlapping ones, which bounds the memory."""
    overlap: Positive = 64
    """Overlap of these windows [voxels]."""
    tile: Positive = 160
    """Edge of the tiles that are encoded and decoded [voxels]: some 0.5 GB of working memory."""
    recompute_above: Positive = 60_000
    """Latent voxels in a window above which training recomputes inner activations instead of keeping them
    (gradient checkpointing): a third more time for a fraction of the memory."""
    sampler: Literal["ddim", "dpmpp_2m", "unipc"] = "dpmpp_2m"
    sample_steps: Positive = 20
    """Network evaluations per volume."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.sample_steps > self.steps:
            raise ValueError("sample_steps <= steps must hold")
        for name, sides in (("window", self.window), ("largest", self.largest), ("tile", (self.tile,))):
            if any(side % 4 for side in sides):
                raise ValueError(f"{name} must be divisible by 4, the voxels behind a latent one")
        if any(n % 2 == 0 for n in self.levels):
            raise ValueError("levels must be odd")
        return self
