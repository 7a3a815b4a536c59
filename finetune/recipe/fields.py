"""The recipe: all that determines the weights, apart from the pictures and the base.

The command line is generated from the two dataclasses `Run` (finetune/recipe/run.py) and `Recipe`; the functions that
fill a
`Recipe` in are in finetune/recipe/resolve.py.
"""

import ast
import difflib
import inspect
import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Literal, SupportsFloat, get_args, get_type_hints

from zoo.files import fields as checked
from zoo.host.errors import UserError

USUAL = ("recipe", "epochs", "batch_size", "image_size", "fit", "lr", "optimizer", "seed", "amp", "val", "probe_only")
"""Fields shown first in `--help`; the others stand under a second heading."""
MEASURED = ("balance",)
"""Fields that also take `auto` on the command line: decided from the data, whatever the recipe says."""


@dataclass(frozen=True)
class Recipe:
    """One complete set of training decisions. Every value is resolved: nothing here means "choose for me"."""

    recipe: str
    """Name of the recipe that fills in what is not given: auto, or one of a published system: warmup-step, paddleclas,
    bag-of-tricks, cifar-sam, resnet18-imagenet."""
    epochs: int
    """Passes over the training pictures."""
    batch_size: int
    """Pictures per optimiser step."""
    image_size: int
    """Side of the square network input, in pixels."""
    fit: Literal["squash", "crop", "pad"]
    """How a picture becomes square, in training's evaluation and in deployment: squash both sides, crop the centre of
    the resized picture, or pad with the mean colour (timm's crop_mode squash, center, border)."""
    lr: float
    """Peak learning rate; --lr find takes what a range test suggests (python -m finetune.find_lr)."""
    optimizer: Literal["adamw", "adam", "sgd", "momentum", "rmsprop", "adadelta", "lars", "ranger"]
    """adamw (decoupled weight decay), adam, sgd (Nesterov momentum 0.9), momentum (the same without Nesterov), rmsprop
    (with momentum 0.9), adadelta, lars (for very large batches), ranger (RAdam with Lookahead)."""
    seed: int
    """Seed of all randomness; the same seed gives the same weights on the same machine."""
    amp: Literal["off", "bf16", "fp16"]
    """Reduced precision of forward and backward passes in training; validation is always fp32."""
    val: str
    """Validation pictures where the data has no val folder: a fraction cut from train, or the path of a folder."""
    probe_only: bool
    """Stop after the linear probe: classifier on frozen features, no fine-tuning."""
    probe: Literal["on", "off"]
    """Linear probe first: it gives the initial head and the floor that the run may not fall below."""
    features: Literal["fp32", "bf16"]
    """Precision of the probe's pass over the pictures."""
    warmup: str
    """Length of the linear learning-rate warm-up: '10%', '2 epochs' or '500 steps'."""
    schedule: Literal["cosine", "step", "polynomial", "exponential", "constant"]
    """Learning rate after the warm-up."""
    decay_at: str
    """For schedule step: comma-separated times at which the rate is multiplied by decay_factor, as in '30 epochs'."""
    decay_factor: float
    """For schedules step and exponential: factor applied at each of decay_at, or per epoch after the warm-up."""
    decay_power: float
    """For schedule polynomial: the rate falls as (1 - progress) to this power; 1 = in a straight line."""
    weight_decay: float
    """Weight decay; never applied to biases and normalisation parameters."""
    label_smoothing: float
    """Share of the target's probability spread evenly over all classes."""
    erasing: float
    """Probability that Random Erasing replaces a rectangle of a training picture by noise."""
    crop_area: float
    """Random crops cover at least this share of a training picture's area; 1 = no random crop."""
    flip: float
    """Probability of a horizontal flip of a training picture."""
    drop_path: float
    """Stochastic depth: probability of leaving out a residual branch (deepest block)."""
    dropout: float
    """Dropout before the classifier."""
    batch_norm: Literal["frozen", "train"]
    """Batch-norm statistics: kept from the base, or learned from batches."""
    clip_norm: float
    """Gradients are scaled down to this global L2 norm; 0 = off."""
    accumulate: int
    """Parts in which a batch passes through the network, for batches that the memory does not hold; the gradients are
    those of the whole batch (batch norms see the parts); 1 = off."""
    sam_rho: float
    """Sharpness-aware minimisation: distance at which the gradient is taken (published 0.05 to 0.2); two passes a step;
    0 = off."""
    ema: float
    """Decay of a moving average of the weights, which is then evaluated and kept (0.999; less in the first steps);
    0 = off."""
    compile: Literal["off", "on"]
    """torch.compile of the network for training: faster steps after a minute or more of compilation."""
    patience: int
    """Stop after this many epochs in a row that were no better than the best fine-tuned one; 0 = off."""
    layer_decay: float
    """Learning rate of each layer relative to the one above it (0.65 to 0.9 for transformers); 1 = off."""
    start_size: int
    """Progressive resizing: side of the network input in the first half of the epochs, in pixels; 0 = off."""
    from_scratch: bool
    """Start from random weights: the base gives the architecture only."""
    init: Literal["timm", "kaiming", "xavier"]
    """Random weights of convolutions and linear layers: timm's own, Kaiming normal or Xavier uniform."""
    zero_gamma: bool
    """From scratch: the last batch norm of each residual block starts at 0, so that blocks start as the identity."""
    teacher: str
    """Knowledge distillation: a base (its head is fitted as a linear probe) or a finished run folder of the same
    classes, whose answers are learned beside the labels; empty = none."""
    distill_temperature: float
    """For a teacher: its logits and the model's are divided by this."""
    distill_weight: float
    """For a teacher: share of the loss that compares with its answers; the rest compares with the labels."""
    policy: Literal["none", "autoaugment", "randaugment", "augmix"]
    """Learned or random chains of colour and shape changes: autoaugment (the policy found on CIFAR-10 up to 64 px, else
    ImageNet's), randaugment (2 changes of magnitude 9 of 30), augmix (without its consistency loss)."""
    rotate: float
    """Training pictures turn by up to this many degrees either way; 0 = off."""
    color_jitter: float
    """Brightness, contrast and saturation vary by up to this share either way (0.4 = times 0.6 to 1.4); 0 = off."""
    pca_noise: float
    """Standard deviation of AlexNet's colour noise along the principal components of ImageNet's colours (there 0.1);
    0 = off."""
    crop_padding: int
    """Pixels of black put around a training picture of the network's size before a crop back to it, as is usual on
    CIFAR (there 4); 0 = off."""
    mixup: float
    """Mixup's alpha: two pictures are blended in a share drawn from Beta(alpha, alpha), targets too; 0 = off."""
    cutmix: float
    """CutMix's alpha: a box of another picture is pasted in, its area drawn from Beta(alpha, alpha); 0 = off."""
    cutout: float
    """Probability that Cutout hides a square of half a training picture's side."""
    gridmask: float
    """Probability that GridMask hides a grid of squares of a training picture."""
    hide_and_seek: float
    """Probability that Hide-and-Seek cuts a training picture into patches and hides half of them."""
    loss: Literal["cross-entropy", "focal", "ohem", "logit-adjusted"]
    """cross-entropy; focal (less weight on what is right already); ohem (the hardest pictures of each batch);
    logit-adjusted (logits shifted by the log of the class shares, for long tails)."""
    focal_gamma: float
    """For loss focal: a picture counts (1 - p)^gamma."""
    ohem_share: float
    """For loss ohem: share of each batch that counts."""
    balance: Literal["none", "weights", "effective", "resample", "sqrt-resample"]
    """For classes of unequal size: weights (loss times 1 / pictures of the class), effective (by the effective number
    of pictures), resample (each class equally often an epoch), sqrt-resample (as the root of its pictures). The best
    weights are then chosen by balanced accuracy instead of top-1, as with loss logit-adjusted."""
    threads: int
    """CPU threads of torch; 1 and 2 threads give different bits, so a resumed run keeps the number."""

    def __post_init__(self) -> None:
        check_bounds(vars(self))

    @property
    def by_class(self) -> bool:
        """Whether classes are to count the same whatever their size, so that balanced accuracy chooses the weights."""
        return self.balance != "none" or self.loss == "logit-adjusted"


BOUNDS = (
    ("epochs", 1, 100_000), ("batch_size", 1, 1_000_000), ("image_size", 16, 4096), ("lr", 1e-9, 1e3),
    ("seed", 0, 2**31 - 1), ("decay_factor", 1e-6, 1.0), ("weight_decay", 0.0, 10.0), ("label_smoothing", 0.0, 0.9),
    ("erasing", 0.0, 1.0), ("crop_area", 0.05, 1.0), ("flip", 0.0, 1.0), ("drop_path", 0.0, 0.9),
    ("dropout", 0.0, 0.9), ("clip_norm", 0.0, 1e6), ("threads", 1, 1024),
    ("decay_power", 0.1, 10.0), ("accumulate", 1, 1024), ("sam_rho", 0.0, 10.0), ("ema", 0.0, 0.99999),
    ("patience", 0, 100_000), ("layer_decay", 0.01, 1.0), ("start_size", 0, 4096), ("distill_temperature", 0.1, 100.0),
    ("distill_weight", 0.01, 1.0),
    ("rotate", 0.0, 180.0), ("color_jitter", 0.0, 1.0), ("pca_noise", 0.0, 1.0), ("crop_padding", 0, 1024),
    ("mixup", 0.0, 10.0), ("cutmix", 0.0, 10.0), ("cutout", 0.0, 1.0), ("gridmask", 0.0, 1.0),
    ("hide_and_seek", 0.0, 1.0), ("focal_gamma", 0.01, 10.0), ("ohem_share", 0.01, 0.99),
)
"""Inclusive range of each numeric field."""


def check_bounds(values: Mapping[str, Any]) -> None:
    """`UserError` for the first numeric field of `values` that is out of its range."""
    for name, low, high in BOUNDS:
        if name in values and not low <= values[name] <= high:
            raise UserError(f"--{name.replace('_', '-')} {values[name]}: expected a value from {low} to {high}.")


@dataclass(frozen=True)
class Resolved:
    """A recipe and the reason for each of its values."""

    recipe: Recipe
    why: dict[str, str]

    def replace(self, why: str, **values: Any) -> "Resolved":
        """The same with some values changed, all for one reason."""
        recipe = Recipe(**{f.name: values.get(f.name, getattr(self.recipe, f.name)) for f in fields(Recipe)})
        return Resolved(recipe, self.why | dict.fromkeys(values, why))

    def to_json(self) -> dict[str, dict[str, Any]]:
        """`{field: {"value": ..., "why": ...}}`, the content of recipe.json."""
        return {f.name: {"value": getattr(self.recipe, f.name), "why": self.why[f.name]} for f in fields(Recipe)}

    @staticmethod
    def from_json(content: dict[str, dict[str, Any]]) -> "Resolved":
        """What `to_json` wrote; `UserError` when a field is missing or unknown (another version's run)."""
        names = {f.name for f in fields(Recipe)}
        if names != set(content):
            raise UserError(f"recipe.json has other fields than this version: {sorted(names ^ set(content))}. "
                            "Continue the run with the version that started it, or train again.")
        types = get_type_hints(Recipe)
        return Resolved(Recipe(**{name: _of_type(content[name]["value"], types[name]) for name in names}),
                        {name: checked.text(content[name]["why"]) for name in names})


def _of_type(value: Any, expected: Any) -> Any:
    """The value of a recipe field, if it is of the field's type; else `ValueError`."""
    if expected is bool:
        right = isinstance(value, bool)
    elif expected is float:
        return checked.number(value) if isinstance(value, float) else checked.whole(value, -10**15, 10**15)
    elif expected is int:
        return checked.whole(value, -10**15, 10**15)
    elif expected is str:
        return checked.text(value)
    else:
        right = isinstance(value, str) and value in get_args(expected)
    if not right:
        wanted = "true or false" if expected is bool else f"one of {', '.join(get_args(expected))}"
        raise ValueError(f"expected {wanted}, seen {checked.seen(value)}")
    return value


def given_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Recipe fields set by hand, read from a file; `ValueError` that names a key that is none, or a wrong value."""
    types, found = get_type_hints(Recipe), {}
    for key, value in content.items():
        if checked.name(key) not in types:
            near = difflib.get_close_matches(key[:50], types, 1, 0)
            raise ValueError(f"expected settings of a recipe, such as {near[0]}, seen {checked.seen(key)}")
        usual = (key in MEASURED and value == "auto") or (key == "lr" and value == "find")
        try:
            found[key] = value if usual else _of_type(value, types[key])
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
        if isinstance(value, str) and "\0" in value:
            raise ValueError(f"{key}: expected a text without zero bytes, seen {checked.seen(value)}")
    return found


def field_docs(cls: type) -> dict[str, str]:
    """The docstring below each field of a dataclass, as one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
    return {field.target.id: " ".join(doc.value.value.split()) for field, doc in pairwise(body)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            and isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant) and isinstance(doc.value.value, str)}


DURATIONS = ("warmup", "decay_at")
"""Fields that hold a duration, or several with commas between."""


def duration_steps(text: str, *, steps_per_epoch: SupportsFloat, total_steps: int, name: str = "") -> int:
    """Steps of a duration written as '10%', '2 epochs' or '500 steps'. The only place where durations are converted.

    `name`: the recipe's field that holds it, for errors.

    >>> duration_steps("10%", steps_per_epoch=7, total_steps=70)
    7
    """
    number, unit = _duration(text, name)
    steps = round(number * {"%": total_steps / 100, "epochs": float(steps_per_epoch), "steps": 1.0}[unit])
    if not 0 <= steps <= total_steps:
        raise UserError(f"{_flag(name)}duration {text!r} is {steps} steps: expected 0 to {total_steps}, the length of "
                        "the run.")
    return steps


def check_durations(given: Mapping[str, Any]) -> None:
    """What can be told of durations before the data is read: `UserError` for a malformed one, and for one in epochs or
    percent that is longer than the run. How many steps a run has is known later."""
    for name in DURATIONS:
        for text in str(given.get(name, "")).split(","):
            if not text.strip() and (name != "warmup" or name not in given):
                continue
            number, unit = _duration(text, name)
            most = {"%": 100, "epochs": given.get("epochs", math.inf), "steps": math.inf}[unit]
            if not 0 <= number <= most:
                length = "the length of the run" + (f" (--epochs {most})" if unit == "epochs" else "")
                raise UserError(f"{_flag(name)}duration {text!r}: expected 0 or more, and at most {length}.")


def _duration(text: str, name: str) -> tuple[float, str]:
    """(number, unit: %, epochs or steps)."""
    number = text.strip().rstrip("%abcdefghijklmnopqrstuvwxyz ")
    unit = text.strip()[len(number):].strip()
    units = {"%": "%", "epochs": "epochs", "epoch": "epochs", "steps": "steps", "step": "steps"}
    try:
        if unit in units and math.isfinite(float(number)):
            return float(number), units[unit]
    except ValueError:
        pass
    raise UserError(f"{_flag(name)}duration {text!r}: expected a number with %, epochs or steps, as in '10%', "
                    "'2 epochs' or '500 steps'.")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}: " if name else ""


def interpolate(n: int, anchors: tuple[tuple[float, float], ...]) -> float:
    """Value at `n` between anchors (n, value), linear in log n and log value, constant outside them."""
    if n <= anchors[0][0]:
        return anchors[0][1]
    for (n0, v0), (n1, v1) in pairwise(anchors):
        if n <= n1:
            share = math.log(n / n0) / math.log(n1 / n0)
            return v0 * (v1 / v0) ** share
    return anchors[-1][1]
