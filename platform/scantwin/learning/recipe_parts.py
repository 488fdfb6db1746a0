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

_LOPSIDED: Final = ("trunk", "whole-body")
"""Districts whose left and right are not alike."""


class Part(BaseModel):
    """A section: frozen, unknown keys and what is not a number refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Network(Part):
    """The networks of one district."""

    channels: Channels = (16, 32, 64)
    """Channels of the generator's U-Net, finest level first; each level halves the resolution."""
    start: Literal["tissue-curve", "zero"] = "tissue-curve"
    """What the untrained generator says: typical uptake by CT number, or nothing."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the generator's channels below full resolution that a training step does without (arXiv
    1411.4280): twenty patients are known by heart within two hundred steps."""
    discriminator_channels: Channels = (16, 32, 64)
    """Channels of the patch discriminator; each layer halves the resolution."""


class Sampling(Part):
    """How training patches are drawn from a study, and how a scan is put together from windows."""

    patch: Annotated[int, Field(ge=2)] = 32
    """Edge of a training patch [voxels] (arXiv 2503.15555, III.B)."""
    window: Positive = 160
    """Largest edge of a window at inference [voxels]. The networks have no normalisation layers, so a
    window may be larger than a training patch; a whole district in one has no seams and costs least."""
    overlap: Annotated[int, Field(ge=0)] = 16
    """Overlap of neighbouring windows at inference [voxels] (arXiv 2503.15555, III.B)."""
    lesions: Share = 0.25
    """Share of patches centred on a lesion where the study has any in the district."""
    hot: Share = 0.25
    """Share of patches centred where the PET is hot: most of the body is not, most of the error is."""
    swap_uptake: Share = 0.0
    """Share of patches in which lesions take up as much as a training patient's by chance. What a tumour
    takes up its CT hardly tells: of few patients a network remembers it instead of learning what is usual."""
    flip: tuple[Axis, ...] = ("x",)
    """Axes that patches are mirrored along at random. In systems that make PET only those of head, arms and
    legs, whose sides are alike."""
    flip_trunk: tuple[Axis, ...] = ()
    """The same for the trunk and for whole bodies that have districts: a liver belongs on the right."""
    flip_unsplit: tuple[Axis, ...] = ("x",)
    """The same for studies that could not be split into districts: of a piece of a limb, front and back or
    top and bottom say little, and few studies become many."""
    turn_deg: Annotated[float, Field(ge=0, le=90)] = 0.0
    """SD of a random turn of a patch about each axis [degrees]; 0 turns none."""
    stretch: Annotated[float, Field(ge=0, le=0.2)] = 0.0
    """SD of a random scale of a patch, as a share of its size; 0 stretches none."""
    hu_jitter: Annotated[float, Field(ge=0, le=1000)] = 10.0
    """SD of a shift of a patch's CT numbers [HU]: scanners differ by 8-10 HU (sources.md, 4)."""
    average_flips: tuple[Axis, ...] = ()
    """Axes along which a scan is predicted mirrored as well, and averaged, where patches were mirrored: twice
    the cost for each."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.overlap >= self.window:
            raise ValueError("the overlap must be smaller than the window")
        return self

    def mirrored(self, district: District, *, split: bool) -> tuple[Axis, ...]:
        """Axes that a patch of `district` is mirrored along, of a study that could be split or not."""
        if not split:
            return self.flip_unsplit
        return self.flip_trunk if district in _LOPSIDED else self.flip

    def averaged_over(self, district: District) -> tuple[Axis, ...]:
        """Axes along which a scan of `district` is averaged: those that its patches were mirrored along.

        The networks of the whole body serve above all what cannot be split. Where all that they learn from
        can, `flip_unsplit` is to be empty.
        """
        learnt = self.mirrored(district, split=district != "whole-body")
        return tuple(axis for axis in self.average_flips if axis in learnt)


class Optimisation(Part):
    """How the weights are moved."""

    batch: Positive = 4
    accumulate: Positive = 1
    """Batches whose gradients are added before the weights move: a larger batch in the same memory."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    discriminator_rate: Annotated[float, Field(gt=0)] = 2e-4
    weight_decay: Weight = 0.0
    """Of Adam, apart from the gradient (AdamW, arXiv 1711.05101); 0 is plain Adam."""
    betas: tuple[Decay, Decay] = (0.5, 0.99)
    """Adam's decay rates; 0.5 for the first moment as Pix2Pix has it (arXiv 1611.07004, 3.3)."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Of the learning rate over the whole training, to a twentieth at its end."""
    warm_up: Share = 0.0
    """Part of the whole training in which the learning rate rises from nothing to the schedule's."""
    ema: Decay = 0.97
    """Decay of the moving average of weights that is delivered; 0 delivers the last weights."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the forward pass; weights and optimiser stay fp32. `auto` is bf16 where the processor or
    GPU that networks work on has it (on processors 2-3 times faster there, slower elsewhere)."""

    @property
    def patches(self) -> int:
        """Patches behind one step."""
        return self.batch * self.accumulate


class Losses(Part):
    """Weights of the terms of a system's loss; 0 switches a term off."""

    l1: Weight = 100.0
    """Of the mean absolute error of the PET scaled to [-1, 1] (lambda of arXiv 1611.07004)."""
    adversarial: Weight = 1.0
    """Of the least-squares adversarial term (arXiv 1611.04076)."""
    neighbour: Share = 0.1
    """Weight of the body's voxels outside the district: a patch of an arm that hangs down is half trunk, and
    the model of the arms need only know how the trunk begins."""
    air: Share = 0.05
    """Weight of voxels outside the body in the L1 term; inside it is 1."""
    lesions: Weight = 0.0
    """How much more the lesions of a patch weigh wherever its voxels are weighed, all together, as a share of
    the patch's weight; at most ten voxels' for each of theirs. A node is a thousandth of a patch, a sarcoma a
    fifth: docs/decisions/0006-few-patients.md."""
    hottest: Weight = 0.0
    """SUV-aware: of the error of the hottest spot [g/ml], a soft mean over the hottest voxels of the
    lesions in a patch, or of its body where it has none."""
    uptake: Weight = 0.0
    """SUV-aware: of the error of the mean uptake [g/ml] of the same voxels."""
    cycle: Weight = 10.0
    """Of coming back from the other modality (lambda of arXiv 1703.10593, 4): a PET by way of the CT made of
    it, and a CT by way of its PET as far as `unpaired.ct_again` says."""
    identity: Weight = 5.0
    """Of leaving alone what is of the target modality already (half of lambda: arXiv 1703.10593, 5.2)."""
    held: Weight = 0.0
    """Of staying, over neighbourhoods, with what a generator starts from: uptake by CT number, and by place
    with `unpaired.by_place`; both scaled to [-1, 1]."""
    denoising: Weight = 1.0
    """Of the denoiser's error, in units of what it denoises: squared, in volumes as `volumes.error` says."""


class Unpaired(Part):
    """CycleGAN's own values."""

    pool: Annotated[int, Field(ge=0)] = 50
    """Earlier synthetic patches shown to a discriminator again (arXiv 1703.10593, 4); 0 keeps none."""
    by_place: bool = False
    """Whether a CT number takes up what PETs take up where it is (`translation/usual_uptake.py`)."""
    ct_again: Share = 0.0
    """How much it counts that a CT comes back from the PET made of it; 1 is arXiv 1703.10593's. A PET does
    not tell its CT: asked to, both generators agree on a code, and what is dense becomes hot
    (docs/decisions/0009-unpaired.md)."""


class Diffusion(Part):
    """The conditional diffusion of what the PET has beside the mean uptake at a coarse prediction."""

    steps: Positive = 200
    """Noise levels in training (issue 4)."""
    predicts: Literal["v", "x0"] = "v"
    """What the denoiser says: the velocity (arXiv 2202.00512) or the clean residual."""
    channels: Channels = (16, 32, 64)
    """Channels of the denoiser's U-Net, finest level first."""
    time_features: Annotated[int, Field(gt=0, multiple_of=2)] = 32
    """Width of the embedding of the noise level."""
    scale: tuple[Annotated[float, Field(gt=0)], Weight] = (0.3, 0.4)
    """The residual is divided by a + b * coarse [g/ml]: an error of uptake grows with uptake. A first guess;
    the training remembers what errors are like in each district."""
    largest: Annotated[float, Field(gt=0)] = 6.0
    """Largest scaled residual that can be said: what a step predicts is clipped to it."""
    coarse_share: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """Share of a training in which the coarse predictor learns; then it stands still, as held-out patients
    would have it, and the denoiser learns what it leaves over."""
    coarse_aware: Weight = 1.0
    """How much of the SUV-aware terms the coarse predictor is taught as well; 0 teaches it L1 alone, and hot
    spots are the denoiser's business."""
    sampler: Literal["ddim", "dpmpp_2m", "unipc"] = "dpmpp_2m"
    start_step: Positive = 200
    """Noise level (1..steps) from which a sample starts, at the noised mean uptake."""
    sample_steps: Positive = 5
    """Network evaluations of a sample."""
    spacing: Literal["even", "log-snr"] = "even"
    """How the noise levels of a sample lie: evenly, or evenly in the logarithm of signal to noise."""
    samples: Annotated[int, Field(gt=0, le=32)] = 4
    """Samples of a scan: their spread is the error bar, together with what held-out patients showed."""
    delivered: Literal["coarse", "mean", "sample", "blend"] = "blend"
    """What becomes the PET: the coarse prediction, the mean of the samples, one sample, or the coarse
    prediction that gives way, where it is hot, to the mean uptake of patients there and a sample about it
    (`blend`)."""
    blend_from: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(gt=0)]] = (1.5, 3.0)
    """Uptake [g/ml] from which, and above which altogether, the coarse prediction gives way: above blood and
    muscle (sources.md). Lower limits gain hot spots and cost error: docs/decisions/0005."""
    blend_share: Share = 0.5
    """How much of a sample's difference from that mean is let in there: all of it costs as much error in cold
    tumours as it gains in hot ones (docs/decisions/0005)."""
    anchor: Share = 1.0
    """How far the slow part of the samples' mean is put back to what they are drawn about: the small biases
    of a denoiser add up over steps, and noise has no business moving the mean of an organ."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.start_step > self.steps or self.sample_steps > self.start_step:
            raise ValueError("sample_steps <= start_step <= steps must hold")
        if self.blend_from[0] >= self.blend_from[1]:
            raise ValueError("blend_from must rise")
        return self
