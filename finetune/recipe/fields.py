"""The recipe: all that determines the weights, apart from the pictures and the base.

The command line is generated from two dataclasses, `Run` (finetune/recipe/run.py) and `Recipe`.
Each field of `Recipe` is a row: type, range, usual value, needs (finetune/recipe/row.py), help. The
functions that fill a `Recipe` in are in finetune/presets/auto.py and finetune/presets/published.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_type_hints

from finetune.recipe import rows
from finetune.recipe.row import NOT_MEASURED, OFF, Row, row_of
from zoo.host.errors import UserError

USUAL = (
    "recipe",
    "epochs",
    "batch_size",
    "image_size",
    "fit",
    "lr",
    "optimizer",
    "seed",
    "amp",
    "val",
    "probe_only",
)
"""Fields shown first in `--help`; the others stand under a second heading."""
MEASURED = ("balance",)
"""Fields that also take `auto` on the command line: decided from the data, whatever the recipe
says."""


@dataclass(frozen=True)
class Recipe:
    """One complete set of training decisions. Every value is resolved: nothing here means "choose
    for me"."""

    recipe: Annotated[str, Row(probe_too=True)]
    """Name of the recipe that fills in what is not given: auto, or one of a published system:
    warmup-step, paddleclas, bag-of-tricks, cifar-sam, resnet18-imagenet."""
    epochs: Annotated[int, Row(1, 100_000)]
    """Passes over the training pictures."""
    batch_size: Annotated[int, Row(1, 1_000_000)]
    """Pictures per optimiser step."""
    image_size: Annotated[int, Row(16, 4096, probe_too=True)]
    """Side of the square network input, in pixels."""
    fit: Annotated[
        Literal["squash", "crop", "pad"],
        Row(
            usual="squash",
            why="default: the whole picture, measured better than a crop on two data sets",
            probe_too=True,
        ),
    ]
    """How a picture becomes square, in training's evaluation and in deployment: squash both sides,
    crop the centre of the resized picture, or pad with the mean colour (timm's crop_mode squash,
    center, border)."""
    stem: Annotated[Literal["own", "cifar"], Row(usual="own", why="default", probe_too=True)]
    """First layers of a ResNet: its own, or cifar for pictures of about 32 px (a 3x3 convolution of
    stride 1 and no max pooling; of trained weights the middle 3x3 of the 7x7)."""
    lr: Annotated[float, Row(1e-9, 1e3)]
    """Peak learning rate; --lr find takes what a range test suggests (python -m
    finetune.find_lr)."""
    optimizer: Literal[
        "adamw", "adam", "sgd", "momentum", "rmsprop", "adagrad", "adadelta", "lars", "ranger"
    ]
    """adamw (decoupled weight decay), adam, sgd (Nesterov momentum 0.9), momentum (the same without
    Nesterov), rmsprop (with momentum 0.9), adagrad, adadelta, lars (for very large batches), ranger
    (RAdam with Lookahead)."""
    seed: Annotated[int, Row(0, 2**31 - 1, usual=0, why="default", probe_too=True)]
    """Seed of all randomness; the same seed gives the same weights on the same machine."""
    amp: Literal["off", "bf16", "fp16"]
    """Reduced precision of forward and backward passes in training; validation is always fp32."""
    val: Annotated[str, Row(probe_too=True)]
    """Validation pictures where the data has no val folder: a fraction cut from train, or the path
    of a folder."""
    probe_only: Annotated[
        bool, Row(usual=False, why="default", needs=("probe", "on"), probe_too=True)
    ]
    """Stop after the linear probe: classifier on frozen features, no fine-tuning."""
    probe: Annotated[Literal["on", "off"], Row(usual="off", probe_too=True)]
    """Linear probe first: it gives the initial head and the floor that the run may not fall
    below."""
    features: Annotated[
        Literal["fp32", "bf16"],
        Row(usual="fp32", why=NOT_MEASURED, needs=("probe", "on"), probe_too=True),
    ]
    """Precision of the probe's pass over the pictures."""
    warmup: str
    """Length of the linear learning-rate warm-up: '10%', '2 epochs' or '500 steps'."""
    schedule: Literal["cosine", "step", "polynomial", "exponential", "constant"]
    """Learning rate after the warm-up."""
    decay_at: Annotated[str, Row(needs=("schedule", "step"))]
    """For schedule step: comma-separated times at which the rate is multiplied by decay_factor, as
    in '30 epochs'."""
    decay_factor: Annotated[float, Row(1e-6, 1.0, needs=("schedule", "step", "exponential"))]
    """For schedules step and exponential: factor applied at each of decay_at, or per epoch after
    the warm-up."""
    decay_power: rows.DecayPower
    """For schedule polynomial: the rate falls as (1 - progress) to this power; 1 = in a straight
    line."""
    weight_decay: Annotated[float, Row(0.0, 10.0)]
    """Weight decay; never applied to biases and normalisation parameters."""
    label_smoothing: Annotated[float, Row(0.0, 0.9)]
    """Share of the target's probability spread evenly over all classes."""
    erasing: Annotated[float, Row(0.0, 1.0)]
    """Probability that Random Erasing replaces a rectangle of a training picture."""
    erasing_area: rows.ErasingArea
    """Random Erasing: rectangles cover from 0.02 to this share of the picture's area."""
    erasing_ratio: rows.ErasingRatio
    """Random Erasing: heights are up to this many times the widths, and the other way round."""
    erasing_fill: rows.ErasingFill
    """Random Erasing: each pixel becomes noise, or the mean colour."""
    crop_area: Annotated[float, Row(0.05, 1.0)]
    """Random crops cover at least this share of a training picture's area; 1 = no random crop."""
    crop_ratio: Annotated[float, Row(1.0, 10.0, usual=4 / 3, why="usual: 3/4 to 4/3")]
    """Random crops change the ratio of width to height by up to this factor either way; 1 = they
    keep it."""
    flip: Annotated[float, Row(0.0, 1.0)]
    """Probability of a horizontal flip of a training picture."""
    drop_path: Annotated[float, Row(0.0, 0.9)]
    """Stochastic depth: probability of leaving out a residual branch (deepest block)."""
    dropout: Annotated[float, Row(0.0, 0.9, usual=0.0, why="default")]
    """Dropout before the classifier."""
    batch_norm: Annotated[Literal["frozen", "train"], Row(usual="train")]
    """Batch-norm statistics: kept from the base, or learned from batches."""
    clip_norm: Annotated[float, Row(0.0, 1e6, least=1e-6)]
    """Gradients are scaled down to this global L2 norm; 0 = off."""
    accumulate: Annotated[int, Row(1, 1024, usual=1, why=OFF)]
    """Parts in which a batch passes through the network, for batches that the memory does not hold;
    the gradients are those of the whole batch (batch norms see the parts); 1 = off."""
    sam_rho: Annotated[float, Row(0.0, 10.0, least=1e-6, usual=0.0, why=OFF)]
    """Sharpness-aware minimisation: distance at which the gradient is taken (published 0.05 to
    0.2); two passes a step; 0 = off."""
    ema: Annotated[float, Row(0.0, 0.99999, usual=0.0, why=OFF)]
    """Decay of a moving average of the weights, which is then evaluated and kept (0.999; less in
    the first steps); 0 = off."""
    compile: Annotated[Literal["off", "on"], Row(usual="off", why="default")]
    """torch.compile of the network for training: faster steps after a minute or more of
    compilation."""
    patience: Annotated[int, Row(0, 100_000, usual=0, why=OFF)]
    """Stop after this many epochs in a row that were no better than the best fine-tuned one; 0 =
    off."""
    layer_decay: Annotated[float, Row(0.01, 1.0, usual=1.0, why=OFF)]
    """Learning rate of each layer relative to the one above it (0.65 to 0.9 for transformers); 1 =
    off."""
    start_size: Annotated[int, Row(0, 4096, usual=0, why=OFF)]
    """Progressive resizing: side of the network input in the first half of the epochs, in pixels; 0
    = off."""
    from_scratch: Annotated[bool, Row(usual=False, why=OFF)]
    """Start from random weights: the base gives the architecture only."""
    init: Annotated[
        Literal["timm", "kaiming", "xavier"],
        Row(usual="timm", why="used from scratch", needs=("from_scratch",)),
    ]
    """Random weights of convolutions and linear layers: timm's own, Kaiming normal or Xavier
    uniform."""
    zero_gamma: Annotated[bool, Row(usual=False, why=OFF, needs=("from_scratch",))]
    """From scratch: the last batch norm of each residual block starts at 0, so that blocks start as
    the identity."""
    teacher: Annotated[str, Row(usual="", why=OFF)]
    """Knowledge distillation: a base (its head is fitted as a linear probe) or a finished run
    folder of the same classes, whose answers are learned beside the labels; empty = none."""
    distill_temperature: Annotated[
        float, Row(0.1, 100.0, usual=4.0, why="used with a teacher", needs=("teacher",))
    ]
    """For a teacher: its logits and the model's are divided by this."""
    distill_weight: Annotated[
        float, Row(0.01, 1.0, usual=0.5, why="used with a teacher", needs=("teacher",))
    ]
    """For a teacher: share of the loss that compares with its answers; the rest compares with the
    labels."""
    policy: Annotated[
        Literal["none", "autoaugment", "randaugment", "augmix"], Row(usual="none", why=OFF)
    ]
    """Learned or random chains of colour and shape changes: autoaugment (the policy found on
    CIFAR-10 up to 64 px, else ImageNet's), randaugment, augmix."""
    policy_share: rows.PolicyShare
    """Probability that the policy changes a training picture."""
    randaugment_scale: rows.RandAugmentScale
    """Changes that RandAugment draws from, and what its magnitude means: torchvision (of 30),
    paddleclas (of 10), timm (of 10; each change in half of the pictures)."""
    randaugment_ops: rows.RandAugmentOps
    """Changes that RandAugment makes of a picture."""
    randaugment_magnitude: rows.RandAugmentMagnitude
    """Strength of each; published: 9 of 30 by torchvision, 5 of 10 by PaddleClas, 9 of 10 by
    timm."""
    augmix_severity: rows.AugMixSeverity
    """Largest strength of AugMix's changes, of 10; published: 3 on CIFAR, 1 on ImageNet."""
    augmix_consistency: rows.AugMixConsistency
    """Weight of AugMix's Jensen-Shannon loss (published: 12): each picture passes in three views,
    one of them without the policy, whose answers are to agree; 0 = off."""
    rotate: Annotated[float, Row(0.0, 180.0, usual=0.0, why=OFF)]
    """Training pictures turn by up to this many degrees either way; 0 = off."""
    color_jitter: Annotated[float, Row(0.0, 1.0, usual=0.0, why=OFF)]
    """Brightness, contrast and saturation vary by up to this share either way (0.4 = times 0.6 to
    1.4); 0 = off."""
    hue_jitter: Annotated[float, Row(0.0, 1.0, usual=0.0, why=OFF)]
    """Hue, as a share of the circle from red on, is multiplied by 1 minus to 1 plus this; 0 =
    off."""
    pca_noise: Annotated[float, Row(0.0, 1.0, usual=0.0, why=OFF)]
    """Standard deviation of AlexNet's colour noise along the principal components of ImageNet's
    colours (there 0.1); 0 = off."""
    crop_padding: Annotated[int, Row(0, 1024, usual=0, why=OFF)]
    """Pixels of black put around a training picture of the network's size before a crop back to it,
    as is usual on CIFAR (there 4); 0 = off."""
    mixup: Annotated[float, Row(0.0, 10.0, least=1e-3, usual=0.0, why=OFF, heavy=True)]
    """Mixup's alpha: two pictures are blended in a share drawn from Beta(alpha, alpha), targets
    too; 0 = off."""
    cutmix: Annotated[float, Row(0.0, 10.0, least=1e-3, usual=0.0, why=OFF, heavy=True)]
    """CutMix's alpha: a box of another picture is pasted in, its area drawn from Beta(alpha,
    alpha); 0 = off."""
    cutout: Annotated[float, Row(0.0, 1.0, usual=0.0, why=OFF, heavy=True)]
    """Probability that Cutout hides a square of a training picture."""
    cutout_side: rows.CutoutSide
    """Cutout: side of the square, as a share of the picture's."""
    gridmask: Annotated[float, Row(0.0, 1.0, usual=0.0, why=OFF, heavy=True)]
    """Probability that GridMask hides a grid of squares of a training picture."""
    gridmask_kept: rows.GridMaskKept
    """GridMask: share of the grid's period that the strips between the squares take."""
    gridmask_rotate: rows.GridMaskRotate
    """GridMask: the grid turns by up to this many degrees; 0 = off."""
    gridmask_growth: rows.GridMaskGrowth
    """GridMask: its probability grows from 0, epoch by epoch, over this share of the run; 0 =
    off."""
    hide_and_seek: Annotated[float, Row(0.0, 1.0, usual=0.0, why=OFF, heavy=True)]
    """Probability that Hide-and-Seek cuts a training picture into patches and hides some."""
    hide_and_seek_share: rows.HideAndSeekShare
    """Hide-and-Seek: probability that a patch is hidden."""
    loss: Annotated[
        Literal["cross-entropy", "focal", "ohem", "logit-adjusted"],
        Row(usual="cross-entropy", why="default"),
    ]
    """cross-entropy; focal (less weight on what is right already); ohem (the hardest pictures of
    each batch); logit-adjusted (logits shifted by the log of the class shares, for long tails)."""
    focal_gamma: rows.FocalGamma
    """For loss focal: a picture counts (1 - p)^gamma."""
    ohem_share: rows.OhemShare
    """For loss ohem: share of each batch that counts."""
    balance: Annotated[
        Literal["none", "weights", "effective", "resample", "sqrt-resample"],
        Row(usual="none", why=OFF),
    ]
    """For classes of unequal size: weights (loss times 1 / pictures of the class), effective (by
    the effective number of pictures), resample (each class equally often an epoch), sqrt-resample
    (as the root of its pictures). The best weights are then chosen by balanced accuracy instead of
    top-1, as with loss logit-adjusted."""
    threads: Annotated[int, Row(1, 1024, probe_too=True)]
    """CPU threads of torch; 1 and 2 threads give different bits, so a resumed run keeps the
    number."""

    def __post_init__(self) -> None:
        check_bounds(vars(self))

    @property
    def by_class(self) -> bool:
        """Whether classes are to count the same whatever their size, so that balanced accuracy
        chooses the weights."""
        return self.balance != "none" or self.loss == "logit-adjusted"

    @property
    def views(self) -> int:
        """Views of each training picture that a step passes through the network."""
        consistent = self.policy == "augmix" and self.augmix_consistency > 0
        return 3 if consistent else 1


TYPES: Mapping[str, Any] = get_type_hints(Recipe)
"""Field -> its type."""
ROWS: Mapping[str, Row] = {
    name: row_of(hint) for name, hint in get_type_hints(Recipe, include_extras=True).items()
}
"""Field -> what is known of it."""


def with_later_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's values, with the usual ones of the fields that the version that wrote them had not
    yet."""
    return {name: row.usual for name, row in ROWS.items() if row.why is not None} | dict(values)


def flag_of(name: str, value: Any = "") -> str:
    """A field as it stands on the command line, `--batch-size 32`; without a value, or for a
    switch, the flag alone."""
    flag = f"--{name.replace('_', '-')}"
    if value == "" or value is True:
        return flag
    return f"{flag} {value}"


def check_bounds(values: Mapping[str, Any]) -> None:
    """Raise `UserError` for the first numeric field of `values` that is out of its range."""
    for name, row in ROWS.items():
        if name not in values or TYPES[name] not in (int, float):
            continue
        if refusal := row.refusal(values[name]):
            raise UserError(f"{flag_of(name)} {values[name]}: {refusal}.")
