"""The sections of a recipe. Every value has a default, every default its reason or source."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from scantwin.imaging.study import District

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Channels = Annotated[tuple[Positive, ...], Field(min_length=1)]
Axis = Literal["z", "y", "x"]

BODY_WEIGHT: Final = 0.999
"""Weight in a patch above which a voxel is of the district's own body: its 1 drops slightly when patches are
rotated (a sixth of the voxels had 0.99999994)."""

_LOPSIDED: Final = ("trunk", "whole-body")
"""Districts whose left and right differ."""


class Part(BaseModel):
    """A section: frozen; unknown keys, NaN and infinity are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Network(Part):
    """The networks of one district."""

    channels: Channels = (16, 32, 64)
    """Channels of the generator's U-Net, finest level first; each level halves the resolution."""
    start: Literal["tissue-curve", "zero"] = "tissue-curve"
    """What the untrained generator predicts: typical uptake by CT number, or nothing."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the generator's channels below full resolution that a training step drops (arXiv 1411.4280):
    twenty patients are known by heart within two hundred steps."""
    discriminator_channels: Channels = (16, 32, 64)
    """Channels of the patch discriminator; each layer halves the resolution."""


class Sampling(Part):
    """How training patches are drawn from a study, and how a scan is assembled from windows."""

    patch: Annotated[int, Field(ge=2)] = 32
    """Edge of a training patch [voxels] (arXiv 2503.15555, III.B)."""
    window: Positive = 160
    """Largest edge of a window at inference [voxels]. The networks have no normalisation layers, so a
    window may be larger than a training patch; a whole district in one has no seams and costs least."""
    overlap: Annotated[int, Field(ge=0)] = 16
    """Overlap of neighbouring windows at inference [voxels] (arXiv 2503.15555, III.B)."""
    lesions: Share = 0.25
    """Share of patches centred on a lesion, if the study has any in the district."""
    hot: Share = 0.25
    """Share of patches centred where the PET is hot: most of the body is not, but most of the error is."""
    swap_uptake: Share = 0.0
    """Share of patches whose lesions get the uptake of a random training patient's. A CT hardly tells what a
    tumour takes up: from few patients a network memorises it instead of learning what is usual."""
    flip: tuple[Axis, ...] = ("x",)
    """Axes along which patches are mirrored at random. In systems that make PET, only patches of head, arms
    and legs, whose sides are alike."""
    flip_trunk: tuple[Axis, ...] = ()
    """The same for the trunk and for whole bodies that have districts: a liver belongs on the right."""
    flip_unsplit: tuple[Axis, ...] = ("x",)
    """The same for studies that could not be split into districts: in a piece of a limb, front and back or
    top and bottom say little, and few studies become many."""
    turn_deg: Annotated[float, Field(ge=0, le=90)] = 0.0
    """SD of a random rotation of a patch about each axis [degrees]; 0 for none."""
    stretch: Annotated[float, Field(ge=0, le=0.2)] = 0.0
    """SD of a random scaling of a patch, as a share of its size; 0 for none."""
    hu_jitter: Annotated[float, Field(ge=0, le=1000)] = 10.0
    """SD of a random shift of a patch's CT numbers [HU]: scanners differ by 8-10 HU (sources.md, 4)."""
    average_flips: tuple[Axis, ...] = ()
    """Axes along which a scan is also predicted mirrored, and averaged, if patches were mirrored along them:
    each doubles the cost."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.overlap >= self.window:
            raise ValueError("the overlap must be smaller than the window")
        return self

    def mirrored(self, district: District, *, split: bool) -> tuple[Axis, ...]:
        """Axes along which a patch of `district` is mirrored, from a study that could be split or not."""
        if not split:
            return self.flip_unsplit
        return self.flip_trunk if district in _LOPSIDED else self.flip

    def averaged_over(self, district: District) -> tuple[Axis, ...]:
        """Axes along which a scan of `district` is averaged: those along which its patches were mirrored.

        The whole-body networks mainly serve studies that cannot be split. If all that they learn from can be,
        `flip_unsplit` should be empty.
        """
        learnt = self.mirrored(district, split=district != "whole-body")
        return tuple(axis for axis in self.average_flips if axis in learnt)


class Optimisation(Part):
    """How the weights are optimised."""

    batch: Positive = 4
    accumulate: Positive = 1
    """Batches whose gradients are summed before the weights move: a larger batch in the same memory."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    discriminator_rate: Annotated[float, Field(gt=0)] = 2e-4
    weight_decay: Weight = 0.0
    """Weight decay of Adam, decoupled from the gradient (AdamW, arXiv 1711.05101); 0 is plain Adam."""
    betas: tuple[Decay, Decay] = (0.5, 0.99)
    """Adam's decay rates; 0.5 for the first moment as in Pix2Pix (arXiv 1611.07004, 3.3)."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Schedule of the learning rate over the whole training; `cosine` ends at a twentieth of it."""
    warm_up: Share = 0.0
    """Share of the whole training in which the learning rate rises from zero to the schedule's."""
    ema: Decay = 0.97
    """Decay of the moving average of the weights, which is delivered; 0 delivers the last weights."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the forward pass; weights and optimiser stay fp32. `auto` is bf16 if the CPU or GPU that
    runs the networks has it (such CPUs are 2-3 times faster with it, others slower)."""

    @property
    def patches(self) -> int:
        """Patches per step."""
        return self.batch * self.accumulate


class Losses(Part):
    """Weights of the terms of a system's loss; 0 switches a term off."""

    l1: Weight = 100.0
    """Weight of the mean absolute error of the PET scaled to [-1, 1] (lambda of arXiv 1611.07004)."""
    adversarial: Weight = 1.0
    """Weight of the least-squares adversarial term (arXiv 1611.04076)."""
    neighbour: Share = 0.1
    """Weight of the body's voxels outside the district: a patch of a hanging arm is half trunk, and the model
    of the arms need only know how the trunk begins."""
    air: Share = 0.05
    """Weight of voxels outside the body in every term that is taken over a patch; inside it is 1."""
    lesions: Weight = 0.0
    """Extra weight of all lesions in a patch together, wherever voxels are weighted, as a share of the
    patch's weight; at most that of ten voxels for each of theirs. A node is a thousandth of a patch, a
    sarcoma a fifth: docs/decisions/0006-few-patients.md."""
    hottest: Weight = 0.0
    """SUV-aware: weight of the error of the hottest spot [g/ml], a soft mean over the hottest voxels of the
    lesions in a patch, or of its body if it has none."""
    uptake: Weight = 0.0
    """SUV-aware: weight of the error of the mean uptake [g/ml] in the same lesions or body."""
    cycle: Weight = 10.0
    """Weight of the cycle (lambda of arXiv 1703.10593, 4): a PET comes back from the CT made from it, and a
    CT from its PET as far as `unpaired.ct_again` says."""
    identity: Weight = 5.0
    """Weight of leaving alone what is of the target modality (half of lambda: arXiv 1703.10593, 5.2)."""
    held: Weight = 0.0
    """Weight of staying, on average over neighbourhoods, with what a generator starts from: uptake by CT
    number, and by place with `unpaired.by_place`; both scaled to [-1, 1]."""
    denoising: Weight = 1.0
    """Weight of the denoiser's error, in units of what it denoises: squared, or as `volumes.error` says."""


class Unpaired(Part):
    """CycleGAN's own values."""

    pool: Annotated[int, Field(ge=0)] = 50
    """Earlier synthetic patches kept to show a discriminator again (arXiv 1703.10593, 4); 0 keeps none."""
    by_place: bool = False
    """Whether uptake by CT number is corrected for the place, by PETs (`translation/usual_uptake.py`)."""
    ct_again: Share = 0.0
    """Weight of a CT coming back from the PET made from it; 1 is arXiv 1703.10593's. A PET does not
    determine its CT: asked to, both generators agree on a code, and what is dense becomes hot
    (docs/decisions/0009-unpaired.md)."""


class Diffusion(Part):
    """The conditional diffusion of the PET's residual about the mean uptake at a coarse prediction."""

    steps: Positive = 200
    """Noise levels in training (issue 4)."""
    predicts: Literal["v", "x0"] = "v"
    """What the denoiser predicts: the velocity (arXiv 2202.00512) or the clean residual."""
    channels: Channels = (16, 32, 64)
    """Channels of the denoiser's U-Net, finest level first."""
    time_features: Annotated[int, Field(gt=0, multiple_of=2)] = 32
    """Width of the embedding of the noise level."""
    scale: tuple[Annotated[float, Field(gt=0)], Weight] = (0.3, 0.4)
    """The residual is divided by a + b * coarse [g/ml]: errors of uptake grow with uptake. These values are a
    first guess; the training measures how large errors are in each district."""
    largest: Annotated[float, Field(gt=0)] = 6.0
    """Largest scaled residual: what a step predicts is clipped to it."""
    coarse_share: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """Share of a training in which the coarse predictor learns; then it is frozen as held-out patients prefer
    it, and the denoiser learns what it leaves over."""
    coarse_aware: Weight = 1.0
    """How much of the SUV-aware terms the coarse predictor is taught as well; 0 teaches it L1 alone and
    leaves hot spots to the denoiser."""
    sampler: Literal["ddim", "dpmpp_2m", "unipc"] = "dpmpp_2m"
    start_step: Positive = 200
    """Noise level (1..steps) at which a sample starts, from the noised mean uptake."""
    sample_steps: Positive = 5
    """Network evaluations per sample."""
    spacing: Literal["even", "log-snr"] = "even"
    """Spacing of a sample's noise levels: even, or even in the logarithm of the signal-to-noise ratio."""
    samples: Annotated[int, Field(gt=0, le=32)] = 4
    """Samples per scan: their spread is the error bar, together with the errors on held-out patients."""
    delivered: Literal["coarse", "mean", "sample", "blend"] = "blend"
    """What becomes the PET: the coarse prediction, the mean of the samples, one sample, or (`blend`) the
    coarse prediction that gives way, where it is hot, to the mean uptake of patients there and a sample
    about it."""
    blend_from: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(gt=0)]] = (1.5, 3.0)
    """Uptake [g/ml] at which the coarse prediction begins to give way, and above which it has entirely: above
    blood and muscle (sources.md). Lower limits gain hot spots and cost error: docs/decisions/0005."""
    blend_share: Share = 0.5
    """Share of a sample's difference from that mean that is let in there: all of it costs as much error in
    cold tumours as it gains in hot ones (docs/decisions/0005)."""
    anchor: Share = 1.0
    """How far the slow part of the samples' mean is moved back to what they are drawn about: the small biases
    of a denoiser add up over steps, and noise must not move the mean of an organ."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.start_step > self.steps or self.sample_steps > self.start_step:
            raise ValueError("sample_steps <= start_step <= steps must hold")
        if self.blend_from[0] >= self.blend_from[1]:
            raise ValueError("blend_from must rise")
        return self
