"""Losses against their papers' formulas on small tensors, and against another library's where there
is one."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy, compute_class_weights
from torch.nn.functional import cross_entropy, kl_div, one_hot
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import sigmoid_focal_loss

from finetune.train.losses import (
    EFFECTIVE_BETA,
    class_weights,
    disagreement,
    focal,
    hardest,
    loss_function,
)
from tests.made_recipe import made_recipe

COUNTS = torch.tensor([600, 30, 3])
LABELS = torch.tensor([0, 2, 1, 0, 0, 1, 2])
ALL_LABELS = torch.arange(3).repeat_interleave(COUNTS)
"""The label of each training picture."""


@pytest.fixture
def logits() -> torch.Tensor:
    return 3 * torch.randn(
        len(LABELS), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )


@pytest.mark.parametrize("balance", ["none", "resample", "sqrt-resample"])
def test_cross_entropy_is_torchs_to_the_bit(logits: torch.Tensor, balance: str) -> None:
    loss = loss_function(made_recipe(label_smoothing=0.1, balance=balance), COUNTS)
    assert torch.equal(
        loss(logits.float(), LABELS), cross_entropy(logits.float(), LABELS, label_smoothing=0.1)
    )
    assert loss(logits, LABELS).item() == pytest.approx(
        LabelSmoothingCrossEntropy(0.1)(logits, LABELS).item()
    )


def test_cross_entropy_of_probabilities(logits: torch.Tensor) -> None:
    targets = torch.rand(
        len(LABELS), 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    ).softmax(1)
    loss = loss_function(made_recipe(label_smoothing=0.0), COUNTS)
    assert loss(logits, targets).item() == pytest.approx(
        SoftTargetCrossEntropy()(logits, targets).item()
    )


def test_focal_is_the_papers(logits: torch.Tensor) -> None:
    loss = loss_function(made_recipe(loss="focal", focal_gamma=1.5, label_smoothing=0.0), COUNTS)
    expected = 0.0
    for row, label in zip(logits.tolist(), LABELS.tolist(), strict=True):
        p = math.exp(row[label]) / sum(map(math.exp, row))
        expected += (1 - p) ** 1.5 * -math.log(p) / len(LABELS)
    assert loss(logits, LABELS).item() == pytest.approx(expected)
    assert focal(logits, LABELS, 0.0).item() == pytest.approx(cross_entropy(logits, LABELS).item())


def test_focal_of_two_classes_is_torchvisions_sigmoid_focal_loss() -> None:
    """The softmax of (0, z) is the sigmoid of z."""
    z = torch.linspace(-6, 6, 13, dtype=torch.float64, requires_grad=True)
    labels = torch.arange(13) % 2
    theirs = sigmoid_focal_loss(z, labels.double(), alpha=-1, gamma=2, reduction="mean")
    ours = focal(torch.stack([torch.zeros_like(z), z], 1), labels, 2.0)
    assert ours.item() == pytest.approx(theirs.item())
    gradients = [torch.autograd.grad(value, z, retain_graph=True)[0] for value in (ours, theirs)]
    assert torch.allclose(*gradients)


def test_focal_of_a_sure_answer_has_finite_gradients() -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    focal(logits, torch.tensor([0, 0]), 0.5).backward()
    assert torch.isfinite(logits.grad).all()


def test_disagreement_is_augmixs_jensen_shannon_divergence() -> None:
    """By the published code: kl_div(log mean, p) of each view, by the batch's mean, over three."""
    logits_BVC = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(3))
    p = logits_BVC.softmax(2)
    log_mean = p.mean(1).clamp(1e-7, 1).log()
    published = sum(kl_div(log_mean, p[:, view], reduction="batchmean") for view in range(3)) / 3
    assert torch.allclose(disagreement(logits_BVC), torch.as_tensor(published))
    assert disagreement(logits_BVC[:, :1].expand(-1, 3, -1)).abs() < 1e-6
    # answers that are sure of different classes: ln 3, with finite gradients
    sure = (100 * torch.eye(3)[None]).requires_grad_()
    disagreement(sure).backward()
    assert disagreement(sure).item() == pytest.approx(math.log(3), rel=1e-4)
    assert sure.grad is not None
    assert sure.grad.isfinite().all()


def test_ohem_is_the_mean_of_the_hardest(logits: torch.Tensor) -> None:
    each = cross_entropy(logits, LABELS, reduction="none", label_smoothing=0.1)
    loss = loss_function(made_recipe(loss="ohem", ohem_share=0.4, label_smoothing=0.1), COUNTS)
    assert loss(logits, LABELS).item() == pytest.approx(sum(sorted(each.tolist())[-3:]) / 3)
    assert hardest(each, 0.01).item() == each.max().item()  # one picture at least
    logits.requires_grad_()
    loss(logits, LABELS).backward()
    assert (logits.grad != 0).any(1).sum() == 3  # the easy ones teach nothing


def test_logit_adjusted_is_equation_10_of_the_paper(logits: torch.Tensor) -> None:
    """log(1 + sum over y' != y of pi_y' / pi_y * exp(f_y' - f_y))"""
    loss = loss_function(made_recipe(loss="logit-adjusted", label_smoothing=0.0), COUNTS)
    expected = 0.0
    for row, y in zip(logits.tolist(), LABELS.tolist(), strict=True):
        others = sum(
            int(COUNTS[o]) / int(COUNTS[y]) * math.exp(row[o] - row[y]) for o in range(3) if o != y
        )
        expected += math.log(1 + others) / len(LABELS)
    assert loss(logits, LABELS).item() == pytest.approx(expected, rel=1e-6)


def test_weights_are_scikit_learns_balanced_ones() -> None:
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=ALL_LABELS.numpy())
    assert class_weights("weights", COUNTS).tolist() == pytest.approx(theirs.tolist())


def test_effective_weights_are_timms_apart_from_their_scale() -> None:
    _, theirs = compute_class_weights(
        COUNTS, int(COUNTS.sum()), "effective_num", beta=EFFECTIVE_BETA
    )
    ours = class_weights("effective", COUNTS)
    assert (ours / ours.mean()).tolist() == pytest.approx(theirs.tolist(), rel=1e-5)
    n, beta = COUNTS.double(), EFFECTIVE_BETA
    assert (ours * (1 - beta**n)).tolist() == pytest.approx(
        [(ours * (1 - beta**n)).mean().item()] * 3
    )


@pytest.mark.parametrize("balance", ["weights", "effective"])
def test_weights_are_one_on_average_and_for_equal_classes(balance: str) -> None:
    assert class_weights(balance, COUNTS)[ALL_LABELS].mean().item() == pytest.approx(1)
    assert class_weights(balance, torch.tensor([7, 7])).tolist() == pytest.approx([1, 1])
    assert class_weights("resample", COUNTS) is None


def test_weighted_losses_multiply_each_picture(logits: torch.Tensor) -> None:
    w = class_weights("weights", COUNTS).double()
    each = cross_entropy(logits, LABELS, reduction="none")
    plain = {"balance": "weights", "label_smoothing": 0.0}
    got = loss_function(made_recipe(**plain), COUNTS)(logits.float(), LABELS)
    assert got.item() == pytest.approx((w[LABELS] * each).mean().item(), rel=1e-5)
    p = logits.softmax(1)[range(len(LABELS)), LABELS]
    got = loss_function(made_recipe(loss="focal", focal_gamma=2.0, **plain), COUNTS)(
        logits.float(), LABELS
    )
    assert got.item() == pytest.approx((w[LABELS] * (1 - p) ** 2 * each).mean().item(), rel=1e-5)
    got = loss_function(made_recipe(loss="ohem", ohem_share=0.3, **plain), COUNTS)(
        logits.float(), LABELS
    )
    assert got.item() == pytest.approx((w[LABELS] * each).topk(2).values.mean().item(), rel=1e-5)


def test_weighted_cross_entropy_of_mixed_labels_is_the_mixture_of_both(
    logits: torch.Tensor,
) -> None:
    loss = loss_function(made_recipe(balance="weights", label_smoothing=0.0), COUNTS)
    other, x = LABELS.roll(1), logits.float()
    mixed = 0.7 * one_hot(LABELS, 3) + 0.3 * one_hot(other, 3)
    assert loss(x, mixed).item() == pytest.approx(
        0.7 * loss(x, LABELS).item() + 0.3 * loss(x, other).item(), rel=1e-5
    )


@pytest.mark.parametrize("balance", ["none", "weights", "effective"])
@pytest.mark.parametrize("loss", ["cross-entropy", "focal", "logit-adjusted"])
def test_parts_of_a_batch_add_up_to_the_whole(
    logits: torch.Tensor, loss: str, balance: str
) -> None:
    """What gradient accumulation relies on."""
    f = loss_function(made_recipe(loss=loss, balance=balance), COUNTS)
    x = logits.float()
    parts = f(x[:4], LABELS[:4]) * 4 / 7 + f(x[4:], LABELS[4:]) * 3 / 7
    assert parts.item() == pytest.approx(f(x, LABELS).item(), rel=1e-5)


class NoFloat64(TorchDispatchMode):
    """What Apple's GPUs do, on the meta device: a tensor of float64 cannot be."""

    def __torch_dispatch__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **kwargs or {})
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if (
                isinstance(tensor, torch.Tensor)
                and tensor.is_meta
                and tensor.dtype == torch.float64
            ):
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return result


@pytest.mark.parametrize("loss", ["cross-entropy", "focal", "ohem", "logit-adjusted"])
@pytest.mark.parametrize("balance", ["none", "weights", "effective", "resample"])
def test_no_float64_reaches_a_device_that_has_none(loss: str, balance: str) -> None:
    recipe = made_recipe(loss=loss, balance=balance, label_smoothing=0.0)
    logits_BC = torch.zeros(4, 3, device="meta", requires_grad=True)
    labels_B = torch.zeros(4, dtype=torch.int64, device="meta")
    with NoFloat64():
        value = loss_function(recipe, torch.tensor([100, 10, 1]), "meta")(logits_BC, labels_B)
        value.backward()
    assert value.is_meta
    assert value.dtype == torch.float32
