"""Linear probe: logistic regression on frozen features. First result in seconds, initial head, and
floor of the run.

On small data it matches what fine-tuning reaches in minutes (tests/bench/RESULTS.md), and
fine-tuning that starts from a random head can end below it (Kumar et al., "Fine-tuning can distort
pretrained features", ICLR 2022).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from finetune.data.loader import PictureSource, evaluation_batches
from finetune.data.picture_columns import Picture
from finetune.evaluation.passes import PRECISIONS, extract, sample
from finetune.machine import distributed
from zoo.host import console
from zoo.host.errors import UserError
from zoo.network.forward import features, set_head

PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.001)
"""L2 penalties tried, strongest first; each fit starts from the one before."""
FOLDS = 3
MOST_PICTURES = 20_000
"""Pictures the probe learns from at most; more hardly move a linear classifier."""
MANY_CLASSES = 100
"""Above this, the penalty is chosen on one fold: a fit takes long."""
LEAST_SPREAD = 1e-5
"""Of features over their largest value: equal pictures in batches of different sizes differ by
about 1e-6 (float32), real pictures by more than 0.01."""


@dataclass(frozen=True)
class Probe:
    """A fitted linear classifier: logits = features @ weight.T + bias."""

    weight: torch.Tensor
    """float32 [classes, dim]."""
    bias: torch.Tensor
    """float32 [classes]."""
    penalty: float
    """L2 penalty on the weights of scaled features, chosen by cross-validation."""


@torch.no_grad()
def faster_precision(model: nn.Module, size: int) -> str:
    """bf16 if it computes the features of a batch at least 1.3 times as fast as fp32 on this
    machine, else fp32."""
    device = next(model.parameters()).device
    x_BCHW = torch.rand(16, 3, size, size, device=device).contiguous(
        memory_format=torch.channels_last
    )
    model.eval()
    seconds = dict.fromkeys(PRECISIONS, math.inf)
    for name in (*PRECISIONS, *PRECISIONS, *PRECISIONS):
        start = perf_counter()
        with torch.autocast(device.type, PRECISIONS[name], enabled=name != "fp32"):
            # item() waits for the device, which still computes when the call has returned
            features(model, x_BCHW).float().sum().item()
        seconds[name] = min(seconds[name], perf_counter() - start)
    return "bf16" if seconds["fp32"] > 1.3 * seconds["bf16"] else "fp32"


def fit_head(
    model: nn.Module,
    pictures: Sequence[Picture],
    source: PictureSource,
    *,
    classes: int,
    precision: str,
) -> Probe:
    """Fit a probe to at most `MOST_PICTURES` of the pictures, and put it into the model's head."""
    chosen = sample(pictures, MOST_PICTURES)
    x_ND, labels = extract(
        model,
        evaluation_batches(distributed.mine(chosen), source),
        source.pre,
        total=len(chosen),
        precision=precision,
    )
    device = next(model.parameters()).device
    fitted = fit(x_ND.to(device), labels.to(device), classes)
    # rank 0's fit in all processes, whatever their devices round
    set_head(model, distributed.copy_first(fitted.weight), distributed.copy_first(fitted.bias))
    return fitted


def fit(x_ND: torch.Tensor, labels: torch.Tensor, classes: int) -> Probe:
    """Multinomial logistic regression with the L2 penalty that has the lowest loss in stratified
    cross-validation.

    Features are centred and scaled for the fit. Raises `UserError` if the features of all pictures
    are the same, or are not finite: then no classifier can be fitted.
    """
    mean = x_ND.mean(0)
    # one scale for all features: dividing each by its own spread gives rare features huge raw
    # weights, from which fine-tuning diverges (digits, AdamW 1e-3: first epoch's loss 6.0)
    scale = (x_ND - mean).square().mean().sqrt()
    check_spread(scale.item(), x_ND.abs().max().item())
    z_ND = (x_ND - mean) / scale
    best = int(penalty_losses(z_ND, labels, classes).argmin())
    start = None
    # down the same path as in the folds, where each fit began at the one before
    for penalty in PENALTIES[: best + 1]:
        start = fit_logistic(z_ND, labels, classes, penalty, start)
    assert start is not None
    # folded back, so that the head applies to raw features
    weight = start[0] / scale
    return Probe(weight, start[1] - weight @ mean, PENALTIES[best])


def penalty_losses(z_ND: torch.Tensor, labels: torch.Tensor, classes: int) -> np.ndarray:
    """Sum of the held-out losses of each of `PENALTIES` over the folds: [penalties]."""
    losses = np.zeros(len(PENALTIES))
    tried = FOLDS if classes <= MANY_CLASSES else 1
    with console.bar("linear probe", FOLDS * len(PENALTIES)) as advance:
        for train, held_out in folds(labels)[:tried]:
            start = None
            for i, penalty in enumerate(PENALTIES):
                start = fit_logistic(z_ND[train], labels[train], classes, penalty, start)
                logits = z_ND[held_out] @ start[0].T + start[1]
                losses[i] += cross_entropy(logits, labels[held_out]).item()
                advance(1)
    return losses


def check_spread(spread: float, largest: float) -> None:
    """`UserError` unless features differ between pictures; `largest`: of their absolute values."""
    if not math.isfinite(spread):
        raise UserError(
            "the base gives features that are not finite for these pictures: choose another "
            "--base, or train without the linear probe by --probe off."
        )
    if spread <= LEAST_SPREAD * largest:
        raise UserError(
            "all training pictures look the same to the base: expected pictures that differ. "
            "Transparent ground is shown white, so white drawings on it vanish: save them on "
            "another ground. Also check that the pictures are not all black, white or copies of "
            "each other."
        )


def folds(labels: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(train, held out) masks of each fold, stratified: the k-th picture of class c is held out in
    fold (k + c) % 3."""
    fold = torch.empty_like(labels)
    for c in labels.unique():
        # the shift by c spreads classes of a single picture over the folds
        fold[labels == c] = (
            torch.arange(int((labels == c).sum()), device=labels.device) + c
        ) % FOLDS
    masks = [(fold != i, fold == i) for i in range(FOLDS)]
    # of a few pictures, a fold may be empty
    return [(train, held_out) for train, held_out in masks if train.any() and held_out.any()]


Linear = tuple[torch.Tensor, torch.Tensor]
"""weight [classes, dim], bias [classes]"""


def fit_logistic(
    x_ND: torch.Tensor, labels: torch.Tensor, classes: int, penalty: float, start: Linear | None
) -> Linear:
    """Minimise mean cross-entropy + penalty / 2 * |weight|^2 by L-BFGS, from `start` or zero."""
    if start:
        weight, bias = start[0].clone(), start[1].clone()
    else:
        weight = torch.zeros(classes, x_ND.shape[1], device=x_ND.device)
        bias = torch.zeros(classes, device=x_ND.device)
    weight.requires_grad_(), bias.requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=60,
        history_size=10,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-5,
        tolerance_change=1e-7,
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(x_ND @ weight.T + bias, labels) + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    return weight.detach(), bias.detach()
