"""What training minimises: one function of logits and targets, with what it needs of the class
counts inside.

Cross-entropy is the plain mean over the batch. Class weights are scaled to a mean of 1 over the
training pictures, and the batch's mean is not divided by the weights in it: the rate keeps its
meaning, and accumulated batches add up to the large one.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch.nn.functional import cross_entropy, kl_div

from finetune.recipe.fields import Recipe

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits [B, C], labels int64 [B] or probabilities float [B, C]) -> scalar. Focal and ohem take
labels only."""
EFFECTIVE_BETA = 0.999
"""Cui et al., 2019: of their 0.9, 0.99, 0.999 and 0.9999, the one for classes of up to some
thousand pictures."""


def loss_function(
    recipe: Recipe, counts_C: torch.Tensor, device: torch.device | str = "cpu"
) -> Loss:
    """The loss of a recipe for logits on `device`; `counts_C`: training pictures of each class,
    each at least 1, on the CPU.

        cross-entropy    -log p_y, with label smoothing; also of probabilities that mixup or cutmix
                         made
        focal            (1 - p_y)^gamma * -log p_y, without smoothing (Lin et al., 2017, for a
                         softmax)
        ohem             cross-entropy of the batch's hardest pictures alone, at least one
                         (Shrivastava et al., 2016)
        logit-adjusted   cross-entropy of logits + log prior (Menon et al., 2021, tau = 1)

    Balance weights and effective multiply a picture's loss by its class's weight (`class_weights`).
    """
    smoothing = recipe.label_smoothing
    if recipe.loss == "logit-adjusted":
        log_prior_C = (counts_C / counts_C.sum()).log().to(device)
        return lambda logits_BC, targets: cross_entropy(
            logits_BC + log_prior_C, targets, label_smoothing=smoothing
        )
    weights_C = class_weights(recipe.balance, counts_C, device)
    if recipe.loss == "focal":
        return lambda logits_BC, labels_B: focal(logits_BC, labels_B, recipe.focal_gamma, weights_C)
    by_picture = partial(
        cross_entropy, weight=weights_C, label_smoothing=smoothing, reduction="none"
    )
    if recipe.loss == "ohem":
        return lambda logits_BC, labels_B: hardest(
            by_picture(logits_BC, labels_B), recipe.ohem_share
        )
    if weights_C is None:
        return partial(cross_entropy, label_smoothing=smoothing)
    # not reduction="mean", which divides by the weights in the batch
    return lambda logits_BC, targets: by_picture(logits_BC, targets).mean()


def class_weights(
    balance: str, counts_C: torch.Tensor, device: torch.device | str = "cpu"
) -> torch.Tensor | None:
    """float32 [C] on `device`, with a mean of 1 over the training pictures; None where balance is
    no weighting.

    weights: 1 / n. effective: (1 - beta) / (1 - beta^n), beta 0.999 (Cui et al., 2019,
    "Class-Balanced Loss Based on Effective Number of Samples").
    """
    if balance not in ("weights", "effective"):
        return None
    # on the CPU, as Apple's GPUs have no float64
    n_C = counts_C.cpu().double()
    if balance == "weights":
        weights_C = 1 / n_C
    else:
        weights_C = (1 - EFFECTIVE_BETA) / (1 - EFFECTIVE_BETA**n_C)
    return (weights_C * n_C.sum() / (weights_C * n_C).sum()).float().to(device)


def focal(
    logits_BC: torch.Tensor,
    labels_B: torch.Tensor,
    gamma: float,
    weights_C: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean of w_y * (1 - p_y)^gamma * -log p_y; scalar."""
    log_p_B = logits_BC.log_softmax(1).gather(1, labels_B[:, None])[:, 0]
    # 1 - p; the slope of 0^gamma is infinite below gamma 1
    missing_B = -torch.expm1(log_p_B).clamp(max=-1e-7)
    loss_B = missing_B**gamma * -log_p_B
    if weights_C is not None:
        loss_B = weights_C[labels_B] * loss_B
    return loss_B.mean()


def hardest(loss_B: torch.Tensor, share: float) -> torch.Tensor:
    """Mean of the largest losses: `share` of them, at least one; scalar."""
    return loss_B.topk(max(1, round(share * len(loss_B)))).values.mean()


def disagreement(logits_BVC: torch.Tensor) -> torch.Tensor:
    """Jensen-Shannon divergence of the answers to the views of a picture, the mean over the batch
    in nats; scalar.

    The mean over the views of KL(p of the view, mean of all p), which AugMix adds to the loss
    (Hendrycks et al., 2020, equation 1).
    """
    log_p_BVC = logits_BVC.log_softmax(2)
    # the published code's limit, without which the logarithm of a vanishing share has no gradient
    log_mean_B1C = log_p_BVC.exp().mean(1, keepdim=True).clamp(1e-7, 1).log()
    divergence_BVC = kl_div(log_mean_B1C, log_p_BVC, reduction="none", log_target=True)
    return divergence_BVC.sum(2).mean()
